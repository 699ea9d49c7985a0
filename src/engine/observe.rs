//! Facts from sources: the chain grows, forks, and holds transactions that concern watches.

use std::collections::BTreeSet;

use crate::changes::{Ask, Claim, ClaimKey, ClaimState, EventKind};
use crate::id::{Header, NetworkId, Timestamp, TxId, WatchId};
use crate::input::{Block, Execution, Observation, Place, TxFact};
use crate::judge::{satisfies, wants};
use crate::network::{Ordinal, spends_of};
use crate::proof;
use crate::receipt::Detail;
use crate::request::{Subject, Tag};
use crate::watch::{Candidate, Outcome, Watch};
use crate::{Engine, Rejected};

/// Transactions that one address watch keeps count of; beyond it only one that completes the amount alone is taken, so
/// that dust can't keep a payment out (invariant 11).
pub const CANDIDATES_MAX: usize = 1024;

impl Engine {
    /// Takes in a fact. `claims` are those that the store holds on the transactions it names
    /// ([`Observation::transactions`]).
    ///
    /// # Errors
    /// If it contradicts what the engine knows; then nothing has changed.
    pub fn handle_observation(
        &mut self,
        now: Timestamp,
        network: &NetworkId,
        observation: Observation,
        claims: Vec<(ClaimKey, Claim)>,
    ) -> Result<(), Rejected> {
        if !self.networks.contains_key(network) {
            return Err(Rejected::UnknownNetwork(network.clone()));
        }
        for (key, claim) in claims {
            // Those on a transaction that turns out to concern no watch are forgotten, whatever becomes of the fact.
            self.forgettable.insert((network.clone(), key.tx.clone()));
            self.ledger.learn(key, claim);
        }
        match observation {
            Observation::Blocks(blocks) => self.extend(now, network, blocks)?,
            Observation::Seen(fact) | Observation::Found(fact) => self.note_facts(now, network, vec![fact]),
            Observation::Missing { tx, under } => {
                let current = self.networks.get(network).is_some_and(|net| net.heads.holds(&under));
                if current {
                    self.evict(now, network, &tx);
                }
            }
            Observation::Expired { tx, expiry, block } => self.note_expired(network, tx, expiry, &block),
            Observation::LookedUp { watch, facts, .. } => self.answer_look_up(now, network, &watch, facts),
            Observation::Finality { tag, block } => self.raise_mark(now, network, tag, &block),
            Observation::Synced { at } => {
                if let Some(net) = self.networks.get_mut(network) {
                    net.marks.timing_out = net.marks.timing_out.max(Some(at.min(now)));
                }
                self.time_out(now, network, false);
            }
        }
        self.work(now);
        Ok(())
    }

    /// The chain grows, after a fork has left it if need be.
    fn extend(&mut self, now: Timestamp, network: &NetworkId, blocks: Vec<Block>) -> Result<(), Rejected> {
        let Some(net) = self.networks.get(network) else { return Ok(()) };
        let headers: Vec<_> = blocks.iter().map(|block| &block.header).collect();
        let fork = net.heads.fork_point(&headers, net.marks.finalized)?;
        let orphaned = fork.map_or_else(BTreeSet::new, |fork| self.unwind(now, network, fork));
        for block in blocks {
            self.append(now, network, block);
        }
        self.locate_orphans(network, &orphaned);
        // Not before the new branch is known whole: a transaction that moved to a higher block was never gone.
        self.queue.extend(orphaned);
        self.work(now);
        Ok(())
    }

