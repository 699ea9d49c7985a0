//! What a watch's facts amount to: the outcome, if there is one yet. Pure questions, no change of anything.

use crate::amount::Amount;
use crate::changes::{ClaimKey, ClaimState, FinalityMarks};
use crate::claims::Ledger;
use crate::heads::Heads;
use crate::id::{BlockRef, NetworkId, Timestamp, WatchId};
use crate::input::{Execution, Place, Transfer, TxFact};
use crate::look_ups::LookUps;
use crate::receipt::Evidence;
use crate::request::{AmountRule, AtDeadline, Depth, Subject, Tag, Terms};
use crate::watch::{Candidate, Outcome, Reason, Watch};

/// What a verdict is drawn from: the chain as the engine knows it, and who owns what.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The network.
    pub network: &'a NetworkId,
    /// Its chain.
    pub heads: &'a Heads,
    /// What the chain says of its own finality.
    pub marks: &'a FinalityMarks,
    /// What is not known yet of the time before the watches.
    pub(crate) look_ups: &'a LookUps,
    /// The claims.
    pub ledger: &'a Ledger,
    /// How many blocks make a transaction final for the engine.
    pub horizon: u64,
    /// How long before its creation a watch may accept what was paid, ms (claims are kept at least as long).
    pub proof_age_max_ms: u64,
}

/// An outcome and what it was drawn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How the watch ends.
    pub outcome: Outcome,
    /// The fact that proves it.
    pub evidence: Evidence,
    /// The index of the candidate that decided, for a watch that follows one transaction.
    pub deciding: Option<usize>,
}

impl Verdict {
    fn of_transaction(outcome: Outcome, deciding: usize) -> Option<Self> {
        Some(Self { outcome, evidence: Evidence::Transaction, deciding: Some(deciding) })
    }
}

