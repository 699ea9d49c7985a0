//! Questions about what the chain and the mempools hold already: for a watch that was just made, for a transaction that left
//! the chain, for an address that somebody asks about.
//!
//! A look-up is answered under the mirror's head. What lies in blocks up to there is found here; what comes after is matched
//! when its block joins, because the interest was opened before the look-up. So nodes may have blocks on top of our head while
//! they are asked: a chain that grows fast keeps no look-up waiting. Nor do look-ups keep the chain waiting: between two looks
//! at it a bounded number is answered, and one that can't be waits alone.
//!
//! bitcoind finds a mined transaction without an index of transactions only while one of its first outputs is unspent;
//! otherwise the blocks from the named height on are searched ([`super::scan`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bitcoin::{BlockHash, ScriptBuf, Txid};
use h402_watch_engine::changes::LookUp;
use h402_watch_engine::id::{Address, TxId};
use h402_watch_engine::input::{Observation, TxFact};
use h402_watch_engine::request::Subject;

use super::block::{Decoded, short};
use super::facts::Hit;
use super::follow::Follower;
use super::node::{Mined, PRESENCE_MAX};
use super::text::{self, Link};
use crate::chain::endpoint::BATCH_MAX;
use crate::chain::pool::Answer;
use crate::chain::query::Searching;
use crate::chain::walk::{At, Chain as _};
use crate::chain::{AddressQuery, Stopping};

/// Look-ups that are taken in; of those of addresses, for which nodes are hardly asked, so many are answered together.
const LOOK_UPS_MAX: usize = 1000;
/// Transactions that are looked for in blocks which are not kept, between two looks at the chain.
const MINED_AT_ONCE: usize = 12;
/// Blocks that a look-up may search at once; more of them are searched in pieces.
const BLOCKS_AT_ONCE: usize = 12;
/// Blocks that are searched for an address query between two looks at the chain.
const QUERY_BLOCKS_AT_ONCE: usize = 4;

/// Look-ups that were taken in.
#[derive(Default)]
pub struct LookUps {
    /// To be answered next.
    ready: VecDeque<LookUp>,
    /// They could not be answered, and are tried again after the next poll.
    waiting: VecDeque<LookUp>,
}

impl LookUps {
    fn len(&self) -> usize {
        self.ready.len() + self.waiting.len()
    }

    /// Whether some can be answered only after another look at the chain.
    pub fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tries again what could not be answered.
    pub fn wake(&mut self) {
        self.ready.append(&mut self.waiting);
    }
}

/// Look-ups that were not answered.
#[derive(Default)]
pub struct Unanswered {
    /// They can't be for now.
    pub waiting: Vec<LookUp>,
    /// They would have been too much at once.
    pub rest: Vec<LookUp>,
}

/// What was found of transactions, and what was not looked for to the end.
#[derive(Default)]
struct Told {
    facts: HashMap<Txid, TxFact>,
    waiting: HashSet<Txid>,
    rest: HashSet<Txid>,
}

impl Follower {
    /// Answers what was asked since the last time, as far as it can be told now, up to a bounded number; after a `poll` also
    /// what could not be told before.
    pub(super) async fn answer(&mut self, poll: bool) -> Result<(), Stopping> {
        if self.walk.mirror.head().is_none() {
            return Ok(());
        }
        self.answer_look_ups().await?;
        self.go_on_with_scan().await?;
        let lost = if poll { std::mem::take(&mut self.lost) } else { Vec::new() };
        let orphans = self.mailbox.take_locates(BATCH_MAX);
        let orphans = lost.into_iter().chain(orphans.iter().filter_map(|tx| text::parse_txid(tx.as_str())));
        self.locate(&orphans.collect::<Vec<_>>()).await?;
        self.go_on_with_query().await;
        Ok(())
    }

    /// Whether more was asked than is answered at once.
    pub(super) fn has_more_questions(&self) -> bool {
        let (look_ups, others) = self.mailbox.has_questions();
        let able = self.walk.mirror.head().is_some();
        let look_ups = !self.look_ups.ready.is_empty() || (look_ups && self.look_ups.len() < LOOK_UPS_MAX);
        able && (self.query.is_some() || others || look_ups)
    }

