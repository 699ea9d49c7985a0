//! One network as the engine holds it: its chain, and which watch cares for what, and when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::changes::{Ask, FinalityMarks, Interest};
use crate::descriptor::recipient;
use crate::heads::Heads;
use crate::id::{Header, Timestamp, TxId};
use crate::index::{Fingerprint, Index};
use crate::input::TxFact;
use crate::look_ups::{LookUps, LookedUp};
use crate::request::{Depth, Expiry, Report, Subject, Tag};
use crate::rules::NetworkRules;
use crate::watch::Watch;

/// A watch's place in the order of creation.
pub(crate) type Ordinal = u64;

/// One network's chain and indexes.
pub(crate) struct Network {
    pub(crate) rules: NetworkRules,
    pub(crate) heads: Heads,
    pub(crate) marks: FinalityMarks,
    pub(crate) look_ups: LookUps,
    interests: Index,
    /// The watches behind [`Interest::Proofs`], which may be all of them.
    provers: BTreeSet<Ordinal>,
    candidates: Index,
    /// Watches with a candidate in the block at a height.
    pub(crate) by_height: BTreeMap<u64, BTreeSet<Ordinal>>,
    /// Watches to judge again once the head has a height.
    pub(crate) due: BTreeSet<(u64, Ordinal)>,
    /// Watches to judge again once a tag has reached a height.
    pub(crate) tag_waits: TagWaits,
    /// Watches that report every depth and have something included.
    pub(crate) every_depth: BTreeSet<Ordinal>,
    /// Watches by deadline.
    pub(crate) deadlines: BTreeSet<(Timestamp, Ordinal)>,
    /// Watches by the block time from which their authorization is void.
    pub(crate) expiries: BTreeSet<(Timestamp, Ordinal)>,
    /// Settled watches by the end of their late window.
    pub(crate) late_windows: BTreeSet<(Timestamp, Ordinal)>,
}

impl Network {
    pub(crate) fn new(rules: NetworkRules, headers: Vec<Header>, marks: FinalityMarks, looked_up: LookedUp) -> Self {
        Self {
            heads: Heads::new(rules.horizon, headers),
            rules,
            marks,
            look_ups: LookUps::new(looked_up),
            interests: Index::default(),
            provers: BTreeSet::new(),
            candidates: Index::default(),
            by_height: BTreeMap::new(),
            due: BTreeSet::new(),
            tag_waits: TagWaits::default(),
            every_depth: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            expiries: BTreeSet::new(),
            late_windows: BTreeSet::new(),
        }
    }

    /// Moves a finality mark up. Returns whether it moved.
    pub(crate) fn raise_mark(&mut self, tag: Tag, height: u64) -> bool {
        let mark = match tag {
            Tag::Confirmed => &mut self.marks.confirmed,
            Tag::Safe => &mut self.marks.safe,
            Tag::Finalized => &mut self.marks.finalized,
        };
        let moved = mark.is_none_or(|known| known < height);
        if moved {
            *mark = Some(height);
        }
        moved
    }

    /// Takes the marks that a fork may undo down to the fork point: nobody has given a tag to the blocks that come above
    /// it now. Returns whether one moved.
    pub(crate) fn lower_marks(&mut self, fork: u64) -> bool {
        let mut moved = false;
        for mark in [&mut self.marks.confirmed, &mut self.marks.safe].into_iter().flatten() {
            moved |= *mark > fork;
            *mark = fork.min(*mark);
        }
        moved
    }

    /// Notes when a watch has to be judged again.
    pub(crate) fn schedule(&mut self, watch: &Watch) {
        let ordinal = watch.ordinal;
        let head = self.heads.head().map_or(0, |header| header.block.height);
        let horizon = u64::from(self.rules.horizon);
        let due = &mut self.due;
        let mut wait = |height: u64| {
            if height > head {
                due.insert((height, ordinal));
            }
        };
        let mut included = false;
        for candidate in &watch.candidates {
            let Some(block) = candidate.block() else {
                if let Some(left) = &candidate.orphaned_from {
                    wait(left.height + horizon);
                }
                continue;
            };
            included = true;
            wait(block.height + u64::from(candidate.fact.matures.max(1)) - 1);
            match watch.request.terms.depth {
                Depth::Blocks(blocks) => wait(block.height + u64::from(blocks.max(1)) - 1),
                Depth::Tag(_) => self.tag_waits.insert(block.height, ordinal),
            }
            if watch.outcome.is_some() && !watch.finalized {
                wait(block.height + horizon);
                self.tag_waits.insert(block.height, ordinal);
            }
        }
        if included && watch.outcome.is_none() && watch.request.report == Report::EveryDepth {
            self.every_depth.insert(ordinal);
        } else {
            self.every_depth.remove(&ordinal);
        }
    }