    /// Takes all blocks above `fork` off the chain, highest first (invariant 7). Returns the watches that this concerns.
    fn unwind(&mut self, now: Timestamp, network: &NetworkId, fork: u64) -> BTreeSet<Ordinal> {
        let mut touched = BTreeSet::new();
        while let Some(net) = self.networks.get_mut(network) {
            let Some(head) = net.heads.head().filter(|head| head.block.height > fork).cloned() else { break };
            let height = head.block.height;
            let watches = net.by_height.remove(&height).unwrap_or_default();
            // Receipts speak of the chain after the block has left it.
            net.heads.pop();
            self.out.headers_removed.push((network.clone(), height));
            self.out.headers.retain(|(other, header)| other != network || header.block != head.block);
            for ordinal in watches {
                self.orphan(now, ordinal, &head);
                touched.insert(ordinal);
            }
        }
        if self.networks.get_mut(network).is_some_and(|net| net.lower_marks(fork)) {
            self.save_marks(network);
        }
        touched
    }

    /// Takes the candidates of a watch out of a block that left the chain.
    fn orphan(&mut self, now: Timestamp, ordinal: Ordinal, header: &Header) {
        let count = self.watches.get(&ordinal).map_or(0, |watch| watch.candidates.len());
        for i in 0..count {
            let Some(watch) = self.watches.get_mut(&ordinal) else { return };
            let settled = watch.outcome.is_some();
            let candidate = &mut watch.candidates[i];
            if candidate.block() != Some(&header.block) {
                continue;
            }
            let silent = candidate.replacement && !candidate.followed;
            candidate.placed = false;
            candidate.accepted = false;
            candidate.late = false;
            candidate.orphaned_from = Some(header.block.clone());
            if !settled {
                self.release(ordinal, i);
            }
            if !silent {
                let left = header.block.clone();
                self.emit_receipt(now, ordinal, EventKind::Orphaned, |watch| Detail {
                    candidate: watch.candidates.get(i),
                    left: Some(left),
                    ..Detail::default()
                });
            }
            if let Some(candidate) = self.watches.get_mut(&ordinal).and_then(|watch| watch.candidates.get_mut(i)) {
                candidate.followed = false;
            }
        }
        self.dirty.insert(ordinal);
    }

    /// Has the source look where orphaned transactions went, and what else an address has received.
    fn locate_orphans(&mut self, network: &NetworkId, touched: &BTreeSet<Ordinal>) {
        let mut lost = BTreeSet::new();
        let mut short = Vec::new();
        for ordinal in touched {
            let Some(watch) = self.watches.get(ordinal) else { continue };
            let gone = watch.candidates.iter().filter(|c| !c.placed && c.orphaned_from.is_some());
            let gone: Vec<_> = gone.map(|candidate| candidate.fact.tx.clone()).collect();
            if !gone.is_empty() && !watch.is_one_shot() && watch.outcome.is_none() {
                short.push(*ordinal);
            }
            lost.extend(gone);
        }
        for tx in lost {
            self.ask(network, Ask::Locate { tx });
        }
        for ordinal in short {
            self.look_up_again(ordinal);
        }
    }

    /// Puts one block on top of the chain, after the deadlines that it is too late for.
    fn append(&mut self, now: Timestamp, network: &NetworkId, block: Block) {
        let Block { header, floor, facts } = block;
        // A block that states a time to come must not run deadlines out early. What counts goes by the time that it states,
        // whenever it is told: or what a watch comes to would depend on that.
        self.pass_deadlines(now, network, floor.min(now));
        let Some(net) = self.networks.get_mut(network) else { return };
        let (height, time) = (header.block.height, header.time);
        if let Some(fallen) = net.heads.push(header.clone()) {
            net.by_height.remove(&fallen.block.height);
            self.out.headers_removed.push((network.clone(), fallen.block.height));
            self.out.headers.retain(|(other, header)| other != network || header.block != fallen.block);
        }
        self.out.headers.push((network.clone(), header));
        for fact in facts {
            self.note_fact(now, network, fact);
        }
        self.report_depths(now, network);
        let Some(net) = self.networks.get_mut(network) else { return };
        let later = net.due.split_off(&(height + 1, 0));
        let due = std::mem::replace(&mut net.due, later);
        self.queue.extend(due.into_iter().map(|(_, ordinal)| ordinal));
        self.pass_expiries(network, time);
        self.work(now);
    }

