//! The addresses of a descriptor watch: a window that moves up as they are used.
//!
//! A descriptor derives addresses without end, along branches: 0 to receive, 1 for change. A wallet hands them out in order,
//! so those more than `gap_limit` above the highest used one are not looked for (BIP 44, "address gap limit").

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::changes::Interest;
use crate::id::{Address, AssetId, WatchId};
use crate::input::TxFact;
use crate::network::Network;
use crate::request::{Subject, WatchRequest};
use crate::watch::Watch;
use crate::{Engine, Refused};

/// Derives an address of a descriptor: branch 0 to receive, 1 for change; `None` where there is no such branch or index.
///
/// A pure function that a network's source registers: the same arguments give the same address for ever, or the same facts
/// would not give the same bytes (invariant 4).
pub type Derive = fn(descriptor: &str, branch: u32, index: u32) -> Option<Address>;

/// The largest gap limit that can be asked, addresses.
pub const GAP_LIMIT_MAX: u32 = 1000;

/// Addresses that are derived for one watch; its window moves no further than that (invariant 11).
pub const DERIVED_MAX: usize = 100_000;

/// Receive and change.
const BRANCHES: u32 = 2;
const RECEIVE: u32 = 0;

/// An address, and where its descriptor derives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Derived {
    /// The address.
    pub address: Address,
    /// 0 to receive, 1 for change.
    pub branch: u32,
    /// Its place on the branch.
    pub index: u32,
}

impl Derived {
    /// `branch/index`, as it stands in artefacts and interfaces.
    pub fn path(&self) -> String {
        format!("{}/{}", self.branch, self.index)
    }
}

/// How far one branch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Branch {
    /// The indices below are derived.
    derived: u32,
    /// The highest used index, and one more.
    used: u32,
    /// The indices below were looked up, or are in the look-up that is under way.
    asked: u32,
}

/// The addresses of one watch. What was derived is kept, so that a restart derives nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// In order of the addresses, to be searched.
    derived: Vec<Derived>,
    branches: Vec<Branch>,
    /// The indices to receive at that are used or reserved.
    taken: BTreeSet<u32>,
}

impl Window {
    /// The window of a descriptor that nothing is known of.
    pub fn new(derive: Derive, descriptor: &str, gap_limit: u32) -> Self {
        let branches = (0..BRANCHES).take_while(|branch| derive(descriptor, *branch, 0).is_some());
        let mut window = Self { branches: branches.map(|_| Branch::default()).collect(), ..Self::default() };
        window.grow(derive, descriptor, gap_limit);
        window
    }

    /// Where an address is derived, if it is one of them.
    pub fn find(&self, address: &Address) -> Option<&Derived> {
        let at = self.derived.binary_search_by(|derived| derived.address.cmp(address)).ok()?;
        self.derived.get(at)
    }

    /// Whether an address is for change. A wallet pays itself there, and nobody else does: it may do so from an address that it
    /// used before all those that are watched.
    pub fn is_change(&self, address: &Address) -> bool {
        self.find(address).is_some_and(|derived| derived.branch != RECEIVE)
    }

    /// All of them.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.derived.iter().map(|derived| &derived.address)
    }

    /// Notes that an address was paid; that is never undone. Returns whether that is new.
    fn note_use(&mut self, address: &Address) -> bool {
        let Some(Derived { branch, index, .. }) = self.find(address).cloned() else { return false };
        let newly_taken = branch == RECEIVE && self.taken.insert(index);
        let Some(branch) = self.branches.get_mut(branch as usize) else { return newly_taken };
        let higher = branch.used <= index;
        branch.used = branch.used.max(index + 1);
        newly_taken || higher
    }

    /// Derives until `gap_limit` unused addresses lie above the highest used one of each branch. Returns the new ones.
    fn grow(&mut self, derive: Derive, descriptor: &str, gap_limit: u32) -> Vec<Address> {
        let mut grown = Vec::new();
        for (number, branch) in (0..).zip(&mut self.branches) {
            while branch.derived < branch.used + gap_limit && self.derived.len() < DERIVED_MAX {
                let Some(address) = derive(descriptor, number, branch.derived) else { break };
                grown.push(address.clone());
                self.derived.push(Derived { address, branch: number, index: branch.derived });
                branch.derived += 1;
            }
        }
        self.derived.sort();
        grown
    }

    /// The lowest address to receive at that is neither used nor reserved.
    fn next_free(&self) -> Option<&Derived> {
        let free = (0..self.branches.first()?.derived).find(|index| !self.taken.contains(index))?;
        self.derived.iter().find(|derived| derived.branch == RECEIVE && derived.index == free)
    }

    /// Whether addresses are in no look-up yet.
    pub(crate) fn has_unasked(&self) -> bool {
        self.branches.iter().any(|branch| branch.asked < branch.derived)
    }

    /// Takes the addresses that the next look-up is for.
    pub(crate) fn take_unasked(&mut self) -> Vec<Address> {
        let asked: Vec<_> = self.branches.iter().map(|branch| branch.asked).collect();
        for branch in &mut self.branches {
            branch.asked = branch.derived;
        }
        let unasked = |derived: &&Derived| asked.get(derived.branch as usize).is_some_and(|at| derived.index >= *at);
        self.derived.iter().filter(unasked).map(|derived| derived.address.clone()).collect()
    }

    /// The next look-up is for all addresses.
    pub(crate) fn ask_anew(&mut self) {
        for branch in &mut self.branches {
            branch.asked = 0;
        }
    }
}