    async fn answer_look_ups(&mut self) -> Result<(), Stopping> {
        let room = LOOK_UPS_MAX.saturating_sub(self.look_ups.len());
        self.look_ups.ready.extend(self.mailbox.take_look_ups(room));
        let mut near = Vec::new();
        let mut txs = 0;
        while let Some(look_up) = self.look_ups.ready.pop_front() {
            if self.is_far(&look_up) {
                self.scan.add(look_up);
                continue;
            }
            txs += usize::from(watched(&look_up).is_some());
            near.push(look_up);
            if txs == PRESENCE_MAX {
                break;
            }
        }
        let Unanswered { waiting, rest } = self.answer_now(near, false).await?;
        self.look_ups.waiting.extend(waiting);
        rest.into_iter().rev().for_each(|look_up| self.look_ups.ready.push_front(look_up));
        Ok(())
    }

    /// The blocks of the mirror that a look-up has to search.
    fn links_of(&self, look_up: &LookUp) -> impl Iterator<Item = &Link> {
        let (from, since) = (look_up.from_height, look_up.since);
        self.walk.mirror.iter().filter(move |link| match from {
            Some(from) => link.height >= from,
            None => since.is_some_and(|since| link.timestamp() >= since),
        })
    }

    /// Whether a look-up has to search more blocks than at once.
    fn is_far(&self, look_up: &LookUp) -> bool {
        let bottom = self.walk.mirror.bottom().map_or(0, |bottom| bottom.height);
        look_up.from_height.is_some_and(|from| from < bottom) || self.links_of(look_up).count() > BLOCKS_AT_ONCE
    }

