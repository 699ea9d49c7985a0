//! What the endpoints of a cluster are asked, and what of their answers can't be.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use h402_watch_engine::id::TxId;
use h402_watch_engine::input::Verification;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use solana_hash::Hash;

use super::facts::{self, Executed};
use super::statuses::{STATUSES_AT_ONCE, Statuses};
use super::text::{Link, REFERENCE_LENGTH};
use super::wire::{RpcBlock, RpcTx};
use crate::chain::endpoint::{Call, CallError, Endpoint};
use crate::chain::pool::{Answer, Answers, Endpoints, Identity, NUMBER_MAX, blame, value};
use crate::chain::walk::{At, Chain};
use crate::chain::{EndpointSettings, Mailbox};

/// Transactions that are read together.
pub const READ_AT_ONCE: usize = 50;
/// Methods that can be done without.
const OPTIONAL: [&str; 1] = ["getTokenAccountsByOwner"];
/// Slots that are listed at once: some of them are empty.
const SLOTS_AT_ONCE: u64 = 128;
/// Slots that may be listed at once: a cluster that was started anew has left many empty (agave: `MAX_GET_CONFIRMED_BLOCKS_RANGE`).
const SLOTS_MAX: u64 = 500_000;
/// The highest version of transactions that may be told of. Their accounts and balances look the same in all of them, and one
/// that is withheld withholds its block (-32015).
const VERSION_MAX: u8 = 255;

/// "Block not available", "slot was skipped", the same "in long-term storage", "block status not yet available": none of them
/// says that there is no such block (research/solana.md §3.1; agave `custom_error.rs`).
const NOT_HERE: [i64; 4] = [-32004, -32007, -32009, -32014];

/// A block as it was read.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub link: Link,
    pub parent_slot: u64,
    /// The transactions that concern somebody; of a block that was read whole.
    pub hits: Option<Vec<Executed>>,
}

/// How much of a block is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Header,
    /// With the accounts and balances of its transactions.
    Whole,
}

/// How far endpoints are, and what they have above our head.
#[derive(Clone, Debug)]
pub struct View {
    /// The highest slot with a confirmed block.
    pub confirmed: u64,
    /// The highest slot with a finalized block.
    pub finalized: u64,
    /// The slots above our head that have a confirmed block, a bounded number.
    pub above: Vec<u64>,
    pub statuses: Statuses,
}

/// The endpoints of a cluster.
pub struct Node {
    endpoints: Endpoints,
    mailbox: Arc<Mailbox>,
}

impl Deref for Node {
    type Target = Endpoints;

    fn deref(&self) -> &Endpoints {
        &self.endpoints
    }
}

impl Node {
    /// Of the cluster whose genesis hash starts with `reference`.
    pub fn new(reference: &str, settings: &[EndpointSettings], mailbox: Arc<Mailbox>) -> Self {
        let reference = reference.to_owned();
        let judge = move |said: &RawValue| match serde_json::from_str::<&str>(said.get()) {
            Ok(genesis) if genesis.get(..REFERENCE_LENGTH) == Some(&reference) => Ok(()),
            Ok(genesis) => Err(format!("the cluster with genesis {genesis}, expected {reference}")),
            Err(_) => Err("an answer that can't be read".into()),
        };
        let identity = Identity { question: ("getGenesisHash", json!([])), judge: Box::new(judge) };
        Self { endpoints: Endpoints::new(identity, settings, &OPTIONAL), mailbox }
    }