/// What a source looks for in each block for an address.
pub(crate) fn recipient(asset: &AssetId, address: &Address) -> Interest {
    Interest::Recipient { asset: asset.clone(), address: address.clone() }
}

/// The window that a request begins with, where its subject is a descriptor.
pub(crate) fn open(request: &WatchRequest, net: &Network) -> Result<Option<Box<Window>>, Refused> {
    let invalid = |field, expected: &str| Err(Refused::Invalid { field, expected: expected.into() });
    let Subject::Descriptor { descriptor, gap_limit } = &request.subject else { return Ok(None) };
    let Some(derive) = net.rules.derive else {
        return invalid("output_descriptor", "another subject: this network has no descriptors");
    };
    if !(1..=GAP_LIMIT_MAX).contains(gap_limit) {
        return Err(Refused::Invalid {
            field: "output_descriptor.gap_limit",
            expected: format!("1 to {GAP_LIMIT_MAX}"),
        });
    }
    let window = Window::new(derive, descriptor, *gap_limit);
    if window.derived.is_empty() {
        return invalid("output_descriptor.text", "a descriptor that addresses can be derived from");
    }
    Ok(Some(Box::new(window)))
}

impl Engine {
    /// The next address of a descriptor watch to receive at: the lowest that is neither used nor reserved. With `reserve`
    /// it is not handed out again.
    ///
    /// # Errors
    /// If the watch is not in memory, is settled, or has no descriptor; or if all addresses of its window are taken.
    pub fn next_address(&mut self, id: &WatchId, reserve: bool) -> Result<Derived, Refused> {
        let ordinal = self.ordinal_of(id).ok_or_else(|| Refused::NotFound(id.clone()))?;
        let watch = self.watches.get_mut(&ordinal).ok_or_else(|| Refused::NotFound(id.clone()))?;
        if watch.outcome.is_some() {
            return Err(Refused::Settled(id.clone()));
        }
        let (Subject::Descriptor { gap_limit, .. }, Some(window)) = (&watch.request.subject, &mut watch.window) else {
            return Err(Refused::Invalid { field: "watch_id", expected: "a watch on a descriptor".into() });
        };
        let exhausted = || Refused::Exhausted { watch: id.clone(), gap_limit: *gap_limit };
        let next = window.next_free().cloned().ok_or_else(exhausted)?;
        if reserve {
            window.taken.insert(next.index);
            self.dirty.insert(ordinal);
        }
        Ok(next)
    }

    /// Moves the window of a descriptor watch up if a transaction pays addresses that were not used before. What was paid
    /// to the new ones may be in the chain already, so they are looked up.
    pub(crate) fn widen(&mut self, ordinal: u64, fact: &TxFact) {
        let Some(watch) = self.watches.get_mut(&ordinal).filter(|watch| watch.outcome.is_none()) else { return };
        let (Subject::Descriptor { descriptor, gap_limit }, Some(window)) = (&watch.request.subject, &mut watch.window)
        else {
            return;
        };
        let Some(net) = self.networks.get_mut(&watch.request.network) else { return };
        let Some(derive) = net.rules.derive else { return };
        let asset = &watch.request.terms.asset;
        let paid: Vec<_> = fact.transfers.iter().filter(|it| it.asset == *asset).map(|it| &it.to).collect();
        let mut opened = Vec::new();
        // One transaction may pay what its own payments made part of the window.
        while paid.iter().filter(|address| window.note_use(address)).count() > 0 {
            self.dirty.insert(ordinal);
            let grown = window.grow(derive, descriptor, *gap_limit);
            opened.extend(grown.iter().filter_map(|address| net.open(recipient(asset, address), ordinal)));
        }
        let (network, due) = (watch.request.network.clone(), !net.look_ups.awaits(ordinal) && window.has_unasked());
        self.out.asks.extend(opened.into_iter().map(|ask| (network.clone(), ask)));
        // One look-up at a time: the answer to the one that is under way asks for the next.
        if due {
            self.ask_look_up(ordinal);
        }
    }
}

impl Watch {
    /// Whether what reaches an address reaches this watch: the one place that tells whom it is paid at.
    pub fn owns(&self, address: &Address) -> bool {
        match &self.window {
            Some(window) => window.find(address).is_some(),
            None => *address == self.request.terms.pay_to,
        }
    }

    /// The addresses that the next look-up is for.
    pub(crate) fn take_unasked(&mut self) -> Vec<Address> {
        match &mut self.window {
            Some(window) => window.take_unasked(),
            None => vec![self.request.terms.pay_to.clone()],
        }
    }
}
