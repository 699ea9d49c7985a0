//! Byte strings by ordinals, side by side in pages: each by itself would take half as much again, for its place in a tree, a
//! pointer, and what the allocator rounds up to.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::network::Ordinal;

/// Bytes of a page, unless a single string takes more: what is moved when one changes, and a size that allocators have.
const PAGE: usize = 4096;
/// Bytes that a page may have to spare when it is not filled from its end.
const SPARE: usize = 256;

/// Byte strings, in the order of their ordinals.
#[derive(Default)]
pub(crate) struct Pages {
    /// By an ordinal that is not above those in the page, and above those in the page before.
    pages: BTreeMap<Ordinal, Page>,
}

impl Pages {
    /// One of the strings.
    pub(crate) fn get(&self, ordinal: Ordinal) -> Option<&[u8]> {
        let (first, page) = self.pages.range(..=ordinal).next_back()?;
        let place = page.find(ordinal - first).ok()?;
        page.0.get(place.string)
    }

    /// Puts one in, in place of the one that was there.
    pub(crate) fn put(&mut self, ordinal: Ordinal, string: &[u8]) {
        let Some((&last, _)) = self.pages.last_key_value() else { return self.begin(ordinal, string) };
        let Some((&first, page)) = self.pages.range_mut(..=ordinal).next_back() else {
            return self.begin(ordinal, string);
        };
        let at = page.find(ordinal - first).map_or_else(|end| end..end, |place| place.whole);
        let entry = entry(ordinal - first, string);
        let fits = page.0.len() - at.len() + entry.len() <= PAGE;
        if !fits && first == last && at.start == page.0.len() {
            page.fit();
            return self.begin(ordinal, string);
        }
        page.replace(at, &entry);
        if !fits {
            self.split(first);
        }
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, ordinal: Ordinal) {
        let Some((&first, page)) = self.pages.range_mut(..=ordinal).next_back() else { return };
        let Ok(place) = page.find(ordinal - first) else { return };
        page.replace(place.whole, &[]);
        page.fit();
        if page.0.is_empty() {
            self.pages.remove(&first);
        }
    }

    /// A page to be filled from its end.
    fn begin(&mut self, first: Ordinal, string: &[u8]) {
        let mut page = Page(Vec::with_capacity(PAGE));
        page.replace(0..0, &entry(0, string));
        self.pages.insert(first, page);
    }

    /// Moves the second half of a page to one of its own; a string that takes more than a page stays by itself.
    fn split(&mut self, first: Ordinal) {
        let Some(page) = self.pages.get_mut(&first) else { return };
        let half = page.0.len() / 2;
        let middle = page.places().find(|place| place.whole.start >= half).or_else(|| page.places().last());
        let Some(middle) = middle.filter(|place| place.whole.start > 0) else { return };
        let mut second = Page::default();
        for place in page.places().skip_while(|place| place.above < middle.above) {
            let end = second.0.len();
            second.replace(end..end, &entry(place.above - middle.above, &page.0[place.string]));
        }
        page.0.truncate(middle.whole.start);
        page.fit();
        second.fit();
        self.pages.insert(first + middle.above, second);
    }
}

/// Entries one after the other, by their ordinals.
#[derive(Default)]
struct Page(Vec<u8>);

/// Where an entry stands in its page.
struct Place {
    /// How far its ordinal lies above the page's.
    above: u64,
    /// All of it.
    whole: Range<usize>,
    /// The string in it.
    string: Range<usize>,
}

impl Page {
    fn places(&self) -> impl Iterator<Item = Place> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let left = self.0.get(next..).filter(|left| !left.is_empty())?;
            let ((above, len), rest): ((u64, usize), _) =
                postcard::take_from_bytes(left).expect("an entry, as written");
            let (start, string) = (next, self.0.len() - rest.len());
            next = string + len;
            Some(Place { above, whole: start..next, string: string..next })
        })
    }

    /// Where the entry stands that lies so far above; where it belongs, if there is none.
    fn find(&self, above: u64) -> Result<Place, usize> {
        match self.places().find(|place| place.above >= above) {
            Some(place) if place.above == above => Ok(place),
            Some(next) => Err(next.whole.start),
            None => Err(self.0.len()),
        }
    }

    fn replace(&mut self, at: Range<usize>, entry: &[u8]) {
        let more = entry.len().saturating_sub(at.len());
        if self.0.capacity() - self.0.len() < more {
            self.0.reserve_exact(more + SPARE);
        }
        self.0.splice(at, entry.iter().copied());
    }

    fn fit(&mut self) {
        if self.0.capacity() - self.0.len() > SPARE {
            self.0.shrink_to_fit();
        }
    }
}

/// How far its ordinal lies above the page's, its length, the string.
fn entry(above: u64, string: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(string.len() + 8);
    entry = postcard::to_extend(&(above, string.len()), entry).expect("a vector takes all that is written");
    entry.extend_from_slice(string);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of lengths from none to more than a page.
    fn string(n: u64) -> Vec<u8> {
        let len = if n.is_multiple_of(97) { 5_000 } else { n.wrapping_mul(7_919) % 700 };
        vec![n.to_le_bytes()[0]; usize::try_from(len).expect("short")]
    }

    #[test]
    fn pages_hold_what_a_map_holds() {
        let (mut pages, mut model) = (Pages::default(), BTreeMap::new());
        let mut random = 1_u64;
        for step in 0..40_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let some = (random >> 33) % 1_000;
            match random >> 60 {
                // New ones come at the end, and now and then anywhere.
                0..=5 => {
                    pages.put(step, &string(random >> 20));
                    model.insert(step, string(random >> 20));
                }
                6..=10 => {
                    let changed = (step / 2).saturating_sub(some);
                    pages.put(changed, &string(random >> 20));
                    model.insert(changed, string(random >> 20));
                }
                _ => {
                    let gone = (step / 2).saturating_sub(some);
                    pages.remove(gone);
                    model.remove(&gone);
                }
            }
            let looked_at = (random >> 40) % (step + 1);
            assert_eq!(pages.get(looked_at), model.get(&looked_at).map(Vec::as_slice), "step {step}");
        }
        for (ordinal, string) in &model {
            assert_eq!(pages.get(*ordinal), Some(string.as_slice()));
        }
        let longest = pages.pages.values().filter(|page| page.places().count() > 1).map(|page| page.0.len()).max();
        assert!(longest <= Some(PAGE + 5_000), "{longest:?}");
        for ordinal in model.keys() {
            pages.remove(*ordinal);
        }
        assert!(pages.pages.is_empty());
    }

    #[test]
    fn what_is_written_in_order_leaves_no_room() {
        let mut pages = Pages::default();
        for ordinal in 0..10_000 {
            pages.put(ordinal, &[7; 180]);
        }
        let taken: usize = pages.pages.values().map(|page| page.0.capacity()).sum();
        assert!(taken < 10_000 * 190, "{taken}");
    }

    #[test]
    fn a_page_that_empties_gives_its_room_back() {
        let mut pages = Pages::default();
        for ordinal in 0..10_000 {
            pages.put(ordinal, &[7; 180]);
        }
        for ordinal in (0..10_000).filter(|ordinal| ordinal % 20 != 7) {
            pages.remove(ordinal);
        }
        let taken: usize = pages.pages.values().map(|page| page.0.capacity()).sum();
        assert!(taken < 500 * 500, "{taken}");
        assert_eq!((pages.get(27), pages.get(28)), (Some(&[7; 180][..]), None));
    }
}