    /// How far the cluster is, as one endpoint has it, or as `quorum` of them do; and the statuses of some transactions.
    pub async fn look(
        &self,
        start: usize,
        above: Option<u64>,
        txs: &[TxId],
        history: bool,
        quorum: usize,
    ) -> Result<(usize, View), String> {
        let mut calls = vec![("getSlot", json!([confirmed()])), ("getSlot", json!([{"commitment": "finalized"}]))];
        if let Some(head) = above {
            calls.push(get_blocks(head + 1, head + SLOTS_AT_ONCE));
        }
        calls.extend(Statuses::calls(txs, history));
        let begins = history && !txs.is_empty();
        if begins {
            calls.push(("getFirstAvailableBlock", json!([])));
        }
        let read = |endpoint: &Endpoint, mut answers: Answers| {
            // Of what lies below its first block an endpoint knows no statuses.
            let first = if begins { answers.pop() } else { None };
            let first: u64 = first.map_or(Ok(0), |first| endpoint.read(&first?))?;
            if above.is_some_and(|head| first > head + 1) {
                return Err(CallError::Endpoint(format!("its ledger begins at slot {first}")));
            }
            read_view(endpoint, answers, above.is_some(), txs).map(Some)
        };
        if quorum < 2 {
            return match self.first(start, &calls, read).await {
                Answer::Found(index, view) => Ok((index, view)),
                other => Err(other.why_not("a tip")),
            };
        }
        let mut views = Vec::new();
        for offset in 0..self.len() {
            let index = (start + offset) % self.len();
            if self.is_usable(index).await
                && let Ok(answers) = self.at(index).batches(&calls).await
                && let Ok(Some(view)) = read(self.at(index), answers)
            {
                views.push((index, view));
            }
        }
        merge(views, quorum).ok_or_else(|| format!("fewer than {quorum} endpoints answer"))
    }

    /// The slots of a range that have a confirmed block, as one endpoint has them.
    pub async fn listed(&self, start: usize, from: u64, to: u64) -> Answer<Vec<u64>> {
        let calls = [get_blocks(from, to.min(from + SLOTS_MAX - 1))];
        self.first(start, &calls, |endpoint, answers| {
            let Some(raw) = value(answers)? else { return Ok(None) };
            endpoint.read::<Vec<u64>>(&raw).map(Some)
        })
        .await
    }

    /// Blocks at slots that are said to have one, as one endpoint has them, as far as they are linked.
    pub async fn blocks(&self, start: usize, slots: &[u64], detail: Detail) -> Answer<Vec<Fetched>> {
        let calls: Vec<_> = slots.iter().map(|slot| get_block(*slot, detail)).collect();
        self.first(start, &calls, |endpoint, answers| {
            let mut blocks: Vec<Fetched> = Vec::with_capacity(answers.len());
            for (answer, slot) in answers.into_iter().zip(slots) {
                let block = match self.read_block(endpoint, answer, *slot, detail) {
                    Ok(Some(block)) => block,
                    // What is below it can be told all the same.
                    Ok(None) | Err(_) if !blocks.is_empty() => break,
                    Ok(None) => return Ok(None),
                    Err(error) => return Err(error),
                };
                let linked = |below: &Fetched| below.link.hash == block.link.parent;
                if !blocks.last().is_none_or(linked) {
                    // A block in between was left out, or there was a fork while it was answering.
                    break;
                }
                blocks.push(block);
            }
            Ok(Some(blocks))
        })
        .await
    }

    /// The height of the first block that an endpoint has.
    pub async fn first_height(&self, index: usize) -> Result<u64, CallError> {
        let first: u64 = self.at(index).call("getFirstAvailableBlock", json!([])).await?;
        // At its very start nothing is below.
        if first == 0 {
            return Ok(0);
        }
        let answers = self.at(index).batch(&[get_header(first)]).await?;
        let answer = answers.into_iter().next().unwrap_or_else(|| Err(CallError::Endpoint("no answer".into())));
        let block = self.read_block(self.at(index), answer, first, Detail::Header)?;
        block.map(|block| block.link.height).ok_or_else(|| CallError::Endpoint("no first block".into()))
    }

    /// The block at a slot.
    pub async fn block(&self, start: usize, slot: u64, detail: Detail) -> Answer<Fetched> {
        self.first(start, &[get_block(slot, detail)], |endpoint, mut answers| match answers.pop() {
            Some(answer) => self.read_block(endpoint, answer, slot, detail),
            None => Ok(None),
        })
        .await
    }

    /// What a block of the chain holds that concerns somebody: one endpoint's word, or that of `quorum`.
    pub async fn hits_at(&self, link: &Link, quorum: usize) -> Result<(Vec<Executed>, Verification), String> {
        let read = |endpoint: &Endpoint, mut answers: Answers| {
            let Some(answer) = answers.pop() else { return Ok(None) };
            let block = self.read_block(endpoint, answer, link.slot, Detail::Whole)?;
            Ok(block.filter(|block| block.link.hash == link.hash).and_then(|block| block.hits))
        };
        let calls = [get_block(link.slot, Detail::Whole)];
        self.on_their_word(quorum, &calls, read, &format!("the block at slot {}", link.slot)).await
    }

