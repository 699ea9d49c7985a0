//! What a node does wrong, on demand and until told otherwise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Agave;
use super::answers::{Refusal, View};
use super::chain::Chain;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Processed,
    Confirmed,
    Finalized,
}

/// What comes instead of an answer.
#[derive(Clone, Debug)]
pub enum Fail {
    /// 429, with Retry-After in seconds.
    Limited(Option<u64>),
    /// Another HTTP status.
    Status(u16),
    /// A page for people, with this status.
    Html(u16),
    /// Half of the answer.
    Truncated,
    /// Nothing, ever.
    Silence,
    /// -32005: so many slots behind.
    Behind(u64),
    /// Another JSON-RPC error.
    Rpc(i64, &'static str),
}

impl Fail {
    /// The error that is answered to a call; none for what becomes of whole requests.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Behind(slots) => {
                let refusal = Refusal::new(-32005, format!("Node is behind by {slots} slots"));
                Some(Refusal { data: json!({ "numSlotsBehind": slots }), ..refusal })
            }
            Self::Rpc(code, message) => Some(Refusal::new(*code, *message)),
            _ => None,
        }
    }
}

/// How a node's WebSocket behaves, from what it says next on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Socket {
    #[default]
    Honest,
    /// Connections are taken and nothing is ever said, not even to those that have subscribed.
    Silent,
    /// Connections are refused.
    Shut,
    /// Subscriptions are refused.
    Full,
    /// Each notification comes twice.
    Twice,
    /// Every second notification comes before the one that it should follow.
    Swapped,
    /// Slots are told that are not so.
    Off(i64),
}

/// What is done to a true result, seeing the parameters.
type Rule = Box<dyn Fn(&Value, &mut Value) + Send>;

#[derive(Default)]
pub(super) struct Faults {
    /// By method, and "" for all.
    pub lags: BTreeMap<String, u64>,
    /// Of every second call.
    pub balanced: u64,
    pub answered: u64,
    pub elsewhere: BTreeMap<String, Chain>,
    pub failing: Vec<(Option<String>, Fail, Option<u32>)>,
    pub withheld: BTreeMap<u64, Option<i64>>,
    pub omitted: BTreeSet<u64>,
    pub hidden_statuses: BTreeSet<String>,
    pub hidden_transactions: BTreeSet<String>,
    pub first: u64,
    pub genesis: Option<String>,
    pub rules: BTreeMap<String, Rule>,
    pub socket: Socket,
    /// How many slots the levels are behind, and where they are held.
    pub behind: Behind,
    pub held: BTreeMap<Level, u64>,
}

/// As on a cluster that votes: confirmed after one slot, finalized after 31.
pub(super) struct Behind {
    pub confirmed: u64,
    pub finalized: u64,
}

impl Default for Behind {
    fn default() -> Self {
        Self { confirmed: 1, finalized: 31 }
    }
}

impl Faults {
    /// The chain as this node sees it when it answers a method.
    pub(super) fn view<'a>(&'a self, chain: &'a Chain, method: &str) -> View<'a> {
        let chain = self.elsewhere.get(method).or_else(|| self.elsewhere.get("")).unwrap_or(chain);
        let lag = self.lag(method) + if self.answered.is_multiple_of(2) { 0 } else { self.balanced };
        let processed = self.reached(chain, Level::Processed, chain.tip().saturating_sub(lag));
        let confirmed = self.reached(chain, Level::Confirmed, processed.saturating_sub(self.behind.confirmed));
        let finalized = self.reached(chain, Level::Finalized, processed.saturating_sub(self.behind.finalized));
        View { chain, faults: self, processed, confirmed, finalized: finalized.min(confirmed) }
    }

    fn reached(&self, chain: &Chain, level: Level, slot: u64) -> u64 {
        chain.below(self.held.get(&level).map_or(slot, |held| slot.min(*held))).slot
    }

    pub(super) fn lag(&self, method: &str) -> u64 {
        self.lags.get(method).or_else(|| self.lags.get("")).copied().unwrap_or_default()
    }

    /// What becomes of a request with these calls, or of one of its calls.
    pub(super) fn failure(&mut self, methods: &[&str], whole: bool) -> Option<Fail> {
        let meets = |(method, fail, left): &(Option<String>, Fail, Option<u32>)| {
            *left != Some(0)
                && fail.refusal().is_none() == whole
                && method.as_ref().is_none_or(|method| methods.contains(&method.as_str()))
        };
        let (_, fail, left) = self.failing.iter_mut().find(|failing| meets(failing))?;
        *left = left.map(|left| left - 1);
        Some(fail.clone())
    }
}