    /// Decides the deadlines that lie before the lowest time that the next blocks may state.
    fn pass_deadlines(&mut self, now: Timestamp, network: &NetworkId, time: Timestamp) {
        let Some(net) = self.networks.get_mut(network) else { return };
        let later = net.deadlines.split_off(&(time, 0));
        let passed = std::mem::replace(&mut net.deadlines, later);
        for (_, ordinal) in passed {
            self.pass_deadline(now, ordinal);
        }
    }

    fn report_depths(&mut self, now: Timestamp, network: &NetworkId) {
        let Some(net) = self.networks.get(network) else { return };
        let watches: Vec<_> = net.every_depth.iter().copied().collect();
        for ordinal in watches {
            let count = self.watches.get(&ordinal).map_or(0, |watch| watch.candidates.len());
            for i in 0..count {
                let depth = self.depth_of(ordinal, i);
                let silent =
                    self.watches.get(&ordinal).is_none_or(|w| w.candidates[i].replacement && !w.candidates[i].followed);
                if depth > 1 && !silent {
                    self.emit_receipt(now, ordinal, EventKind::Depth, |watch| Detail {
                        candidate: watch.candidates.get(i),
                        depth: Some(depth),
                        ..Detail::default()
                    });
                }
            }
        }
    }

    fn depth_of(&self, ordinal: Ordinal, candidate: usize) -> u64 {
        let Some(watch) = self.watches.get(&ordinal) else { return 0 };
        let Some(net) = self.networks.get(&watch.request.network) else { return 0 };
        let block = watch.candidates.get(candidate).and_then(Candidate::block);
        block.map_or(0, |block| net.heads.depth_of(block.height))
    }

    fn raise_mark(&mut self, now: Timestamp, network: &NetworkId, tag: Tag, block: &crate::id::BlockRef) {
        let Some(net) = self.networks.get_mut(network) else { return };
        let known = net.heads.head().is_some_and(|head| block.height <= head.block.height);
        if !known || !net.heads.holds(block) || !net.raise_mark(tag, block.height) {
            return;
        }
        let reached = net.tag_waits.take_up_to(block.height);
        self.queue.extend(reached);
        self.save_marks(network);
        self.work(now);
    }

    fn answer_look_up(&mut self, now: Timestamp, network: &NetworkId, id: &WatchId, facts: Vec<TxFact>) {
        self.note_facts(now, network, facts);
        let Some(ordinal) = self.ordinal_of(id) else { return };
        let Some(watch) = self.watches.get(&ordinal) else { return };
        let Some(net) = self.networks.get_mut(network).filter(|net| net.look_ups.awaits(ordinal)) else { return };
        if watch.window.as_ref().is_some_and(|window| window.has_unasked()) {
            // What it found has moved the window on.
            return self.ask_look_up(ordinal);
        }
        net.look_ups.end(ordinal);
        if watch.outcome.is_none() && !watch.extended {
            // A deadline that passed meanwhile is decided by the next block, or when the source has nothing more to tell.
            net.deadlines.insert((watch.request.terms.deadline, ordinal));
        }
        self.queue.insert(ordinal);
        self.work(now);
    }

    fn note_facts(&mut self, now: Timestamp, network: &NetworkId, facts: Vec<TxFact>) {
        for fact in facts {
            self.note_fact(now, network, fact);
        }
    }