    /// How many entries the indexes hold.
    pub(crate) fn index_len(&self) -> usize {
        let by_height: usize = self.by_height.values().map(BTreeSet::len).sum();
        self.interests.len()
            + self.provers.len()
            + self.candidates.len()
            + by_height
            + self.due.len()
            + self.tag_waits.len()
            + self.every_depth.len()
            + self.deadlines.len()
            + self.expiries.len()
            + self.late_windows.len()
            + self.look_ups.len()
    }

    /// Opens an interest for a watch; the source is asked if it is the first.
    pub(crate) fn open(&mut self, interest: Interest, watch: Ordinal) -> Option<Ask> {
        if interest == Interest::Proofs {
            let first = self.provers.is_empty();
            self.provers.insert(watch);
            return first.then_some(Ask::Open(interest));
        }
        self.interests.insert(of_interest(&interest), watch).then_some(Ask::Open(interest))
    }

    /// Closes it; the source is told if it was the last.
    pub(crate) fn close(&mut self, interest: Interest, watch: Ordinal) -> Option<Ask> {
        if interest == Interest::Proofs {
            let last = self.provers.remove(&watch) && self.provers.is_empty();
            return last.then_some(Ask::Close(interest));
        }
        self.interests.remove(of_interest(&interest), watch).then_some(Ask::Close(interest))
    }

    /// Notes that a watch has a candidate, and whether the watch follows one transaction to its end.
    pub(crate) fn add_candidate(&mut self, tx: &TxId, watch: Ordinal, is_one_shot: bool) {
        self.candidates.insert(of_tx(tx), watch);
        if is_one_shot {
            self.candidates.insert(of_followed_tx(tx), watch);
        }
    }

    /// Forgets that. Returns whether no other watch has it.
    pub(crate) fn remove_candidate(&mut self, tx: &TxId, watch: Ordinal) -> bool {
        self.candidates.remove(of_followed_tx(tx), watch);
        self.candidates.remove(of_tx(tx), watch);
        self.candidates.at(of_tx(tx)).next().is_none()
    }

    /// The watches of which a transaction is a candidate, and that follow one transaction to its end, oldest first.
    pub(crate) fn following_tx(&self, tx: &TxId) -> impl Iterator<Item = Ordinal> {
        self.candidates.at(of_followed_tx(tx))
    }

    /// The watches that have an interest open, oldest first.
    pub(crate) fn interested(&self, interest: &Interest) -> Vec<Ordinal> {
        self.interests.at(of_interest(interest)).collect()
    }

    /// The watches that have a transaction as a candidate, or as their subject, oldest first.
    pub(crate) fn watching_tx(&self, tx: &TxId) -> BTreeSet<Ordinal> {
        let subject = self.interests.at(of_interest(&Interest::Tx(tx.clone())));
        self.candidates.at(of_tx(tx)).chain(subject).collect()
    }

    /// The watches that a fact concerns, oldest first.
    pub(crate) fn concerned(&self, fact: &TxFact) -> BTreeSet<Ordinal> {
        let mut found = self.watching_tx(&fact.tx);
        let mut look = |interest: Interest| found.extend(self.interests.at(of_interest(&interest)));
        for transfer in &fact.transfers {
            look(Interest::Recipient { asset: transfer.asset.clone(), address: transfer.to.clone() });
        }
        for used in &fact.authorizations {
            let (authorizer, nonce) = (used.authorizer.clone(), used.nonce.clone());
            look(Interest::Authorization { asset: used.asset.clone(), authorizer, nonce });
        }
        for key in &fact.spends {
            look(Interest::Spend(key.clone()));
        }
        found
    }
}