impl Agave {
    /// Ends every fault. Levels stay as far behind as they were set.
    pub fn recover(&self) {
        let mut faults = self.faults();
        let behind = std::mem::take(&mut faults.behind);
        *faults = Faults { behind, ..Faults::default() };
    }

    /// What comes instead of answers from now on.
    pub fn fail(&self, fail: Fail) {
        self.faults().failing.push((None, fail, None));
    }

    /// The same for requests that call a method.
    pub fn fail_on(&self, method: &str, fail: Fail) {
        self.faults().failing.push((Some(method.into()), fail, None));
    }

    /// The same for the next requests, or calls where it is an error of JSON-RPC.
    pub fn fail_next(&self, n: u32, fail: Fail) {
        self.faults().failing.push((None, fail, Some(n)));
    }

    /// Ends what the three above began.
    pub fn succeed(&self) {
        self.faults().failing.clear();
    }

    /// How many slots confirmed and finalized are behind: 1 and 31 at first.
    pub fn levels(&self, confirmed: u64, finalized: u64) {
        self.faults().behind = Behind { confirmed, finalized };
    }

    /// A level does not rise any more.
    pub fn hold(&self, level: Level) {
        let slot = self.slot_of(level);
        self.faults().held.insert(level, slot);
    }

    pub fn let_go(&self, level: Level) {
        self.faults().held.remove(&level);
    }

    /// Answers are as of so many slots ago.
    pub fn lag(&self, slots: u64) {
        self.lag_on("", slots);
    }

    /// The same for one method only: another node answers it.
    pub fn lag_on(&self, method: &str, slots: u64) {
        self.faults().lags.insert(method.into(), slots);
    }

    /// The next call is answered as of so many slots ago, and every second one after it: as behind a load balancer.
    pub fn lag_every_second(&self, slots: u64) {
        let mut faults = self.faults();
        (faults.balanced, faults.answered) = (slots, 0);
    }

    /// It stays where it is.
    pub fn stall(&self) {
        let now = self.chain().branch();
        self.answer_from("", now);
    }

    pub fn resume(&self) {
        self.answer_truly("");
    }

    /// A method is answered from another chain: of a fork, say.
    pub fn answer_from(&self, method: &str, chain: Chain) {
        self.faults().elsewhere.insert(method.into(), chain);
    }

    pub fn answer_truly(&self, method: &str) {
        self.faults().elsewhere.remove(method);
    }

    /// A block that is there is not given out: this error instead, or null.
    pub fn withhold(&self, slot: u64, code: Option<i64>) {
        self.faults().withheld.insert(slot, code);
    }

    pub fn give(&self, slot: u64) {
        self.faults().withheld.remove(&slot);
    }

    /// A slot that has a block is left out of `getBlocks`.
    pub fn omit(&self, slot: u64) {
        self.faults().omitted.insert(slot);
    }

    pub fn list(&self, slot: u64) {
        self.faults().omitted.remove(&slot);
    }

    /// The ledger begins here.
    pub fn prune_below(&self, slot: u64) {
        self.faults().first = slot;
    }

    /// Its status is null, wherever it landed.
    pub fn hide_status(&self, signature: &str) {
        self.faults().hidden_statuses.insert(signature.into());
    }

    /// `getTransaction` has null for it.
    pub fn hide_transaction(&self, signature: &str) {
        self.faults().hidden_transactions.insert(signature.into());
    }

    /// Ends both.
    pub fn show(&self, signature: &str) {
        let mut faults = self.faults();
        faults.hidden_statuses.remove(signature);
        faults.hidden_transactions.remove(signature);
    }

    /// Claims another network; None is the true one.
    pub fn genesis(&self, hash: Option<&str>) {
        self.faults().genesis = hash.map(Into::into);
    }

    /// Changes each true result of a method, seeing the parameters of the call.
    pub fn falsify(&self, method: &str, rule: impl Fn(&Value, &mut Value) + Send + 'static) {
        self.faults().rules.insert(method.into(), Box::new(rule));
    }

    pub fn honest(&self, method: &str) {
        self.faults().rules.remove(method);
    }

    pub fn socket(&self, socket: Socket) {
        self.faults().socket = socket;
    }

    /// Ends the connections of its WebSocket.
    pub fn cut_sockets(&self) {
        self.cut.send_replace(());
    }
}