    /// Takes in what is known of one transaction: candidates first, then claims, then receipts, then verdicts, each
    /// oldest watch first.
    fn note_fact(&mut self, now: Timestamp, network: &NetworkId, mut fact: TxFact) {
        let Some(net) = self.networks.get(network) else { return };
        if let Place::Block { block, time } = &mut fact.place {
            let head = net.heads.head().map_or(0, |head| head.block.height);
            if block.height > head || !net.heads.holds(block) {
                return;
            }
            *time = net.heads.at(block.height).map_or(*time, |header| header.time);
        }
        let concerned = net.concerned(&fact);
        self.drop_unasked(&concerned, &mut fact);
        for &ordinal in &concerned {
            self.widen(ordinal, &fact);
        }
        let mut moved = Vec::new();
        for &ordinal in &concerned {
            let one_shot = self.watches.get(&ordinal).is_some_and(Watch::is_one_shot);
            let known = self.watches.get(&ordinal).is_some_and(|w| w.candidates.iter().any(|c| c.fact.tx == fact.tx));
            if (one_shot || known)
                && let Some(kind) = self.place(ordinal, &fact)
            {
                moved.push((ordinal, kind));
            }
        }
        for &ordinal in &concerned {
            self.displace(now, ordinal, &fact);
            self.withdraw(ordinal, &fact.tx);
        }
        self.allocate(&concerned, &fact, &mut moved);
        moved.sort_by_key(|(ordinal, _)| *ordinal);
        for (ordinal, kind) in moved {
            self.report_move(now, ordinal, &fact.tx, kind);
        }
        self.queue.extend(concerned);
        self.work(now);
    }

    /// A transaction may carry a hundred marks, and a proof of some kilobytes. What a watch that it concerns asks for is kept, by
    /// the other watches too: what one of them gives back is offered to the rest.
    fn drop_unasked(&self, concerned: &BTreeSet<Ordinal>, fact: &mut TxFact) {
        if !concerned.iter().any(|ordinal| self.watches.get(ordinal).is_some_and(|watch| watch.proofs)) {
            fact.proof = None;
        }
        fact.proof = fact.proof.take().map(|proof| Box::new(proof.bounded()));
        if fact.memos.is_empty() && fact.references.is_empty() {
            return;
        }
        let terms = || concerned.iter().filter_map(|ordinal| Some(&self.watches.get(ordinal)?.request.terms));
        keep_asked(&mut fact.memos, terms().filter_map(|terms| terms.memo.as_ref()));
        keep_asked(&mut fact.references, terms().flat_map(|terms| &terms.references));
    }

    /// Notes where a candidate of a watch is now. Returns the event that this is, if it is one.
    fn place(&mut self, ordinal: Ordinal, fact: &TxFact) -> Option<EventKind> {
        let watch = self.watches.get_mut(&ordinal)?;
        let network = watch.request.network.clone();
        let role = role_of(watch, fact)?;
        let kind = match &fact.place {
            Place::Block { .. } => EventKind::Included,
            Place::Mempool => EventKind::Seen,
        };
        let in_block = kind == EventKind::Included;
        let conflict_included =
            watch.candidates.iter().any(|c| c.fact.tx != fact.tx && c.block().is_some() && excludes(c, fact));
        if !in_block && (conflict_included || (role == Role::Replacement && !fact.transfers_known)) {
            return None;
        }
        if in_block && role == Role::Subject {
            watch.expired = None;
        }
        let kept = relevant(watch, fact);
        let position = watch.candidates.iter().position(|candidate| candidate.fact.tx == fact.tx);
        let event = if let Some(i) = position {
            let candidate = &mut watch.candidates[i];
            if candidate.placed && (candidate.block().is_some() || !in_block) {
                let changed = merge(candidate, &kept);
                if changed {
                    self.reindex(ordinal, fact);
                }
                return None;
            }
            // For a watch that is open it is located now; one that is settled waits for it in a block.
            let located = in_block || watch.outcome.is_none();
            let orphaned_from = if located { None } else { candidate.orphaned_from.take() };
            *candidate = Candidate { fact: kept, placed: true, orphaned_from, ..candidate.clone() };
            kind
        } else {
            let replacement = role == Role::Replacement;
            watch.candidates.push(Candidate {
                fact: kept,
                placed: true,
                replacement,
                followed: false,
                accepted: false,
                claimed: Vec::new(),
                late: false,
                orphaned_from: None,
            });
            kind
        };
        for other in &mut watch.candidates {
            // What a node holds now excludes what it held before.
            if other.fact.tx != fact.tx && other.placed && other.block().is_none() && excludes(other, fact) {
                other.placed = false;
            }
        }
        let gone: Vec<_> = (0..watch.candidates.len()).filter(|i| !watch.candidates[*i].placed).collect();
        if watch.outcome.is_none() {
            for i in gone {
                self.release(ordinal, i);
            }
        }
        if let (Place::Block { block, .. }, Some(net)) = (&fact.place, self.networks.get_mut(&network))
            && net.heads.at(block.height).is_some()
        {
            net.by_height.entry(block.height).or_default().insert(ordinal);
        }
        self.reindex(ordinal, fact);
        Some(event)
    }

