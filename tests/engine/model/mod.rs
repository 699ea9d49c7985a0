//! The naive model: it keeps the whole chain, and works out each outcome anew from all of it.

use std::collections::BTreeMap;

use h402_watch_engine::amount::Amount;
use h402_watch_engine::id::{BlockRef, Timestamp, TxId, WatchId};
use h402_watch_engine::input::{Execution, Observation, Place, TxFact};
use h402_watch_engine::judge::satisfies;
use h402_watch_engine::request::{AtDeadline, Expiry, Subject, WatchRequest};
use h402_watch_engine::watch::{Outcome, Watch};

use super::support::HORIZON;
use super::{Mined, blocks_of, objection};

/// An outcome in one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Open,
    Ended(String),
}

impl Told {
    pub fn of(watch: &Watch) -> Self {
        match &watch.outcome {
            None => Self::Open,
            Some(Outcome::Failed(reason)) => Self::Ended(reason.as_str().into()),
            Some(outcome) => Self::Ended(outcome.as_str().into()),
        }
    }

    fn ended(word: &str) -> Self {
        Self::Ended(word.into())
    }
}

struct Asked {
    request: WatchRequest,
    /// Blocks told of later are matched; those before are found by the look-up.
    step: u64,
    looked_up: bool,
    extended: bool,
    /// The height at which the transaction left the chain, until somebody says where it went.
    lost_at: Option<u64>,
    /// Whether the source has proved that the transaction can be included no more.
    expired: bool,
    told: Told,
}

/// All watches, and the chain as far as it was told.
#[derive(Default)]
pub struct Model {
    /// Whether each payment is wanted by one watch only, so that claims decide nothing.
    pub exact: bool,
    watches: BTreeMap<WatchId, Asked>,
    /// Heights and facts of the canonical chain.
    chain: Vec<Mined>,
    finalized: Option<u64>,
}

impl Model {
    pub fn new(exact: bool) -> Self {
        Self { exact, ..Self::default() }
    }

    pub fn wants_payment_of(&self, request: &WatchRequest) -> bool {
        self.watches.values().any(|asked| asked.request.terms.pay_to == request.terms.pay_to)
    }

    pub fn create(&mut self, id: WatchId, request: WatchRequest, step: u64) {
        let (looked_up, extended, lost_at, expired) = (false, false, None, false);
        self.watches.insert(id, Asked { request, step, looked_up, extended, lost_at, expired, told: Told::Open });
    }

    pub fn cancel(&mut self, id: &WatchId) {
        if let Some(asked) = self.watches.get_mut(id) {
            asked.told = Told::ended("cancelled");
        }
    }

    pub fn transaction_watches(&self) -> Vec<WatchId> {
        let of_tx = self.watches.iter().filter(|(_, asked)| asked.request.subject != Subject::Address);
        of_tx.map(|(id, _)| id.clone()).collect()
    }

    pub fn outcome(&self, id: &WatchId) -> Told {
        self.watches[id].told.clone()
    }

    /// `truth` is the chain after the observation.
    pub fn observe(&mut self, now: Timestamp, observation: &Observation, truth: &[Mined], step: u64) {
        match observation {
            Observation::Blocks(blocks) => {
                let first = blocks[0].header.block.height;
                if self.chain.is_empty() {
                    self.chain = truth.iter().filter(|mined| mined.step == 0).cloned().collect();
                }
                self.lose(first);
                self.chain.retain(|mined| mined.header.block.height < first);
                for block in blocks {
                    let time = block.header.time;
                    self.pass_deadlines(|deadline| deadline < time);
                    let mined = truth.iter().find(|mined| mined.header == block.header).expect("told truly");
                    self.chain.push(Mined { step, ..mined.clone() });
                    self.judge();
                }
            }
            Observation::Seen(fact) => self.locate(&fact.tx),
            Observation::Missing { tx, under } if self.chain.iter().any(|mined| mined.header.block == *under) => {
                self.locate(tx);
            }
            Observation::LookedUp { watch, facts, .. } => {
                self.start(truth);
                for fact in facts {
                    self.locate(&fact.tx);
                }
                if let Some(asked) = self.watches.get_mut(watch) {
                    asked.looked_up = true;
                }
            }
            Observation::Finality { block, .. } => {
                self.start(truth);
                self.finalized = self.finalized.max(Some(block.height));
            }
            Observation::Expired { tx, expiry, block } if self.proves(expiry, block) => self.expire(tx, expiry),
            Observation::Synced { at } => {
                let synced = (*at).min(now);
                self.pass_deadlines(|deadline| deadline <= synced);
            }
            _ => {}
        }
        self.judge();
    }

    fn start(&mut self, truth: &[Mined]) {
        if self.chain.is_empty() {
            self.chain = truth.to_vec();
        }
    }

    fn proves(&self, expiry: &Expiry, block: &BlockRef) -> bool {
        let is_final = self.finalized.is_some_and(|finalized| block.height <= finalized);
        let reached = match expiry {
            Expiry::Height(last) => block.height >= *last,
            Expiry::Nonce { .. } => true,
        };
        is_final && reached && self.chain.iter().any(|mined| mined.header.block == *block)
    }