    /// Answers look-ups, up to [`PRESENCE_MAX`] of transactions among them; the blocks need not be searched again where that
    /// was done. Gives those back that were not answered.
    pub(super) async fn answer_now(&mut self, look_ups: Vec<LookUp>, searched: bool) -> Result<Unanswered, Stopping> {
        if look_ups.is_empty() {
            return Ok(Unanswered::default());
        }
        let txids: Vec<_> = look_ups.iter().filter_map(watched).collect();
        let pay_to: Vec<_> = look_ups.iter().filter(|it| watched(it).is_none()).flat_map(recipients).cloned().collect();
        let found = async {
            let told = self.transactions_of(&txids).await?;
            let pending = self.pending_to(&pay_to).await?;
            let blocks = if searched { Vec::new() } else { self.blocks_of(&look_ups).await? };
            Ok::<_, String>((told, pending, blocks))
        };
        let (told, pending, blocks) = match found.await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(network = %self.settings.network, error, "look-ups wait");
                return Ok(Unanswered { waiting: look_ups, rest: Vec::new() });
            }
        };
        let Some(under) = self.walk.mirror.head().map(Link::block_ref) else {
            return Ok(Unanswered { waiting: look_ups, rest: Vec::new() });
        };
        let mut unanswered = Unanswered::default();
        // The later ones know better: what was pending when it was asked may be in a block.
        let all: Vec<_> = pending.into_iter().chain(blocks).chain(told.facts.into_values()).collect();
        let found = ByName::new(&all);
        for look_up in look_ups {
            let txid = watched(&look_up);
            if txid.is_some_and(|txid| told.rest.contains(&txid)) {
                unanswered.rest.push(look_up);
            } else if txid.is_some_and(|txid| told.waiting.contains(&txid)) {
                unanswered.waiting.push(look_up);
            } else {
                let facts = found.of(&look_up);
                let watch = look_up.watch;
                self.reports.observe(Observation::LookedUp { watch, under: under.clone(), facts }).await?;
            }
        }
        Ok(unanswered)
    }

    /// The facts about transactions, those that can be found without a search.
    async fn transactions_of(&mut self, txids: &[Txid]) -> Result<Told, String> {
        if txids.is_empty() {
            return Ok(Told::default());
        }
        let (present, _) = self.presence(txids).await.ok_or("no endpoint has our head")?;
        let in_mempool: Vec<_> = txids.iter().zip(&present).filter_map(|(txid, at)| Some((*txid, (*at)?))).collect();
        let pending = self.pending_facts(&in_mempool, true).await?;
        let elsewhere: Vec<_> = txids.iter().filter(|txid| !pending.contains_key(*txid)).copied().collect();
        let mut told = self.mined_facts(&elsewhere).await?;
        told.facts.extend(pending);
        Ok(told)
    }

    /// The facts about transactions in blocks, as far as a node tells in which.
    async fn mined_facts(&mut self, txids: &[Txid]) -> Result<Told, String> {
        let mut told = Told::default();
        if txids.is_empty() {
            return Ok(told);
        }
        let mut left = MINED_AT_ONCE;
        for (txid, mined) in txids.iter().zip(self.mined(txids).await?) {
            let ours = |block: &&Arc<Decoded>| self.walk.mirror.holds(block.link.height, block.link.hash);
            let kept = self.cache.holding(txid).find(ours).cloned();
            if kept.is_none() && mined.is_some() {
                if left == 0 {
                    told.rest.insert(*txid);
                    continue;
                }
                left -= 1;
            }
            match self.mined_fact(txid, kept, mined).await {
                Ok(fact) => told.facts.extend(fact.map(|fact| (*txid, fact))),
                Err(error) => {
                    tracing::debug!(network = %self.settings.network, %txid, error, "a look-up waits");
                    told.waiting.insert(*txid);
                }
            }
        }
        Ok(told)
    }

    async fn mined_fact(
        &mut self,
        txid: &Txid,
        kept: Option<Arc<Decoded>>,
        mined: Option<Mined>,
    ) -> Result<Option<TxFact>, String> {
        let block = match (kept, mined) {
            (Some(block), _) => block,
            (None, None) => return Ok(None),
            (None, Some(mined)) => match self.link_of(mined).await? {
                Some(link) => self.block_of(&link).await?,
                None => return Ok(None),
            },
        };
        let place = block.txids.iter().position(|other| other == txid);
        let place = place.ok_or("a transaction that is not in its block")?;
        Ok(self.facts_of(&block, vec![(place, Hit::Whole)]).await?.pop())
    }

    /// What the endpoints tell, one after the other: what one does not know another may, by its index.
    async fn mined(&self, txids: &[Txid]) -> Result<Vec<Option<Mined>>, String> {
        let mut all = vec![None; txids.len()];
        let mut answered = false;
        for index in 0..self.node.len() {
            if all.iter().all(Option::is_some) || !self.node.is_usable(index).await {
                continue;
            }
            let Ok(told) = self.node.mined(index, txids).await else { continue };
            answered = true;
            for (slot, told) in all.iter_mut().zip(told) {
                *slot = slot.or(told);
            }
        }
        if answered { Ok(all) } else { Err("no endpoint answers".into()) }
    }

    /// The block of our chain in which a transaction was mined, if it is one.
    async fn link_of(&self, mined: Mined) -> Result<Option<Link>, String> {
        let Some(head) = self.walk.mirror.head() else { return Ok(None) };
        let kept = |hash: BlockHash| self.walk.mirror.iter().rev().find(|link| link.hash == hash);
        let link = match mined {
            Mined::In(hash) if kept(hash).is_some() => return Ok(kept(hash).copied()),
            Mined::In(hash) => self.node.block(hash).await.map(|block| block.link),
            Mined::Deep { under, depth } => {
                let under = match kept(under) {
                    Some(link) => link.height,
                    None => self.node.block(under).await.found("the tip that it named")?.link.height,
                };
                let height = (under + 1).checked_sub(depth).ok_or("a transaction below the first block")?;
                if height > head.height {
                    return Ok(None);
                }
                if let Some(link) = self.walk.mirror.at(height) {
                    return Ok(Some(*link));
                }
                self.node.range(0, At::height(height), 1).await.map(|blocks| blocks[0].link)
            }
        };
        match link {
            Answer::Found(_, link) => Ok(self.is_ours(&link).await?.then_some(link)),
            Answer::Absent => Ok(None),
            Answer::Failed(error) => Err(error),
        }
    }

    /// Whether a block is in our chain. One above the head is not yet: it is matched when it joins.
    pub(super) async fn is_ours(&self, link: &Link) -> Result<bool, String> {
        let (Some(bottom), Some(head)) = (self.walk.mirror.bottom(), self.walk.mirror.head()) else {
            return Ok(false);
        };
        if link.height > head.height {
            return Ok(false);
        }
        if link.height >= bottom.height {
            let ours = self.walk.mirror.holds(link.height, link.hash);
            return if ours { Ok(true) } else { Err("in a block of another branch".into()) };
        }
        let quorum = self.settings.quorum;
        if quorum > 1 && self.node.agreed_links(None, &[*link], quorum).await == 0 {
            return Err(format!("fewer than {quorum} endpoints have block {}", link.height));
        }
        Ok(true)
    }

    /// The facts about transactions that mempools hold.
    async fn pending_facts(&mut self, present: &[(Txid, usize)], named: bool) -> Result<HashMap<Txid, TxFact>, String> {
        let mut facts = HashMap::new();
        for index in 0..self.node.len() {
            let here: Vec<_> = present.iter().filter(|(_, at)| *at == index).map(|(txid, _)| *txid).collect();
            if here.is_empty() {
                continue;
            }
            let txs = self.node.transactions(index, &here).await.map_err(|error| error.to_string())?;
            for (txid, tx) in here.into_iter().zip(txs) {
                let Some(tx) = tx else { continue };
                if let Some(fact) = self.pending(&txid, &tx, named).await {
                    self.mempool.note_seen(txid, &tx);
                    facts.insert(txid, fact);
                }
            }
        }
        Ok(facts)
    }

    /// The facts about pending transactions that pay one of these addresses.
    async fn pending_to(&mut self, pay_to: &[Address]) -> Result<Vec<TxFact>, String> {
        let shorts = self.shorts(pay_to.iter());
        let txids = self.mempool.paying(&shorts);
        let mut facts = Vec::new();
        for batch in txids.chunks(PRESENCE_MAX) {
            let (present, _) = self.presence(batch).await.ok_or("no endpoint has our head")?;
            let present: Vec<_> = batch.iter().zip(present).filter_map(|(txid, at)| Some((*txid, at?))).collect();
            facts.extend(self.pending_facts(&present, false).await?.into_values());
        }
        Ok(facts)
    }

    fn shorts<'a>(&self, pay_to: impl Iterator<Item = &'a Address>) -> Vec<u64> {
        let network = self.node.network();
        let scripts = pay_to.filter_map(|address| text::parse_address(address.as_str(), network).ok());
        scripts.map(|script| short(script.as_bytes())).collect()
    }

    /// What the blocks hold that look-ups have to search, each block fetched once for all: of what somebody watches, what they
    /// ask for.
    async fn blocks_of(&mut self, look_ups: &[LookUp]) -> Result<Vec<TxFact>, String> {
        let network = self.node.network();
        let script = |address: &Address| text::parse_address(address.as_str(), network).ok();
        let txids: HashSet<_> = look_ups.iter().filter_map(watched).collect();
        let scripts: HashSet<_> = look_ups.iter().flat_map(recipients).filter_map(script).collect();
        let mut links: BTreeMap<u64, Link> = BTreeMap::new();
        for look_up in look_ups {
            links.extend(self.links_of(look_up).map(|link| (link.height, *link)));
        }
        let mut facts = Vec::new();
        for link in links.into_values() {
            let block = self.block_of(&link).await?;
            let mut hits = self.hits(&block);
            hits.retain(|(place, _)| {
                txids.contains(&block.txids[*place]) || pays(&block.block.txdata[*place], &scripts)
            });
            facts.extend(self.facts_of(&block, hits).await?);
        }
        Ok(facts)
    }

    /// Where transactions went that left the chain.
    async fn locate(&mut self, txids: &[Txid]) -> Result<(), Stopping> {
        let Some(under) = self.walk.mirror.head().map(Link::block_ref) else { return Ok(()) };
        for txids in txids.chunks(PRESENCE_MAX) {
            let Some((present, sure)) = self.presence(txids).await else {
                self.lost.extend(txids);
                continue;
            };
            let here: Vec<_> = txids.iter().zip(&present).filter_map(|(txid, at)| Some((*txid, (*at)?))).collect();
            let Ok(facts) = self.pending_facts(&here, true).await else {
                self.lost.extend(txids);
                continue;
            };
            for (txid, at) in txids.iter().zip(present) {
                match facts.get(txid) {
                    Some(fact) => self.reports.observe(Observation::Seen(fact.clone())).await?,
                    // Gone while it was asked for, or asked for while the chain moved: it may be in a block that was not told yet.
                    None if at.is_some() || !sure => self.lost.push(*txid),
                    None => {
                        let missing = Observation::Missing { tx: text::tx(*txid), under: under.clone() };
                        self.reports.observe(missing).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers the address query that waits longest, a few blocks at a time.
    async fn go_on_with_query(&mut self) {
        if self.query.is_none() {
            let next = self.mailbox.take_queries(1).pop();
            self.query = next.and_then(|query| Searching::new(query, &self.walk.mirror));
        }
        let Some(mut asked) = self.query.take() else { return };
        for _ in 0..QUERY_BLOCKS_AT_ONCE {
            let Some(link) = asked.next_block() else { return asked.finish() };
            match self.received_in(&link, asked.query()).await {
                Ok(facts) => asked.add(&link, &facts),
                Err(error) => return asked.fail(error),
            }
        }
        self.query = Some(asked).filter(Searching::is_wanted);
    }

    async fn received_in(&mut self, link: &Link, query: &AddressQuery) -> Result<Vec<TxFact>, String> {
        let script = text::parse_address(query.address.as_str(), self.node.network())?;
        if !self.cache.may_pay(link.hash, &[short(script.as_bytes())]) {
            return Ok(Vec::new());
        }
        let block = self.block_of(link).await?;
        let scripts = HashSet::from([script]);
        let txs = block.block.txdata.iter().enumerate().filter(|(_, tx)| pays(tx, &scripts));
        let hits = txs.map(|(place, _)| (place, Hit::Whole)).collect();
        self.facts_of(&block, hits).await
    }
}

/// The transaction that a look-up is about, if it is about one.
pub(super) fn watched(look_up: &LookUp) -> Option<Txid> {
    match &look_up.subject {
        Subject::Transaction { tx, .. } => text::parse_txid(tx.as_str()),
        _ => None,
    }
}

/// Whom a look-up is about.
pub(super) fn recipients(look_up: &LookUp) -> impl Iterator<Item = &Address> {
    look_up.pay_to.iter()
}

/// Whether a transaction of a block pays one of these scripts.
pub(super) fn pays(tx: &bitcoin::Transaction, scripts: &HashSet<ScriptBuf>) -> bool {
    tx.output.iter().any(|output| scripts.contains(&output.script_pubkey))
}

/// Facts by what a look-up asks for.
struct ByName<'a> {
    facts: &'a [TxFact],
    txs: HashMap<&'a TxId, Vec<usize>>,
    recipients: HashMap<&'a Address, Vec<usize>>,
}

impl<'a> ByName<'a> {
    fn new(facts: &'a [TxFact]) -> Self {
        let (mut txs, mut recipients): (HashMap<_, Vec<_>>, HashMap<_, Vec<_>>) = Default::default();
        for (i, fact) in facts.iter().enumerate() {
            txs.entry(&fact.tx).or_default().push(i);
            for moved in &fact.transfers {
                recipients.entry(&moved.to).or_default().push(i);
            }
        }
        Self { facts, txs, recipients }
    }

    /// The facts for one look-up, one of each transaction, in their order.
    fn of(&self, look_up: &LookUp) -> Vec<TxFact> {
        let places: BTreeSet<usize> = match &look_up.subject {
            Subject::Transaction { tx, .. } => self.txs.get(tx).into_iter().flatten().copied().collect(),
            _ => recipients(look_up).filter_map(|address| self.recipients.get(address)).flatten().copied().collect(),
        };
        let last = |place: &usize| self.txs[&self.facts[*place].tx].last() == Some(place);
        places.iter().filter(|place| last(place)).map(|place| self.facts[*place].clone()).collect()
    }
}
