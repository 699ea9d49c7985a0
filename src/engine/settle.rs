//! Verdicts become outcomes, and outcomes are watched over until no reorg can undo them (aftercare).

use std::collections::BTreeSet;

use crate::changes::{ClaimKey, ClaimState, EventKind};
use crate::id::Timestamp;
use crate::input::{Execution, TxFact};
use crate::judge::{Verdict, satisfies};
use crate::network::{Ordinal, interests_of};
use crate::receipt::{self, Detail, Evidence};
use crate::record::Recorded;
use crate::request::{Depth, Subject};
use crate::watch::{Candidate, Outcome, Watch};
use crate::{Engine, of_id, of_key};

/// How what a paid watch received fares.
enum Fate {
    /// A reorg can still reach it.
    Open,
    /// None can.
    Final,
    /// It is gone for good. Which candidate.
    Gone(usize),
}

impl Engine {
    /// Judges the watches that something happened to, in order, until nothing follows from anything.
    pub(crate) fn work(&mut self, now: Timestamp) {
        while let Some(ordinal) = self.queue.pop_first() {
            let Some(watch) = self.watches.get(&ordinal) else { continue };
            if watch.outcome.is_some() {
                self.care(now, ordinal);
                continue;
            }
            self.accept(now, ordinal);
            if let Some(Verdict { outcome, evidence, deciding }) = self.verdict(ordinal) {
                self.settle(now, ordinal, outcome, &evidence, deciding);
            } else {
                self.schedule(ordinal);
                let Some(watch) = self.watches.get(&ordinal) else { continue };
                if let Some(net) = self.networks.get_mut(&watch.request.network) {
                    net.wait_for_expiry(watch);
                }
            }
        }
    }

    fn verdict(&self, ordinal: Ordinal) -> Option<Verdict> {
        let watch = self.watches.get(&ordinal)?;
        let view = self.view_of(watch)?;
        let extended = || if watch.extended && view.is_looked_up(watch) { view.judge_deadline(watch) } else { None };
        view.judge(watch).or_else(extended)
    }

    /// The deadline of a watch has passed. One whose look-up has not been answered is decided when it is.
    pub(crate) fn pass_deadline(&mut self, now: Timestamp, ordinal: Ordinal) {
        let Some(watch) = self.watches.get(&ordinal) else { return };
        let Some(view) = self.view_of(watch).filter(|view| watch.outcome.is_none() && view.is_looked_up(watch)) else {
            return;
        };
        match view.judge_deadline(watch) {
            Some(Verdict { outcome, evidence, deciding }) => {
                self.settle(now, ordinal, outcome, &evidence, deciding);
                self.work(now);
            }
            None => {
                if let Some(watch) = self.watches.get_mut(&ordinal) {
                    watch.extended = true;
                    self.dirty.insert(ordinal);
                }
                self.schedule(ordinal);
            }
        }
    }

    /// Depth 0: the receipt `accepted` while the terms hold in the mempool.
    fn accept(&mut self, now: Timestamp, ordinal: Ordinal) {
        let Some(watch) = self.watches.get(&ordinal) else { return };
        let terms = &watch.request.terms;
        if terms.depth != Depth::Blocks(0) || !satisfies(terms, watch.claimed_total()) {
            return;
        }
        let fresh = |c: &Candidate| c.placed && c.block().is_none() && !c.claimed.is_empty() && !c.accepted;
        let Some(i) = watch.candidates.iter().position(fresh) else { return };
        let Some(watch) = self.watches.get_mut(&ordinal) else { return };
        for candidate in watch.candidates.iter_mut().filter(|candidate| fresh(candidate)) {
            candidate.accepted = true;
        }
        self.emit_receipt(now, ordinal, EventKind::Accepted, |watch| Detail {
            candidate: watch.candidates.get(i),
            ..Detail::default()
        });
    }