/// Watches by the lowest height that they wait for a tag to reach. Each is held once: reaching the lowest height it is
/// judged again, and then waits for the next. So the entry of a watch that leaves memory is found, whichever blocks it
/// waited for; a network without tags would keep it for ever.
#[derive(Default)]
pub(crate) struct TagWaits {
    by_height: BTreeSet<(u64, Ordinal)>,
    heights: HashMap<Ordinal, u64>,
}

impl TagWaits {
    /// Notes that a watch waits for a height.
    pub(crate) fn insert(&mut self, height: u64, watch: Ordinal) {
        if self.heights.get(&watch).is_some_and(|lowest| *lowest <= height) {
            return;
        }
        self.remove(watch);
        self.heights.insert(watch, height);
        self.by_height.insert((height, watch));
    }

    /// Forgets what a watch waits for.
    pub(crate) fn remove(&mut self, watch: Ordinal) {
        if let Some(height) = self.heights.remove(&watch) {
            self.by_height.remove(&(height, watch));
        }
    }

    /// Takes out the watches that wait for a height or a lower one.
    pub(crate) fn take_up_to(&mut self, height: u64) -> Vec<Ordinal> {
        let mut reached = Vec::new();
        while let Some((_, watch)) = self.by_height.first().copied().filter(|(lowest, _)| *lowest <= height) {
            self.remove(watch);
            reached.push(watch);
        }
        reached
    }

    fn len(&self) -> usize {
        self.by_height.len()
    }
}

fn of_tx(tx: &TxId) -> Fingerprint {
    Fingerprint::of(0, &[tx.as_str()])
}

fn of_followed_tx(tx: &TxId) -> Fingerprint {
    Fingerprint::of(8, &[tx.as_str()])
}

fn of_interest(interest: &Interest) -> Fingerprint {
    match interest {
        Interest::Tx(tx) => Fingerprint::of(1, &[tx.as_str()]),
        Interest::Recipient { asset, address } => Fingerprint::of(2, &[asset.as_str(), address.as_str()]),
        Interest::Authorization { asset, authorizer, nonce } => {
            Fingerprint::of(3, &[asset.as_str(), authorizer.as_str(), nonce])
        }
        Interest::Spend(key) => Fingerprint::of(4, &[key.as_str()]),
        Interest::Expiry { tx, expiry: Expiry::Height(height) } => {
            Fingerprint::of(5, &[tx.as_str(), &height.to_string()])
        }
        Interest::Expiry { tx, expiry: Expiry::Nonce { account, value } } => {
            Fingerprint::of(6, &[tx.as_str(), account.as_str(), value])
        }
        Interest::Proofs => Fingerprint::of(7, &[]),
    }
}

/// What a source has to look for on behalf of a watch.
pub(crate) fn interests_of(watch: &Watch) -> Vec<Interest> {
    let terms = &watch.request.terms;
    // First, so that nothing is reported for the others without.
    let mut all = if watch.proofs { vec![Interest::Proofs] } else { Vec::new() };
    match &watch.request.subject {
        Subject::Address => all.push(recipient(&terms.asset, &terms.pay_to)),
        Subject::Descriptor { .. } => {
            let addresses = watch.window.iter().flat_map(|window| window.addresses());
            all.extend(addresses.map(|address| recipient(&terms.asset, address)));
        }
        Subject::Authorization { authorizer, nonce, .. } => all.push(Interest::Authorization {
            asset: terms.asset.clone(),
            authorizer: authorizer.clone(),
            nonce: nonce.clone(),
        }),
        Subject::Transaction { tx, expiry } => {
            all.push(Interest::Tx(tx.clone()));
            all.extend(expiry.clone().map(|expiry| Interest::Expiry { tx: tx.clone(), expiry }));
            all.extend(spends_of(watch));
        }
    }
    all
}

/// Those that its candidates bring along: what would take the place of a transaction uses the same.
pub(crate) fn spends_of(watch: &Watch) -> BTreeSet<Interest> {
    if !matches!(watch.request.subject, Subject::Transaction { .. }) {
        return BTreeSet::new();
    }
    let spends = watch.candidates.iter().flat_map(|candidate| &candidate.fact.spends);
    spends.cloned().map(Interest::Spend).collect()
}