    fn expire(&mut self, tx: &TxId, expiry: &Expiry) {
        let subject = Subject::Transaction { tx: tx.clone(), expiry: Some(expiry.clone()) };
        let stating = self.watches.iter().filter(|(_, asked)| asked.request.subject == subject);
        let absent = stating.filter(|(_, asked)| self.included(asked).is_none());
        for id in absent.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.watches.get_mut(&id).expect("there").expired = true;
        }
    }

    /// What is known in a block from `first` on leaves the chain.
    fn lose(&mut self, first: u64) {
        let Some(head) = self.chain.last().map(|mined| mined.header.block.height) else { return };
        let height_of = |asked: &Asked| self.included(asked).map(|(_, _, depth)| head + 1 - depth);
        let lost = self.watches.iter().filter_map(|(id, asked)| Some((id.clone(), height_of(asked)?)));
        for (id, height) in lost.filter(|(_, height)| *height >= first).collect::<Vec<_>>() {
            self.watches.get_mut(&id).expect("there").lost_at = Some(height);
        }
    }

    /// Somebody says where a transaction is.
    fn locate(&mut self, found: &TxId) {
        for asked in self.watches.values_mut() {
            if matches!(&asked.request.subject, Subject::Transaction { tx, .. } if tx == found) {
                asked.lost_at = None;
            }
        }
    }

    /// The transaction of a watch in the chain, and how deep, as far as the watch can know of it.
    fn included<'a>(&'a self, asked: &Asked) -> Option<(&'a TxFact, Timestamp, u64)> {
        let Subject::Transaction { tx, .. } = &asked.request.subject else { return None };
        let head = self.chain.last()?.header.block.height;
        let known = self.chain.iter().filter(|mined| asked.looked_up || mined.step > asked.step);
        let found = known.flat_map(|mined| mined.txs.iter().map(move |fact| (fact, mined)));
        let (fact, mined) = found.into_iter().find(|(fact, _)| fact.tx == *tx)?;
        let Place::Block { time, .. } = fact.place else { return None };
        Some((fact, time, head + 1 - mined.header.block.height))
    }

    fn total(asked: &Asked, fact: &TxFact) -> Amount {
        let to_us = fact.transfers.iter().filter(|moved| moved.to == asked.request.terms.pay_to);
        to_us.fold(Amount::ZERO, |sum, moved| sum.saturating_add(moved.amount))
    }

    fn verdict(&self, asked: &Asked) -> Told {
        let terms = &asked.request.terms;
        let shallow_or_gone = || if asked.extended { self.after_extension(asked) } else { Told::Open };
        let Some((fact, time, depth)) = self.included(asked) else {
            return if asked.expired && asked.looked_up { Told::ended("expired") } else { shallow_or_gone() };
        };
        if depth < blocks_of(&asked.request) {
            return shallow_or_gone();
        }
        if fact.execution == Execution::Reverted {
            return Told::ended("reverted");
        }
        if let Some(reason) = objection(terms, fact) {
            return Told::ended(reason);
        }
        if terms.not_before.is_some_and(|asked| time < asked) {
            return Told::ended("too_early");
        }
        if time > terms.deadline {
            return Told::ended("deadline_passed");
        }
        let total = Self::total(asked, fact);
        if satisfies(terms, total) {
            Told::ended("success")
        } else if total > terms.amount {
            Told::ended("overpaid")
        } else {
            Told::ended("partial")
        }
    }

    fn after_extension(&self, asked: &Asked) -> Told {
        if self.is_on_its_way(asked) { Told::Open } else { Told::ended("deadline_passed") }
    }

    /// Whether something that counts is in the chain, and not deep enough; or has left it, and nobody knows yet where it
    /// went.
    fn is_on_its_way(&self, asked: &Asked) -> bool {
        let terms = &asked.request.terms;
        let Some((fact, time, depth)) = self.included(asked) else {
            let head = self.chain.last().map_or(0, |mined| mined.header.block.height);
            return asked.lost_at.is_some_and(|left| head < left + u64::from(HORIZON));
        };
        let counts = fact.execution != Execution::Reverted
            && objection(terms, fact).is_none()
            && terms.not_before.is_none_or(|asked| time >= asked)
            && time <= terms.deadline;
        counts && depth < blocks_of(&asked.request)
    }

    fn pass_deadlines(&mut self, passed: impl Fn(Timestamp) -> bool) {
        let ids: Vec<_> = self.watches.keys().cloned().collect();
        for id in ids {
            let asked = &self.watches[&id];
            if asked.told != Told::Open || !asked.looked_up || !passed(asked.request.terms.deadline) || asked.extended {
                continue;
            }
            let extends = asked.request.terms.at_deadline == AtDeadline::Extend && self.is_on_its_way(asked);
            let asked = self.watches.get_mut(&id).expect("there");
            if extends {
                asked.extended = true;
            } else {
                asked.told = Told::ended("deadline_passed");
            }
        }
    }

    fn judge(&mut self) {
        let ids: Vec<_> = self.watches.keys().cloned().collect();
        for id in ids {
            if self.included(&self.watches[&id]).is_some() {
                let asked = self.watches.get_mut(&id).expect("there");
                (asked.lost_at, asked.expired) = (None, false);
            }
            if self.watches[&id].told == Told::Open {
                let told = self.verdict(&self.watches[&id]);
                self.watches.get_mut(&id).expect("there").told = told;
            }
        }
    }
}