    /// Transactions that landed in these slots, each with its block, if that is `ours`: what one endpoint says of each, or
    /// `quorum` of them do.
    pub async fn landed(
        &self,
        txs: &[(TxId, u64)],
        quorum: usize,
        ours: impl Fn(&Link) -> bool + Sync,
    ) -> Vec<Option<(Executed, Link, Verification)>> {
        let options = json!({
            "encoding": "json", "commitment": "confirmed", "maxSupportedTransactionVersion": VERSION_MAX,
        });
        let question = |(tx, slot): &(TxId, u64)| {
            [("getTransaction", json!([tx.as_str(), options])), get_block(*slot, Detail::Header)]
        };
        let questions: Vec<_> = txs.iter().map(question).collect();
        let told = self.told(&questions, quorum, |endpoint, i, answers| {
            let mut answers = answers.into_iter();
            let Some(raw) = value(answers.next().into_iter().collect())? else { return Ok(None) };
            let read: RpcTx<'_> = parse(endpoint, &raw)?;
            let executed = Executed::of_transaction(&read).map_err(|what| blame(endpoint, &what))?;
            if executed.tx != txs[i].0 {
                return Err(blame(endpoint, "another transaction than was asked for"));
            }
            let Some(block) = answers.next() else { return Ok(None) };
            let block = self.read_block(endpoint, block, txs[i].1, Detail::Header)?;
            let fits = |block: &Fetched| read.slot == txs[i].1 && ours(&block.link);
            Ok(block.filter(fits).map(|block| (executed, block.link)))
        });
        told.await.into_iter().map(|told| told.map(|((tx, link), word)| (tx, link, word))).collect()
    }

    /// The answers to questions of two calls each, asked together: for each the one that `quorum` endpoints gave.
    async fn told<T: PartialEq>(
        &self,
        questions: &[[Call; 2]],
        quorum: usize,
        read: impl Fn(&Endpoint, usize, Answers) -> Result<Option<T>, CallError>,
    ) -> Vec<Option<(T, Verification)>> {
        let mut votes: Vec<Vec<(T, u32)>> = questions.iter().map(|_| Vec::new()).collect();
        let mut asked = 0;
        let enough = u32::try_from(quorum).unwrap_or(u32::MAX);
        for index in 0..self.len() {
            let is_open = |votes: &Vec<(T, u32)>| votes.iter().all(|(_, count)| *count < enough);
            let open: Vec<_> = (0..questions.len()).filter(|i| is_open(&votes[*i])).collect();
            if open.is_empty() {
                break;
            }
            if !self.is_usable(index).await {
                continue;
            }
            let calls: Vec<_> = open.iter().flat_map(|i| questions[*i].clone()).collect();
            let Ok(answers) = self.at(index).batches(&calls).await else { continue };
            asked += 1;
            let mut answers = answers.into_iter();
            for i in open {
                let mine = answers.by_ref().take(2).collect();
                let Ok(Some(said)) = read(self.at(index), i, mine) else { continue };
                match votes[i].iter_mut().find(|(other, _)| *other == said) {
                    Some((_, count)) => *count += 1,
                    None => votes[i].push((said, 1)),
                }
            }
        }
        let word = |agreed| if quorum < 2 { Verification::Endpoint } else { Verification::Quorum { agreed, asked } };
        let elect = |votes: Vec<(T, u32)>| {
            let best = votes.into_iter().filter(|(_, count)| *count >= enough).max_by_key(|(_, count)| *count);
            best.map(|(said, agreed)| (said, word(agreed)))
        };
        votes.into_iter().map(elect).collect()
    }