    /// Opens the interests that a new fact brings along.
    fn reindex(&mut self, ordinal: Ordinal, fact: &TxFact) {
        self.dirty.insert(ordinal);
        let Some(watch) = self.watches.get(&ordinal) else { return };
        let network = watch.request.network.clone();
        let Some(net) = self.networks.get_mut(&network) else { return };
        net.add_candidate(&fact.tx, ordinal, watch.is_one_shot());
        let opened: Vec<_> = spends_of(watch).into_iter().filter_map(|interest| net.open(interest, ordinal)).collect();
        self.out.asks.extend(opened.into_iter().map(|ask| (network.clone(), ask)));
    }

    /// Hands the transfers of a transaction to the watches that wait for them: first to those whose terms ask for a mark that
    /// it carries, since a payment bound to one order is not another's; an exact match before others; then oldest watch first
    /// (DESIGN §3, claims).
    pub(crate) fn allocate(
        &mut self,
        concerned: &BTreeSet<Ordinal>,
        fact: &TxFact,
        moved: &mut Vec<(Ordinal, EventKind)>,
    ) {
        if fact.execution == Execution::Reverted || !fact.transfers_known {
            return;
        }
        // A transaction may pay a thousand watches, of which each looks at its own transfers only.
        let own = |ordinal: &Ordinal| {
            let watch = self.watches.get(ordinal).filter(|watch| watch.outcome.is_none())?;
            let transfers: Vec<_> = fact.transfers.iter().filter(|transfer| watch.owns(&transfer.to)).collect();
            Some((*ordinal, watch.request.terms.bind(), transfers))
        };
        let open: Vec<_> = concerned.iter().filter_map(own).collect();
        for (asks_for_marks, exact) in [(true, true), (true, false), (false, true), (false, false)] {
            for (ordinal, _, transfers) in open.iter().filter(|(_, binds, _)| *binds == asks_for_marks) {
                for &transfer in transfers {
                    let Some(watch) = self.watches.get(ordinal) else { break };
                    let needed = watch.needed(matches!(fact.place, Place::Block { .. }));
                    let takes = if exact { needed == transfer.amount } else { wants(watch, fact, transfer) };
                    if takes && self.may_claim(watch, fact, transfer.index) {
                        self.claim(*ordinal, fact, transfer.index, moved);
                    }
                }
            }
        }
        self.leave_late(concerned, fact, moved);
    }

    fn may_claim(&self, watch: &Watch, fact: &TxFact, index: u32) -> bool {
        let Some(view) = self.view_of(watch) else { return false };
        let Some(transfer) = fact.transfers.iter().find(|transfer| transfer.index == index) else { return false };
        let candidate = watch.candidates.iter().find(|candidate| candidate.fact.tx == fact.tx);
        let has_room =
            candidate.is_some() || watch.candidates.len() < CANDIDATES_MAX || transfer.amount >= watch.needed(false);
        let ready = if watch.is_one_shot() { candidate.is_some_and(|c| c.placed) } else { has_room };
        let mine = candidate.is_some_and(|candidate| candidate.claimed.contains(&index));
        ready && !mine && view.counts(watch, fact, transfer) && view.is_free(&watch.id, fact, transfer)
    }

