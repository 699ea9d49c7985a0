//! The endpoints of a network, asked in turn until one has an answer.

use std::time::Duration;

use h402_watch_engine::id::BlockRef;
use h402_watch_engine::input::Verification;
use serde_json::value::RawValue;

use super::endpoint::{Call, CallError, Endpoint};
use super::{EndpointHealth, EndpointSettings};

/// What the endpoints, all told, had to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// One of them has it; its place in the pool comes along.
    Found(usize, T),
    /// All that could be asked don't have it.
    Absent,
    /// None could be asked, or all that were failed.
    Failed(String),
}

impl<T> Answer<T> {
    /// What was found; absence is an error too.
    pub fn found(self, what: &str) -> Result<T, String> {
        match self {
            Self::Found(_, value) => Ok(value),
            Self::Absent => Err(format!("no endpoint has {what}")),
            Self::Failed(error) => Err(error),
        }
    }

    /// The same of another thing.
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Found(source, value) => Answer::Found(source, to(value)),
            Self::Absent => Answer::Absent,
            Self::Failed(error) => Answer::Failed(error),
        }
    }

    /// Why it was not found.
    pub fn why_not(self, what: &str) -> String {
        self.found(what).err().unwrap_or_default()
    }
}

/// The answers to a batch of calls, in order.
pub type Answers = Vec<Result<Box<RawValue>, CallError>>;

/// Says what is wrong with an answer.
type Judge = dyn Fn(&RawValue) -> Result<(), String> + Send + Sync;

/// How an endpoint shows which chain it is of.
pub struct Identity {
    /// What it is asked.
    pub question: Call,
    /// Whether the answer is right; says what is wrong.
    pub judge: Box<Judge>,
}

/// The endpoints, the preferred one first.
pub struct Endpoints {
    identity: Identity,
    all: Vec<Endpoint>,
}

impl Endpoints {
    /// `optional` methods can be done without; what a node says of the others is never "not offered".
    pub fn new(identity: Identity, settings: &[EndpointSettings], optional: &'static [&'static str]) -> Self {
        Self { identity, all: settings.iter().map(|one| Endpoint::new(one.clone(), optional)).collect() }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn at(&self, index: usize) -> &Endpoint {
        &self.all[index]
    }

    /// The highest block that an endpoint claims as its tip.
    pub fn tip_claimed(&self) -> Option<BlockRef> {
        self.all.iter().filter_map(Endpoint::tip).max_by_key(|tip| tip.height)
    }

    pub fn health(&self) -> Vec<EndpointHealth> {
        self.all.iter().map(Endpoint::health).collect()
    }

    /// Whether an endpoint may be asked: not resting, and of the right chain. That is asked for at first, and
    /// again after each failure.
    pub async fn is_usable(&self, index: usize) -> bool {
        let endpoint = &self.all[index];
        if !endpoint.is_up() {
            return false;
        }
        if endpoint.is_checked() {
            return true;
        }
        let (method, params) = &self.identity.question;
        let Ok(said) = endpoint.call::<Box<RawValue>>(method, params).await else { return false };
        match (self.identity.judge)(&said) {
            Ok(()) => {
                endpoint.set_checked();
                true
            }
            Err(why) => {
                endpoint.quarantine(why);
                false
            }
        }
    }

    /// Asks from `start` on, one endpoint after the other, until `read` finds something in the answers.
    ///
    /// `null` is not a fact about the chain: the next endpoint is asked (research/evm.md §2.1, bitcoin.md §6.1).
    pub async fn first<T>(
        &self,
        start: usize,
        calls: &[Call],
        read: impl Fn(&Endpoint, Answers) -> Result<Option<T>, CallError>,
    ) -> Answer<T> {
        let mut absent = false;
        let mut failure = String::from("no endpoint is up");
        for offset in 0..self.all.len() {
            let index = (start + offset) % self.all.len();
            let endpoint = &self.all[index];
            if !calls.iter().all(|(method, _)| endpoint.offers(method)) || !self.is_usable(index).await {
                continue;
            }
            let answered = endpoint.batches(calls).await.and_then(|answers| read(endpoint, answers));
            match answered {
                Ok(Some(value)) => return Answer::Found(index, value),
                Ok(None) => absent = true,
                Err(error) => failure = format!("{}: {error}", endpoint.name()),
            }
        }
        if absent { Answer::Absent } else { Answer::Failed(failure) }
    }

    /// The same question to each endpoint that may be asked: the answer that at least `quorum` of them gave.
    pub async fn agreed<T: PartialEq>(
        &self,
        quorum: usize,
        calls: &[Call],
        read: impl Fn(&Endpoint, Answers) -> Result<Option<T>, CallError>,
    ) -> Result<T, String> {
        let mut given: Vec<(T, usize)> = Vec::new();
        for index in 0..self.all.len() {
            let endpoint = &self.all[index];
            if !calls.iter().all(|(method, _)| endpoint.offers(method)) || !self.is_usable(index).await {
                continue;
            }
            let Ok(Some(value)) = endpoint.batches(calls).await.and_then(|answers| read(endpoint, answers)) else {
                continue;
            };
            match given.iter_mut().find(|(other, _)| *other == value) {
                Some((_, count)) => *count += 1,
                None => given.push((value, 1)),
            }
        }
        let best = given.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count >= quorum);
        best.map(|(value, _)| value).ok_or_else(|| format!("no {quorum} endpoints agree"))
    }

    /// What nothing proves: the word of `quorum` endpoints, or of the first that has it where no quorum is asked for.
    pub async fn on_their_word<T: PartialEq>(
        &self,
        quorum: usize,
        calls: &[Call],
        read: impl Fn(&Endpoint, Answers) -> Result<Option<T>, CallError>,
        what: &str,
    ) -> Result<(T, Verification), String> {
        if quorum < 2 {
            return Ok((self.first(0, calls, read).await.found(what)?, Verification::Endpoint));
        }
        let value = self.agreed(quorum, calls, read).await?;
        // What was asked for, not who happened to be up: that would be another word in another replica's artefacts.
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok((value, Verification::Quorum { agreed: count(quorum), asked: count(self.len()) }))
    }
}

/// The first answer, unless it is `null` or the node does not know what was asked for.
pub fn value(answers: Answers) -> Result<Option<Box<RawValue>>, CallError> {
    match answers.into_iter().next() {
        Some(Err(CallError::Node { .. })) | None => Ok(None),
        Some(Ok(raw)) if raw.get() == "null" => Ok(None),
        Some(answer) => answer.map(Some),
    }
}

/// Whether the last answer, taken off, is about something that the endpoint has.
pub fn has_last(answers: &mut Answers) -> bool {
    answers.pop().is_some_and(|answer| answer.is_ok_and(|raw| raw.get() != "null"))
}

/// What an endpoint said can't be: it rests.
pub fn blame(endpoint: &Endpoint, what: &str) -> CallError {
    endpoint.blame(what);
    CallError::Endpoint(what.to_owned())
}

/// The largest height, slot or time that is believed: larger ones don't fit JSON's whole numbers, and overflow sums.
pub const NUMBER_MAX: u64 = 1 << 53;

/// The pause between two tries of something that no endpoint could give.
pub const RETRY: Duration = Duration::from_millis(500);