    fn read_block(
        &self,
        endpoint: &Endpoint,
        answer: Result<Box<RawValue>, CallError>,
        slot: u64,
        detail: Detail,
    ) -> Result<Option<Fetched>, CallError> {
        let raw = match answer {
            Err(CallError::Node { code, .. }) if NOT_HERE.contains(&code) => return Ok(None),
            Ok(raw) if raw.get() == "null" => return Ok(None),
            answer => answer?,
        };
        let block: RpcBlock<'_> = parse(endpoint, &raw)?;
        let (Ok(hash), Ok(parent)) = (block.blockhash.parse(), block.previous_blockhash.parse()) else {
            return Err(blame(endpoint, "a block hash that is none"));
        };
        let height = block.block_height.ok_or_else(|| blame(endpoint, "a block without its height"))?;
        // Its time decides deadlines: one that is not known yet is waited for.
        let Some(time) = block.block_time else { return Ok(None) };
        if block.parent_slot >= slot.max(1) || height > slot || slot > NUMBER_MAX || time > NUMBER_MAX / 1000 {
            return Err(blame(endpoint, "a block out of its place"));
        }
        let hits = match (detail, block.transactions) {
            (Detail::Header, _) => None,
            (Detail::Whole, None) => return Err(blame(endpoint, "a block without its transactions")),
            (Detail::Whole, Some(txs)) => {
                let wants = self.mailbox.interests();
                if !wants.interests.recipients.is_empty() && !txs.iter().all(facts::says_who_was_paid) {
                    return Ok(None);
                }
                let hits = txs.iter().filter(|tx| facts::concerns(&wants.interests, tx)).map(Executed::of_block);
                Some(hits.collect::<Result<_, _>>().map_err(|what| blame(endpoint, &what))?)
            }
        };
        let link = Link { height, slot, hash, parent, time };
        Ok(Some(Fetched { link, parent_slot: block.parent_slot, hits }))
    }

    /// Whether `quorum` endpoints call a block final, `start` being asked first.
    pub async fn is_final(&self, start: usize, link: &Link, quorum: usize) -> bool {
        let mut agreed = 0;
        for offset in 0..self.len() {
            let index = (start + offset) % self.len();
            // The mirror's times may be set right.
            let same = |theirs: &Link, ours: &Link| (theirs.hash, theirs.height) == (ours.hash, ours.height);
            agreed += self.has(index, &[*link], get_final, same).await.into_iter().filter(|has| *has).count();
            if agreed >= quorum {
                return true;
            }
        }
        false
    }

    /// Whether an endpoint's block at each slot is the same.
    async fn has(
        &self,
        index: usize,
        links: &[Link],
        call: impl Fn(u64) -> Call,
        same: impl Fn(&Link, &Link) -> bool,
    ) -> Vec<bool> {
        if !self.is_usable(index).await {
            return Vec::new();
        }
        let calls: Vec<_> = links.iter().map(|link| call(link.slot)).collect();
        let Ok(answers) = self.at(index).batches(&calls).await else { return Vec::new() };
        let has = |(answer, link): (_, &Link)| {
            let block = self.read_block(self.at(index), answer, link.slot, Detail::Header);
            block.is_ok_and(|block| block.is_some_and(|block| same(&block.link, link)))
        };
        answers.into_iter().zip(links).map(has).collect()
    }
}

impl Chain for Node {
    type Hash = Hash;
    type Block = Fetched;

    fn link(block: &Fetched) -> Link {
        block.link
    }

    async fn parent(&self, of: &Fetched) -> Answer<Fetched> {
        let slot = of.parent_slot;
        self.first(0, &[get_header(slot)], |endpoint, mut answers| {
            let Some(answer) = answers.pop() else { return Ok(None) };
            let block = self.read_block(endpoint, answer, slot, Detail::Header)?;
            // Another endpoint may be on another branch: that is no fault of its.
            Ok(block.filter(|block| block.link.hash == of.link.parent))
        })
        .await
    }