    fn claim(&mut self, ordinal: Ordinal, fact: &TxFact, index: u32, moved: &mut Vec<(Ordinal, EventKind)>) {
        let known = self.watches.get(&ordinal).is_some_and(|w| w.candidates.iter().any(|c| c.fact.tx == fact.tx));
        if !known && let Some(kind) = self.place(ordinal, fact) {
            moved.push((ordinal, kind));
        }
        let Some(watch) = self.watches.get_mut(&ordinal) else { return };
        let Some(candidate) = watch.candidates.iter_mut().find(|c| c.fact.tx == fact.tx && c.placed) else { return };
        candidate.claimed.push(index);
        let key = ClaimKey { network: watch.request.network.clone(), tx: fact.tx.clone(), index };
        self.ledger.set(key, watch.id.clone(), ClaimState::Reserved);
        self.dirty.insert(ordinal);
    }

    /// Gives back what was claimed of a transaction in the mempool, and does not count where it is now: its block may be too
    /// early or too late, it may have been reverted there, and an address may have been paid otherwise meanwhile.
    fn withdraw(&mut self, ordinal: Ordinal, tx: &TxId) {
        let Some(watch) = self.watches.get_mut(&ordinal).filter(|watch| watch.outcome.is_none()) else { return };
        let Some(i) = watch.candidates.iter().position(|candidate| candidate.fact.tx == *tx) else { return };
        // Without this transaction: would the watch take these transfers again, one after the other?
        for index in std::mem::take(&mut watch.candidates[i].claimed) {
            let Some(watch) = self.watches.get(&ordinal) else { return };
            let Some(view) = self.view_of(watch) else { return };
            let fact = &watch.candidates[i].fact;
            let wanted = |transfer| watch.is_one_shot() || wants(watch, fact, transfer);
            let transfer = fact.transfers.iter().find(|transfer| transfer.index == index);
            let kept = transfer.is_some_and(|transfer| view.counts(watch, fact, transfer) && wanted(transfer));
            let (id, network) = (watch.id.clone(), watch.request.network.clone());
            if !kept {
                self.ledger.release(&ClaimKey { network, tx: tx.clone(), index }, &id);
                self.dirty.insert(ordinal);
            } else if let Some(watch) = self.watches.get_mut(&ordinal) {
                watch.candidates[i].claimed.push(index);
            }
        }
    }

    /// A transfer that no open watch takes is kept by one that failed while waiting for it, in the same order.
    fn leave_late(&mut self, concerned: &BTreeSet<Ordinal>, fact: &TxFact, moved: &mut Vec<(Ordinal, EventKind)>) {
        let waits_late = |ordinal: &&Ordinal| {
            let Some(watch) = self.watches.get(ordinal).filter(|watch| !watch.is_one_shot()) else { return false };
            let Some(view) = self.view_of(watch) else { return false };
            let room = watch.candidates.len() < CANDIDATES_MAX;
            let open = watch.late_until.is_some() && !matches!(watch.outcome, None | Some(Outcome::Success));
            open && room && fact.transfers.iter().any(|t| view.is_unclaimed_match(watch, fact, t))
        };
        let binds = |ordinal: &Ordinal| self.watches.get(ordinal).is_some_and(|watch| watch.request.terms.bind());
        let oldest = |bound| concerned.iter().filter(|ordinal| binds(ordinal) == bound).find(waits_late);
        let Some(&ordinal) = oldest(true).or_else(|| oldest(false)) else { return };
        let known = self.watches.get(&ordinal).is_some_and(|w| w.candidates.iter().any(|c| c.fact.tx == fact.tx));
        if !known && let Some(kind) = self.place(ordinal, fact) {
            moved.push((ordinal, kind));
        }
    }