impl View<'_> {
    /// Whether a block of the chain is as deep as `depth` asks.
    pub fn is_deep(&self, block: &BlockRef, depth: Depth) -> bool {
        match depth {
            Depth::Blocks(blocks) => self.heads.depth_of(block.height) >= u64::from(blocks.max(1)),
            Depth::Tag(tag) => self.mark(tag).is_some_and(|mark| block.height <= mark),
        }
    }

    /// Whether a transaction is in the chain as deep as `depth` asks, and as its own maturity does.
    pub fn is_ripe(&self, candidate: &Candidate, depth: Depth) -> bool {
        candidate.block().is_some_and(|block| {
            self.is_deep(block, depth) && self.is_deep(block, Depth::Blocks(candidate.fact.matures))
        })
    }

    /// Whether no reorg that the engine accepts can reach a block any more.
    pub fn is_final(&self, block: &BlockRef) -> bool {
        self.heads.depth_of(block.height) > self.horizon || self.mark(Tag::Finalized).is_some_and(|m| block.height <= m)
    }

    /// Whether what left the chain with a block is gone for good.
    pub fn is_gone(&self, left: &BlockRef) -> bool {
        self.heads.head().is_some_and(|head| head.block.height >= left.height + self.horizon)
    }

    /// Whether it is known what the chain held before the watch.
    pub fn is_looked_up(&self, watch: &Watch) -> bool {
        !self.look_ups.awaits(watch.ordinal)
    }

    fn mark(&self, tag: Tag) -> Option<u64> {
        match tag {
            Tag::Confirmed => self.marks.confirmed,
            Tag::Safe => self.marks.safe,
            Tag::Finalized => self.marks.finalized,
        }
    }

    fn key(&self, fact: &TxFact, transfer: &Transfer) -> ClaimKey {
        ClaimKey { network: self.network.clone(), tx: fact.tx.clone(), index: transfer.index }
    }

    /// Whether nobody else's firm claim is on a transfer.
    pub fn is_free(&self, watch: &WatchId, fact: &TxFact, transfer: &Transfer) -> bool {
        match self.ledger.holder(&self.key(fact, transfer)) {
            None => true,
            Some(claim) => claim.watch == *watch || claim.state == ClaimState::Late,
        }
    }

    /// Whether a transfer would count for a watch, claims aside.
    pub fn counts(&self, watch: &Watch, fact: &TxFact, transfer: &Transfer) -> bool {
        self.objection(watch, fact, transfer).is_none() && is_in_time(fact, watch.request.terms.deadline)
    }

    /// Why a transfer to somebody does not count for a watch, the deadline and claims aside.
    fn objection(&self, watch: &Watch, fact: &TxFact, transfer: &Transfer) -> Option<Reason> {
        let terms = &watch.request.terms;
        if !watch.owns(&transfer.to) {
            return Some(Reason::WrongRecipient);
        }
        if transfer.asset != terms.asset {
            return Some(Reason::WrongAsset);
        }
        if fact.execution == Execution::Reverted {
            return Some(Reason::Reverted);
        }
        if !payer_fits(watch, fact, transfer) || pays_itself(watch, fact, transfer) {
            return Some(Reason::PayerMismatch);
        }
        if let Some(reason) = unbound(terms, fact) {
            return Some(reason);
        }
        if self.is_too_early(watch, fact) {
            return Some(Reason::TooEarly);
        }
        transfer.amount.is_zero().then_some(Reason::Underpaid)
    }

    /// Whether a transaction is older than the watch accepts: than `not_before` and `from_height`; for an address without
    /// them, than the watch itself; and never so old that the claims of its time may have been forgotten.
    fn is_too_early(&self, watch: &Watch, fact: &TxFact) -> bool {
        let Place::Block { block, time } = &fact.place else { return false };
        let oldest = watch.created_at.0.saturating_sub(self.proof_age_max_ms);
        if time.0 < oldest || watch.request.terms.not_before.is_some_and(|asked| *time < asked) {
            return true;
        }
        let terms = &watch.request.terms;
        match (terms.from_height, watch.created_height) {
            (Some(from), _) => block.height < from,
            (None, Some(height)) if !watch.is_one_shot() && terms.not_before.is_none() => block.height <= height,
            _ => false,
        }
    }

    /// The outcome, if the chain has decided it. Deadlines are [`View::judge_deadline`]'s.
    pub fn judge(&self, watch: &Watch) -> Option<Verdict> {
        let verdict = if watch.is_one_shot() { self.judge_one_shot(watch) } else { self.judge_address(watch) };
        verdict.or_else(|| self.judge_expiry(watch))
    }

    fn judge_address(&self, watch: &Watch) -> Option<Verdict> {
        let met = satisfies(&watch.request.terms, self.deep_total(watch));
        met.then_some(Verdict { outcome: Outcome::Success, evidence: Evidence::Transaction, deciding: None })
    }

    /// A transaction decides once: at the required depth, whatever it did is the outcome.
    fn judge_one_shot(&self, watch: &Watch) -> Option<Verdict> {
        let terms = &watch.request.terms;
        let deciding = watch.candidates.iter().position(|candidate| self.is_ripe(candidate, terms.depth))?;
        let candidate = &watch.candidates[deciding];
        let fact = &candidate.fact;
        if is_untold(fact) {
            return None;
        }
        if is_cancelled(watch, fact) {
            return Verdict::of_transaction(Outcome::Failed(Reason::Expired), deciding);
        }
        let total = sum(candidate.claimed_transfers().filter(|transfer| self.counts(watch, fact, transfer)));
        if satisfies(terms, total) {
            return Verdict::of_transaction(Outcome::Success, deciding);
        }
        match self.blocked_by(watch, fact) {
            // The other watch may still give it back.
            Some((_, ClaimState::Reserved)) => None,
            Some((by, _)) if total.is_zero() => {
                Verdict::of_transaction(Outcome::Failed(Reason::AlreadyClaimed { by }), deciding)
            }
            _ => self.shortfall(watch, candidate, total, deciding),
        }
    }

    /// What comes of a transaction that is deep, and does not satisfy the terms.
    fn shortfall(&self, watch: &Watch, candidate: &Candidate, total: Amount, deciding: usize) -> Option<Verdict> {
        let outcome = if candidate.replacement && !candidate.followed {
            let by = candidate.fact.tx.clone();
            Outcome::Failed(if is_double_spend(watch) { Reason::Conflicted { by } } else { Reason::Replaced { by } })
        } else if total > watch.request.terms.amount {
            Outcome::Failed(Reason::Overpaid)
        } else if !total.is_zero() {
            Outcome::Partial
        } else {
            Outcome::Failed(self.reason(watch, &candidate.fact))
        };
        Verdict::of_transaction(outcome, deciding)
    }

    /// Why nothing of a transaction counts: the objection to the transfer that comes closest to the terms.
    fn reason(&self, watch: &Watch, fact: &TxFact) -> Reason {
        if fact.execution == Execution::Reverted {
            return Reason::Reverted;
        }
        let terms = &watch.request.terms;
        let mut closest = (Reason::WrongRecipient, 0);
        for transfer in &fact.transfers {
            let (reason, rank) = match self.objection(watch, fact, transfer) {
                Some(Reason::WrongRecipient) => continue,
                Some(Reason::WrongAsset) => (Reason::WrongAsset, 1),
                Some(Reason::Underpaid) => (Reason::Underpaid, 2),
                Some(Reason::PayerMismatch) => (Reason::PayerMismatch, 3),
                // What its transaction lacks, it lacks in all of them.
                Some(other) => (other, 4),
                None if !is_in_time(fact, terms.deadline) => (Reason::DeadlinePassed, 5),
                None => (Reason::Overpaid, 5),
            };
            if rank > closest.1 {
                closest = (reason, rank);
            }
        }
        closest.0
    }

    /// Who holds what this watch would need, the firmest claim first.
    fn blocked_by(&self, watch: &Watch, fact: &TxFact) -> Option<(WatchId, ClaimState)> {
        let wanted = fact.transfers.iter().filter(|transfer| self.counts(watch, fact, transfer));
        let holders = wanted.filter_map(|transfer| self.ledger.holder(&self.key(fact, transfer)));
        let others = holders.filter(|claim| claim.watch != watch.id && claim.state != ClaimState::Late);
        let mut blocked = None;
        for claim in others {
            if claim.state == ClaimState::Reserved {
                return Some((claim.watch.clone(), claim.state));
            }
            blocked.get_or_insert_with(|| (claim.watch.clone(), claim.state));
        }
        blocked
    }

    /// What can never land any more fails. Whether it did before the watch was made is what the look-up tells; while a block
    /// of the chain holds it, or what took its place, that decides. A mempool decides nothing: what a node holds on to, and
    /// no block can take, is no payment.
    fn judge_expiry(&self, watch: &Watch) -> Option<Verdict> {
        if !self.is_looked_up(watch) || watch.candidates.iter().any(|candidate| candidate.block().is_some()) {
            return None;
        }
        let evidence = match &watch.request.subject {
            Subject::Transaction { .. } => Evidence::Expired { block: watch.expired.clone()? },
            // The chain, at the required depth, is too late for it.
            Subject::Authorization { valid_before: Some(valid_before), .. } => {
                let proof = self.heads.first_at_or_after(*valid_before)?;
                if !self.is_deep(&proof.block, watch.request.terms.depth) {
                    return None;
                }
                Evidence::BlockTime { block: proof.block.clone(), time_ms: proof.time.0 }
            }
            _ => return None,
        };
        Some(Verdict { outcome: Outcome::Failed(Reason::Expired), evidence, deciding: None })
    }

    /// The outcome at the deadline; `None` while the watch waits, as it asked, for what is included already.
    pub fn judge_deadline(&self, watch: &Watch) -> Option<Verdict> {
        let extends = watch.request.terms.at_deadline == AtDeadline::Extend;
        if extends && watch.candidates.iter().any(|candidate| self.is_on_its_way(watch, candidate)) {
            return None;
        }
        let outcome = if watch.is_one_shot() || self.deep_total(watch).is_zero() {
            Outcome::Failed(Reason::DeadlinePassed)
        } else {
            Outcome::Partial
        };
        Some(Verdict { outcome, evidence: Evidence::Deadline, deciding: None })
    }

    /// Whether a transaction that was included may still reach the depth.
    ///
    /// One that left the chain may be in a block of the new branch that was not told yet, or that was told by its header
    /// alone: it is waited for until the source has located it, and, as no source is obliged to answer, until it is gone
    /// for good. Back in a mempool it is no longer included.
    fn is_on_its_way(&self, watch: &Watch, candidate: &Candidate) -> bool {
        let (fact, terms) = (&candidate.fact, &watch.request.terms);
        match (candidate.block(), &candidate.orphaned_from) {
            (Some(_), _) if !is_untold(fact) => {
                !self.is_ripe(candidate, terms.depth) && candidate.claimed_transfers().next().is_some()
            }
            (Some(_), _) => is_in_time(fact, terms.deadline) && !self.is_too_early(watch, fact),
            (None, Some(left)) => !candidate.placed && !self.is_gone(left),
            (None, None) => false,
        }
    }

    /// The sum of what is claimed and as deep as asked.
    pub fn deep_total(&self, watch: &Watch) -> Amount {
        let depth = watch.request.terms.depth;
        let deep = watch.claimed().filter(|(candidate, _)| self.is_ripe(candidate, depth));
        sum(deep.filter(|(c, transfer)| self.counts(watch, &c.fact, transfer)).map(|(_, transfer)| transfer))
    }

    /// The transfers of a candidate that would have counted but for the deadline, and that nobody has.
    pub fn late_transfers<'w>(&self, watch: &'w Watch, candidate: &'w Candidate) -> Vec<&'w Transfer> {
        let fact = &candidate.fact;
        if !self.is_ripe(candidate, watch.request.terms.depth) {
            return Vec::new();
        }
        fact.transfers.iter().filter(|transfer| self.is_unclaimed_match(watch, fact, transfer)).collect()
    }

    /// Whether a transfer would have counted but for the deadline, and nobody has it.
    pub fn is_unclaimed_match(&self, watch: &Watch, fact: &TxFact, transfer: &Transfer) -> bool {
        self.objection(watch, fact, transfer).is_none() && self.ledger.holder(&self.key(fact, transfer)).is_none()
    }
}

