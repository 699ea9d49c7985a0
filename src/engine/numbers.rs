//! Short numbers for what many hold: a network and an asset, which most watches share.

use std::collections::HashMap;
use std::sync::Arc;

/// Byte strings, each under a number as long as somebody holds it.
#[derive(Debug, Default)]
pub struct Numbers {
    numbers: HashMap<Arc<[u8]>, u32>,
    /// By number: the bytes, and how many hold them.
    held: Vec<(Arc<[u8]>, usize)>,
    free: Vec<u32>,
}

impl Numbers {
    /// How many byte strings are held.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The number of what somebody else holds.
    pub fn get(&self, bytes: &[u8]) -> Option<u32> {
        self.numbers.get(bytes).copied()
    }

    /// What is held under a number.
    pub fn at(&self, number: u32) -> Option<&[u8]> {
        let (bytes, count) = self.held.get(usize::try_from(number).ok()?)?;
        (*count > 0).then_some(bytes)
    }

    /// The number of what one more holds.
    pub fn take(&mut self, bytes: &[u8]) -> u32 {
        if let Some(number) = self.get(bytes) {
            if let Some((_, count)) = self.place(number) {
                *count += 1;
            }
            return number;
        }
        let bytes: Arc<[u8]> = bytes.into();
        let next = u32::try_from(self.held.len()).expect("each takes some 100 bytes: memory ends before numbers do");
        let number = self.free.pop().unwrap_or(next);
        self.numbers.insert(Arc::clone(&bytes), number);
        match self.place(number) {
            Some(place) => *place = (bytes, 1),
            None => self.held.push((bytes, 1)),
        }
        number
    }

    /// Somebody holds what stands under a number no more.
    pub fn release(&mut self, number: u32) {
        let Some((bytes, count)) = self.place(number) else { return };
        let was_last = *count == 1;
        *count = count.saturating_sub(1);
        if was_last {
            let bytes = std::mem::take(bytes);
            self.numbers.remove(&bytes);
            self.free.push(number);
        }
    }

    fn place(&mut self, number: u32) -> Option<&mut (Arc<[u8]>, usize)> {
        self.held.get_mut(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_free_when_nobody_holds_it() {
        let mut numbers = Numbers::default();
        let (a, b) = (numbers.take(b"a"), numbers.take(b"b"));
        assert_eq!((a, b, numbers.take(b"a")), (0, 1, 0));
        assert_eq!((numbers.at(a), numbers.get(b"b")), (Some(&b"a"[..]), Some(b)));
        numbers.release(a);
        assert_eq!(numbers.at(a), Some(&b"a"[..]), "one holds it still");
        numbers.release(a);
        assert_eq!((numbers.at(a), numbers.get(b"a")), (None, None));
        // Nobody holds it: there is nothing to release.
        numbers.release(a);
        assert_eq!((numbers.take(b""), numbers.take(b"d")), (a, 2), "numbers are used again");
        assert_eq!(numbers.len(), 3);
        assert_eq!(numbers.at(a), Some(&b""[..]));
    }
}