    /// Writes the outcome, once (invariant 8). Claims that count are consumed, the others given back, in the same step.
    pub(crate) fn settle(
        &mut self,
        now: Timestamp,
        ordinal: Ordinal,
        outcome: Outcome,
        evidence: &Evidence,
        deciding: Option<usize>,
    ) {
        let Some(watch) = self.watches.get(&ordinal) else { return };
        let paid = !matches!(outcome, Outcome::Failed(_));
        let mut freed = Vec::new();
        for i in 0..watch.candidates.len() {
            let counts = paid && self.is_counted(ordinal, i, deciding);
            if counts {
                self.consume(ordinal, i);
            } else {
                let fact = self.watches.get(&ordinal).map(|watch| watch.candidates[i].fact.clone());
                if self.release(ordinal, i) {
                    freed.extend(fact);
                }
            }
        }
        let Some(watch) = self.watches.get_mut(&ordinal) else { return };
        let Some(net) = self.networks.get_mut(&watch.request.network) else { return };
        if paid {
            watch.received = watch.claimed_total();
        }
        if let Some(decided) = deciding.and_then(|i| watch.candidates.get_mut(i)) {
            // What it moved was judged; it does not come late.
            decided.late = true;
        }
        watch.outcome = Some(outcome.clone());
        if outcome != Outcome::Success {
            let until = now.plus_ms(net.rules.late_window_ms);
            watch.late_until = Some(until);
            net.late_windows.insert((until, ordinal));
        }
        net.deadlines.remove(&(watch.request.terms.deadline, ordinal));
        let txs: BTreeSet<_> = watch.candidates.iter().map(|candidate| candidate.fact.tx.clone()).collect();
        let network = watch.request.network.clone();
        let deciding = deciding.and_then(|i| watch.candidates.get(i));
        let artefact = receipt::settlement(watch, &outcome, evidence, deciding, &net.heads);
        if outcome == Outcome::Success {
            // They stand in the settlement now, and nothing comes late.
            watch.drop_proofs();
        }
        self.emit(now, ordinal, EventKind::Settled, &artefact);
        for fact in freed {
            self.offer(now, &fact, ordinal);
        }
        if let Some(net) = self.networks.get(&network) {
            // Those that may have waited for it to give a transfer back, or to keep it. What an address comes to does not hang on
            // others, of which a transaction may pay a thousand.
            self.queue.extend(txs.iter().flat_map(|tx| net.following_tx(tx)));
        }
        self.queue.insert(ordinal);
    }

    /// Whether what is claimed of a candidate counts towards the outcome: it is as deep as asked.
    fn is_counted(&self, ordinal: Ordinal, candidate: usize, deciding: Option<usize>) -> bool {
        let Some(watch) = self.watches.get(&ordinal) else { return false };
        let Some(view) = self.view_of(watch) else { return false };
        let ripe = watch.candidates.get(candidate).is_some_and(|c| view.is_ripe(c, watch.request.terms.depth));
        ripe && deciding.is_none_or(|deciding| deciding == candidate)
    }

    fn consume(&mut self, ordinal: Ordinal, candidate: usize) {
        let Some(watch) = self.watches.get(&ordinal) else { return };
        let candidate = &watch.candidates[candidate];
        for index in &candidate.claimed {
            let key = ClaimKey { network: watch.request.network.clone(), tx: candidate.fact.tx.clone(), index: *index };
            self.ledger.set(key, watch.id.clone(), ClaimState::Consumed);
        }
    }

    /// Offers transfers that one watch gave back to the others.
    fn offer(&mut self, now: Timestamp, fact: &TxFact, from: Ordinal) {
        let Some(network) = self.watches.get(&from).map(|watch| watch.request.network.clone()) else { return };
        let Some(net) = self.networks.get(&network) else { return };
        let mut concerned = net.concerned(fact);
        concerned.remove(&from);
        let mut moved = Vec::new();
        self.allocate(&concerned, fact, &mut moved);
        moved.sort_by_key(|(ordinal, _)| *ordinal);
        for (ordinal, kind) in moved {
            self.report_move(now, ordinal, &fact.tx, kind);
        }
        self.queue.extend(concerned);
    }

    /// Aftercare: what follows once the outcome is written.
    fn care(&mut self, now: Timestamp, ordinal: Ordinal) {
        let Some(watch) = self.watches.get(&ordinal) else { return };
        let paid = !matches!(watch.outcome, Some(Outcome::Failed(_)));
        if paid && !watch.finalized {
            match self.fate(watch) {
                Fate::Open => {}
                Fate::Final => {
                    if let Some(watch) = self.watches.get_mut(&ordinal) {
                        watch.finalized = true;
                    }
                    self.emit_receipt(now, ordinal, EventKind::Finalized, |watch| Detail {
                        candidate: watch.candidates.iter().find(|candidate| !candidate.claimed.is_empty()),
                        ..Detail::default()
                    });
                }
                Fate::Gone(i) => {
                    self.emit_receipt(now, ordinal, EventKind::Reversed, |watch| Detail {
                        candidate: watch.candidates.get(i),
                        left: watch.candidates[i].orphaned_from.clone(),
                        ..Detail::default()
                    });
                    self.archive(ordinal);
                    return;
                }
            }
        }
        self.report_late(now, ordinal);
        let Some(watch) = self.watches.get(&ordinal) else { return };
        if watch.late_until.is_none() && (watch.finalized || !paid) {
            self.archive(ordinal);
        } else {
            self.schedule(ordinal);
        }
    }