fn sum<'a>(transfers: impl Iterator<Item = &'a Transfer>) -> Amount {
    transfers.fold(Amount::ZERO, |sum, transfer| sum.saturating_add(transfer.amount))
}

/// Whether an amount received meets the terms.
pub fn satisfies(terms: &Terms, received: Amount) -> bool {
    match terms.amount_rule {
        AmountRule::Exact => received == terms.amount,
        AmountRule::AtLeast => received >= terms.amount,
        AmountRule::UpTo => !received.is_zero() && received <= terms.amount,
    }
}

/// Whether a watch that has claimed so much would take a transfer as well.
///
/// What one transaction moves is judged as one, so that a transaction that pays too much is seen to; an address takes
/// what fits, and leaves the rest to other watches.
pub fn wants(watch: &Watch, fact: &TxFact, transfer: &Transfer) -> bool {
    let needed = watch.needed(block_time(fact).is_some());
    let fits = transfer.amount <= needed;
    match watch.request.terms.amount_rule {
        AmountRule::AtLeast => !needed.is_zero(),
        AmountRule::Exact | AmountRule::UpTo => !needed.is_zero() && (fits || watch.is_one_shot()),
    }
}

/// The payer is the transfer's `from`, or who sent the transaction. For an authorization it is who signed it.
fn payer_fits(watch: &Watch, fact: &TxFact, transfer: &Transfer) -> bool {
    if let Subject::Authorization { authorizer, .. } = &watch.request.subject
        && transfer.from.as_ref() != Some(authorizer)
    {
        return false;
    }
    let Some(payer) = &watch.request.terms.payer else { return true };
    transfer.from.as_ref() == Some(payer) || fact.sender.as_ref() == Some(payer)
}