    /// The receipts of a move. A replacement is only spoken of while it meets the terms.
    pub(crate) fn report_move(&mut self, now: Timestamp, ordinal: Ordinal, tx: &TxId, kind: EventKind) {
        let Some(watch) = self.watches.get_mut(&ordinal) else { return };
        let meets = satisfies(&watch.request.terms, watch.claimed_total());
        let settled = watch.outcome.is_some();
        let Some(i) = watch.candidates.iter().position(|candidate| candidate.fact.tx == *tx) else { return };
        let candidate = &mut watch.candidates[i];
        if candidate.replacement && !candidate.followed {
            if !meets || settled {
                return;
            }
            candidate.followed = true;
            let replaces = match &watch.request.subject {
                Subject::Transaction { tx, .. } => Some(tx.to_string()),
                _ => None,
            };
            self.emit_receipt(now, ordinal, EventKind::Replaced, |watch| Detail {
                candidate: watch.candidates.get(i),
                replaces,
                ..Detail::default()
            });
        }
        self.emit_receipt(now, ordinal, kind, |watch| Detail {
            candidate: watch.candidates.get(i),
            ..Detail::default()
        });
        if let Some(watch) = self.watches.get_mut(&ordinal).filter(|watch| kind == EventKind::Included && watch.proofs)
        {
            proof::hold_less(watch, i);
        }
    }

    /// No mempool has a transaction any more; if it had left the chain, that is where it went.
    fn evict(&mut self, now: Timestamp, network: &NetworkId, tx: &TxId) {
        let Some(net) = self.networks.get(network) else { return };
        for ordinal in net.watching_tx(tx) {
            let Some(watch) = self.watches.get(&ordinal) else { continue };
            let outside = |c: &Candidate| c.fact.tx == *tx && c.block().is_none();
            if let Some(i) = watch.candidates.iter().position(outside) {
                self.evict_candidate(now, ordinal, i);
            }
        }
    }

    fn evict_candidate(&mut self, now: Timestamp, ordinal: Ordinal, i: usize) {
        let Some(watch) = self.watches.get_mut(&ordinal) else { return };
        let settled = watch.outcome.is_some();
        let candidate = &mut watch.candidates[i];
        let located = !settled && candidate.orphaned_from.take().is_some();
        let was_seen = std::mem::replace(&mut candidate.placed, false);
        if !was_seen && !located {
            return;
        }
        let silent = candidate.replacement && !candidate.followed;
        candidate.accepted = false;
        if !settled {
            self.release(ordinal, i);
        }
        self.dirty.insert(ordinal);
        self.queue.insert(ordinal);
        if silent || !was_seen {
            return;
        }
        self.emit_receipt(now, ordinal, EventKind::Evicted, |watch| Detail {
            candidate: watch.candidates.get(i),
            ..Detail::default()
        });
    }

    /// What an address was to get from a mempool is gone once a transaction comes up that uses the same.
    fn displace(&mut self, now: Timestamp, ordinal: Ordinal, fact: &TxFact) {
        let Some(watch) = self.watches.get(&ordinal).filter(|watch| !watch.is_one_shot()) else { return };
        let other = |c: &Candidate| c.fact.tx != fact.tx && c.placed && c.block().is_none();
        let gone = |(i, c): (usize, &Candidate)| (other(c) && excludes(c, fact)).then_some(i);
        let gone: Vec<_> = watch.candidates.iter().enumerate().filter_map(gone).collect();
        for i in gone {
            self.evict_candidate(now, ordinal, i);
        }
    }

    /// Gives back what is claimed of a candidate, unless it is consumed.
    pub(crate) fn release(&mut self, ordinal: Ordinal, candidate: usize) -> bool {
        let Some(watch) = self.watches.get_mut(&ordinal) else { return false };
        let Some(candidate) = watch.candidates.get_mut(candidate) else { return false };
        let (network, tx) = (watch.request.network.clone(), candidate.fact.tx.clone());
        let mut any = false;
        for index in std::mem::take(&mut candidate.claimed) {
            let key = ClaimKey { network: network.clone(), tx: tx.clone(), index };
            any |= self.ledger.release(&key, &watch.id);
        }
        any
    }
}