    fn fate(&self, watch: &Watch) -> Fate {
        let Some(view) = self.view_of(watch) else { return Fate::Open };
        let mut all_final = true;
        for (i, candidate) in watch.candidates.iter().enumerate().filter(|(_, c)| !c.claimed.is_empty()) {
            match (candidate.block(), &candidate.orphaned_from) {
                (Some(block), _) => all_final &= view.is_final(block),
                (None, Some(left)) if view.is_gone(left) => return Fate::Gone(i),
                (None, _) if self.is_displaced(watch, candidate) => return Fate::Gone(i),
                (None, _) => all_final = false,
            }
        }
        if !all_final {
            return Fate::Open;
        }
        let reverted = |c: &Candidate| !c.claimed.is_empty() && c.fact.execution == Execution::Reverted;
        match watch.candidates.iter().position(reverted) {
            Some(i) => Fate::Gone(i),
            None if watch.claimed_total() < watch.received => {
                Fate::Gone(watch.candidates.iter().position(|c| !c.claimed.is_empty()).unwrap_or_default())
            }
            None => Fate::Final,
        }
    }

    /// Whether a transaction that excludes this one is past any reorg.
    fn is_displaced(&self, watch: &Watch, gone: &Candidate) -> bool {
        let Some(view) = self.view_of(watch) else { return false };
        let excludes = |other: &Candidate| gone.fact.spends.iter().any(|key| other.fact.spends.contains(key));
        let others = watch.candidates.iter().filter(|other| other.fact.tx != gone.fact.tx && excludes(other));
        others.filter_map(Candidate::block).any(|block| view.is_final(block))
    }

    /// Reports transfers that came too late for a watch that failed, or got less than it asked.
    fn report_late(&mut self, now: Timestamp, ordinal: Ordinal) {
        let count = self.watches.get(&ordinal).map_or(0, |watch| watch.candidates.len());
        for i in 0..count {
            let Some(watch) = self.watches.get(&ordinal).filter(|watch| watch.late_until.is_some()) else { return };
            let candidate = &watch.candidates[i];
            let Some(view) = self.view_of(watch).filter(|_| !candidate.late) else { continue };
            let late: Vec<u32> = view.late_transfers(watch, candidate).iter().map(|transfer| transfer.index).collect();
            if late.is_empty() {
                continue;
            }
            let (id, network, tx) = (watch.id.clone(), watch.request.network.clone(), candidate.fact.tx.clone());
            for index in &late {
                let key = ClaimKey { network: network.clone(), tx: tx.clone(), index: *index };
                self.ledger.set(key, id.clone(), ClaimState::Late);
            }
            if let Some(watch) = self.watches.get_mut(&ordinal) {
                watch.candidates[i].late = true;
            }
            self.emit_receipt(now, ordinal, EventKind::Late, |watch| {
                let moved = watch.candidates[i].fact.transfers.iter();
                Detail {
                    candidate: watch.candidates.get(i),
                    transfers: Some(moved.filter(|transfer| late.contains(&transfer.index)).collect()),
                    ..Detail::default()
                }
            });
        }
    }

    /// A watch that nothing can happen to any more leaves memory.
    fn archive(&mut self, ordinal: Ordinal) {
        let Some(mut watch) = self.watches.remove(&ordinal) else { return };
        watch.archived = true;
        self.names.remove(of_id(watch.id.as_str()), ordinal);
        self.names.remove(of_key(watch.key()), ordinal);
        self.dirty.remove(&ordinal);
        let network = watch.request.network.clone();
        if let Some(net) = self.networks.get_mut(&network) {
            let closed = interests_of(&watch).into_iter().filter_map(|interest| net.close(interest, ordinal));
            self.out.asks.extend(closed.map(|ask| (network.clone(), ask)));
            for candidate in &watch.candidates {
                if net.remove_candidate(&candidate.fact.tx, ordinal) {
                    self.forgettable.insert((network.clone(), candidate.fact.tx.clone()));
                }
            }
            if let Subject::Transaction { tx, .. } = &watch.request.subject {
                self.forgettable.insert((network.clone(), tx.clone()));
            }
            if let Subject::Authorization { valid_before: Some(time), .. } = &watch.request.subject {
                net.expiries.remove(&(*time, ordinal));
            }
            net.look_ups.end(ordinal);
            net.tag_waits.remove(ordinal);
            net.every_depth.remove(&ordinal);
            if let Some(until) = watch.late_until {
                net.late_windows.remove(&(until, ordinal));
            }
        }
        watch.window = None;
        watch.drop_proofs();
        self.out.watches.push(Recorded::of(watch));
    }
}