/// What a transaction lacks of what binds it to the watch's order.
fn unbound(terms: &Terms, fact: &TxFact) -> Option<Reason> {
    if terms.memo.as_ref().is_some_and(|memo| !fact.memos.contains(memo)) {
        return Some(Reason::MemoMismatch);
    }
    let names_all = terms.references.iter().all(|reference| fact.references.contains(reference));
    (!names_all).then_some(Reason::ReferenceMissing)
}

/// What one pays oneself, change above all, is no payment.
fn pays_itself(watch: &Watch, fact: &TxFact, transfer: &Transfer) -> bool {
    let is_change = watch.window.as_ref().is_some_and(|window| window.is_change(&transfer.to));
    is_change || transfer.from.iter().chain(&fact.funded_by).any(|payer| watch.owns(payer))
}

/// Whether what took the place of a watch's transaction broke the rules of replacement.
fn is_double_spend(watch: &Watch) -> bool {
    let Subject::Transaction { tx, .. } = &watch.request.subject else { return false };
    watch.candidates.iter().any(|candidate| candidate.fact.tx == *tx && !candidate.fact.replaceable)
}

fn is_cancelled(watch: &Watch, fact: &TxFact) -> bool {
    let Subject::Authorization { authorizer, nonce, .. } = &watch.request.subject else { return false };
    fact.authorizations.iter().any(|used| used.cancelled && used.authorizer == *authorizer && used.nonce == *nonce)
}

/// Whether the block of a transaction is known before what the transaction did in it.
fn is_untold(fact: &TxFact) -> bool {
    fact.execution == Execution::Unknown || !(fact.transfers_known || fact.execution == Execution::Reverted)
}

fn block_time(fact: &TxFact) -> Option<Timestamp> {
    match &fact.place {
        Place::Block { time, .. } => Some(*time),
        Place::Mempool => None,
    }
}

fn is_in_time(fact: &TxFact, deadline: Timestamp) -> bool {
    block_time(fact).is_none_or(|time| time <= deadline)
}