    async fn range(&self, start: usize, from: At, count: u64) -> Answer<Vec<Fetched>> {
        match self.listed(start, from.slot, from.slot + SLOTS_AT_ONCE).await {
            Answer::Found(index, slots) if !slots.is_empty() => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                self.blocks(index, &slots[..count.min(slots.len())], Detail::Header).await
            }
            Answer::Found(..) | Answer::Absent => Answer::Absent,
            Answer::Failed(error) => Answer::Failed(error),
        }
    }

    async fn agreeing(&self, beside: usize, link: &Link) -> usize {
        let mut agreeing = 0;
        for index in (0..self.len()).filter(|index| *index != beside) {
            agreeing += self.has(index, &[*link], get_header, Link::eq).await.into_iter().filter(|has| *has).count();
        }
        agreeing
    }

    async fn agreed_prefix(&self, supplier: Option<usize>, blocks: &[Fetched], quorum: usize) -> usize {
        let links: Vec<_> = blocks.iter().map(|block| block.link).collect();
        let mut prefixes = Vec::new();
        for index in 0..self.len() {
            prefixes.push(match supplier == Some(index) {
                true => blocks.len(),
                false => self.has(index, &links, get_header, Link::eq).await.into_iter().take_while(|has| *has).count(),
            });
        }
        prefixes.sort_unstable_by_key(|length| Reverse(*length));
        prefixes.get(quorum.saturating_sub(1)).copied().unwrap_or(0)
    }
}

fn get_block(slot: u64, detail: Detail) -> Call {
    let details = if detail == Detail::Whole { "accounts" } else { "none" };
    let options = json!({
        "encoding": "json", "transactionDetails": details, "rewards": false,
        "commitment": "confirmed", "maxSupportedTransactionVersion": VERSION_MAX,
    });
    ("getBlock", json!([slot, options]))
}

fn get_header(slot: u64) -> Call {
    get_block(slot, Detail::Header)
}

/// The header of a block that is final, and none of one that is not.
fn get_final(slot: u64) -> Call {
    let (method, mut params) = get_block(slot, Detail::Header);
    params[1]["commitment"] = json!("finalized");
    (method, params)
}

fn get_blocks(from: u64, to: u64) -> Call {
    ("getBlocks", json!([from, to, confirmed()]))
}

/// Reads an answer whose texts are borrowed from it; one that can't be read is the endpoint's failure.
pub(super) fn parse<'a, T: Deserialize<'a>>(endpoint: &Endpoint, raw: &'a RawValue) -> Result<T, CallError> {
    serde_json::from_str(raw.get()).map_err(|error| blame(endpoint, &format!("an answer that can't be read: {error}")))
}

fn read_view(endpoint: &Endpoint, answers: Answers, listed: bool, txs: &[TxId]) -> Result<View, CallError> {
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or_else(|| Err(CallError::Endpoint("an answer is missing".into())));
    let (confirmed, finalized) = (endpoint.read(&next()?)?, endpoint.read(&next()?)?);
    let above: Vec<u64> = if listed { endpoint.read(&next()?)? } else { Vec::new() };
    if confirmed > NUMBER_MAX || finalized > NUMBER_MAX || !above.is_sorted_by(|a, b| a < b) {
        return Err(blame(endpoint, "slots beyond all numbers, or out of order"));
    }
    let chunks = txs.chunks(STATUSES_AT_ONCE).map(|_| next()).collect::<Result<Vec<_>, _>>()?;
    Ok(View { confirmed, finalized, above, statuses: Statuses::read(endpoint, txs, &chunks)? })
}

/// What a quorum of views has in common; the slots are those of the first.
fn merge(views: Vec<(usize, View)>, quorum: usize) -> Option<(usize, View)> {
    let nth = |of: fn(&View) -> u64| {
        let mut all: Vec<_> = views.iter().map(|(_, view)| of(view)).collect();
        all.sort_unstable_by_key(|slot| Reverse(*slot));
        all.get(quorum - 1).copied()
    };
    let (finalized, covers) = (nth(|view| view.finalized)?, nth(|view| view.statuses.covers)?);
    let mut views = views.into_iter();
    let (index, mut first) = views.next()?;
    first.finalized = finalized;
    for (_, view) in views {
        first.statuses.add(view.statuses);
    }
    first.statuses.covers = covers;
    Some((index, first))
}

/// The commitment of all that is read.
pub(super) fn confirmed() -> Value {
    json!({"commitment": "confirmed"})
}

/// By transaction.
pub(super) type ByTx<T> = HashMap<TxId, T>;