/// What a transaction is to a watch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Subject,
    Replacement,
    Payment,
}

fn role_of(watch: &Watch, fact: &TxFact) -> Option<Role> {
    match &watch.request.subject {
        Subject::Address | Subject::Descriptor { .. } => Some(Role::Payment),
        Subject::Transaction { tx, .. } if *tx == fact.tx => Some(Role::Subject),
        Subject::Transaction { .. } => {
            watch.candidates.iter().any(|candidate| excludes(candidate, fact)).then_some(Role::Replacement)
        }
        Subject::Authorization { authorizer, nonce, .. } => {
            let asset = &watch.request.terms.asset;
            let used = fact
                .authorizations
                .iter()
                .any(|u| u.authorizer == *authorizer && u.nonce == *nonce && u.asset == *asset);
            used.then_some(Role::Subject)
        }
    }
}

/// Whether two transactions exclude each other.
fn excludes(candidate: &Candidate, fact: &TxFact) -> bool {
    candidate.fact.spends.iter().any(|key| fact.spends.contains(key))
}

/// What of a fact a watch keeps: the transfers that reach it.
fn relevant(watch: &Watch, fact: &TxFact) -> TxFact {
    fact.with_transfers(fact.transfers.iter().filter(|transfer| watch.owns(&transfer.to)).cloned().collect())
}

fn keep_asked<'a, T: Ord + Clone + 'a>(carried: &mut Vec<T>, asked: impl Iterator<Item = &'a T>) {
    let all: BTreeSet<T> = std::mem::take(carried).into_iter().collect();
    let kept: BTreeSet<&T> = asked.filter(|mark| all.contains(*mark)).collect();
    carried.extend(kept.into_iter().cloned());
}

/// Adds what a further report of the same place knows.
fn merge(candidate: &mut Candidate, further: &TxFact) -> bool {
    if candidate.fact.place != further.place {
        return false;
    }
    let known = &mut candidate.fact;
    let mut more = false;
    for transfer in &further.transfers {
        if !known.transfers.iter().any(|other| other.index == transfer.index) {
            known.transfers.push(transfer.clone());
            more = true;
        }
    }
    more |= add_missing(&mut known.spends, &further.spends);
    more |= add_missing(&mut known.funded_by, &further.funded_by);
    more |= add_missing(&mut known.memos, &further.memos);
    more |= add_missing(&mut known.references, &further.references);
    known.transfers_known |= further.transfers_known;
    if known.proof.is_none() && further.proof.is_some() {
        known.proof.clone_from(&further.proof);
        more = true;
    }
    let executed = known.execution == Execution::Unknown && further.execution != Execution::Unknown;
    if executed {
        known.execution = further.execution;
        known.sender = further.sender.clone();
        known.verification = further.verification.clone();
        known.matures = further.matures;
        known.notes.clone_from(&further.notes);
    }
    executed || more
}

/// Returns whether there was any.
fn add_missing<T: Clone + PartialEq>(known: &mut Vec<T>, further: &[T]) -> bool {
    let before = known.len();
    for one in further {
        if !known.contains(one) {
            known.push(one.clone());
        }
    }
    known.len() > before
}

impl Observation {
    /// The transactions that it names, for which the store may hold claims.
    pub fn transactions(&self) -> Vec<&TxId> {
        match self {
            Self::Blocks(blocks) => blocks.iter().flat_map(|block| &block.facts).map(|fact| &fact.tx).collect(),
            Self::Seen(fact) | Self::Found(fact) => vec![&fact.tx],
            Self::LookedUp { facts, .. } => facts.iter().map(|fact| &fact.tx).collect(),
            Self::Missing { .. } | Self::Expired { .. } | Self::Finality { .. } | Self::Synced { .. } => Vec::new(),
        }
    }
}
