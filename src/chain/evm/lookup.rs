//! Questions about what the chain holds already: for a watch that was just made, for a transaction that left the chain, for
//! an address that somebody asks about.
//!
//! A look-up is answered under the mirror's head, by an endpoint that has that block: what lies in blocks up to there is
//! found here, what comes after is matched when its block joins, because the interest was opened before the look-up.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use alloy_primitives::B256;
use h402_watch_engine::changes::LookUp;
use h402_watch_engine::input::{Observation, TxFact};
use h402_watch_engine::request::Subject;
use serde_json::json;
use serde_json::value::RawValue;

use super::block::{AUTHORIZATION_CANCELED, AUTHORIZATION_USED};
use super::facts::{self, Hit};
use super::follow::Follower;
use super::pool::Fetched;
use super::text;
use super::text::Link;
use super::verify;
use super::wire::{Quantity, RpcLog, RpcTx};
use crate::chain::endpoint::BATCH_MAX;
use crate::chain::endpoint::{CallError, Endpoint};
use crate::chain::pool::{Answer, Answers, has_last};
use crate::chain::query::Searching;
use crate::chain::walk::{At, Chain as _};
use crate::chain::{AddressQuery, Stopping};

/// Look-ups that are answered together.
const LOOK_UPS_MAX: usize = 1000;
/// Blocks that are searched for an address query between two looks at the chain.
const QUERY_BLOCKS_AT_ONCE: usize = 16;
/// After how many polls a transaction that no node knew is looked for again: it may have been on its way to the mempool.
const LOOK_AGAIN_AFTER: [u64; 3] = [1, 2, 4];
/// Transactions that were seen which one sweep passes, watched or not.
const SWEPT_MAX: usize = 100 * BATCH_MAX;

/// Where a transaction was found.
#[derive(Clone, Debug)]
enum Whereabouts {
    Nowhere,
    /// With it whether it is what its hash and signature say.
    Mempool(RpcTx, bool),
    /// In a block of our chain.
    Block(B256),
    /// In a block above our head: it will be matched there.
    Above,
    /// In a block that is not ours: the endpoint is on another branch, or ours is about to change.
    Elsewhere,
}

impl Follower {
    /// Answers what was asked since the last time, as far as it can be told now.
    pub(super) async fn answer(&mut self) -> Result<(), Stopping> {
        // What a block holds that was reported by its header alone has to be told first.
        if self.walk.mirror.head().is_none() || self.unfinished.is_some() {
            return Ok(());
        }
        let room = LOOK_UPS_MAX.saturating_sub(self.look_ups.len());
        self.look_ups.extend(self.mailbox.take_look_ups(room));
        let look_ups: Vec<_> = self.look_ups.drain(..).collect();
        self.answer_transactions(&look_ups).await?;
        self.answer_addresses(&look_ups).await?;
        for look_up in look_ups {
            if let Subject::Authorization { .. } = look_up.subject {
                self.answer_authorization(look_up).await?;
            }
        }
        let orphans = self.mailbox.take_locates(BATCH_MAX);
        self.locate(orphans.iter().filter_map(|tx| tx.as_str().parse().ok()).collect()).await?;
        self.go_on_with_query().await;
        Ok(())
    }

    /// Whether more was asked than is answered at once.
    pub(super) fn has_more_questions(&self) -> bool {
        let (look_ups, others) = self.mailbox.has_questions();
        let able = self.walk.mirror.head().is_some() && self.unfinished.is_none();
        able && (self.query.is_some() || others || (look_ups && self.look_ups.len() < LOOK_UPS_MAX))
    }

    async fn looked_up(&mut self, look_up: &LookUp, facts: Vec<TxFact>) -> Result<(), Stopping> {
        let Some(under) = self.walk.mirror.head().map(Link::block_ref) else { return Ok(()) };
        let observation = Observation::LookedUp { watch: look_up.watch.clone(), under, facts };
        self.reports.observe(observation).await
    }

    async fn answer_transactions(&mut self, look_ups: &[LookUp]) -> Result<(), Stopping> {
        let subject = |look_up: &LookUp| match &look_up.subject {
            Subject::Transaction { tx, .. } => tx.as_str().parse::<B256>().ok(),
            _ => None,
        };
        let asked: Vec<_> = look_ups.iter().filter_map(|look_up| Some((look_up, subject(look_up)?))).collect();
        for batch in asked.chunks(BATCH_MAX) {
            let mut hashes: Vec<_> = batch.iter().map(|(_, hash)| *hash).collect();
            hashes.sort_unstable();
            hashes.dedup();
            let found = match self.find(&hashes).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(network = %self.settings.network, error, "look-ups wait");
                    self.look_ups.extend(batch.iter().map(|(look_up, _)| (*look_up).clone()));
                    continue;
                }
            };
            for (look_up, hash) in batch {
                match self.facts_about(*hash, &found[hash]).await {
                    Ok(facts) => self.looked_up(look_up, facts).await?,
                    Err(_) => self.look_ups.push_back((*look_up).clone()),
                }
                if matches!(found[hash], Whereabouts::Nowhere) {
                    self.retry(LOOK_AGAIN_AFTER[0], 0, *hash);
                }
            }
        }
        Ok(())
    }

    /// The facts about a transaction that was found somewhere.
    async fn facts_about(&mut self, hash: B256, place: &Whereabouts) -> Result<Vec<TxFact>, String> {
        match place {
            Whereabouts::Nowhere | Whereabouts::Above => Ok(Vec::new()),
            Whereabouts::Elsewhere => Err("in a block of another branch".into()),
            Whereabouts::Mempool(tx, genuine) => {
                self.see(tx, *genuine);
                self.expect(tx);
                Ok(vec![facts::pending(tx, *genuine)])
            }
            Whereabouts::Block(block) => {
                let block = self.pool.block(*block).await;
                let block = block.found("the transaction's block")?;
                self.facts_in(&block, &[hash]).await
            }
        }
    }

    /// The facts about transactions of a block.
    async fn facts_in(&mut self, block: &Fetched, hashes: &[B256]) -> Result<Vec<TxFact>, String> {
        let positions = block.block.transactions.iter().enumerate().filter(|(_, hash)| hashes.contains(hash));
        let hits: BTreeMap<_, _> = positions.map(|(position, _)| (position, Hit::Whole)).collect();
        if hits.is_empty() {
            return Err("a transaction that is not in its block".into());
        }
        let facts = self.facts_at(block, &hits).await?;
        self.note(block.block.number.0, &facts);
        Ok(facts)
    }

    /// Where transactions are, under our head. Those that one endpoint does not know are asked of the others.
    async fn find(&mut self, hashes: &[B256]) -> Result<HashMap<B256, Whereabouts>, String> {
        let Some(head) = self.walk.mirror.head().copied() else { return Err("no chain yet".into()) };
        let mut found: HashMap<B256, Whereabouts> = hashes.iter().map(|hash| (*hash, Whereabouts::Nowhere)).collect();
        let mut knew_head = false;
        for endpoint in 0..self.pool.len() {
            let missing: Vec<_> =
                hashes.iter().filter(|hash| matches!(found[*hash], Whereabouts::Nowhere)).copied().collect();
            if missing.is_empty() {
                break;
            }
            if !self.pool.is_usable(endpoint).await {
                continue;
            }
            let mut calls: Vec<_> = missing.iter().map(|hash| ("eth_getTransactionByHash", json!([hash]))).collect();
            calls.push(("eth_getBlockTransactionCountByHash", json!([head.hash])));
            let Ok(answers) = self.pool.at(endpoint).batch(&calls).await else { continue };
            let Ok((txs, knows)) = read_txs(self.pool.at(endpoint), answers) else { continue };
            // One that does not have our head may not have the transaction's block either.
            knew_head |= knows;
            for (hash, tx) in missing.into_iter().zip(txs) {
                let Some((tx, raw)) = tx.filter(|(tx, _)| tx.hash == hash) else { continue };
                let place = self.place_of(tx, &raw, &head).await;
                // "Pending", from a node that is behind, may have been mined long since.
                if knows || matches!(place, Whereabouts::Block(_)) {
                    found.insert(hash, place);
                }
            }
        }
        if knew_head { Ok(found) } else { Err("no endpoint has our head".into()) }
    }

    async fn place_of(&self, tx: RpcTx, raw: &RawValue, head: &Link) -> Whereabouts {
        let (Some(hash), Some(Quantity(height))) = (tx.block_hash, tx.block_number) else {
            let genuine = !self.pool.recomputes() || verify::transaction_is_genuine(&tx, raw);
            return Whereabouts::Mempool(tx, genuine);
        };
        if height > head.height {
            return Whereabouts::Above;
        }
        let bottom = self.walk.mirror.bottom().map_or(0, |bottom| bottom.height);
        let ours = if height >= bottom {
            self.walk.mirror.holds(height, hash)
        } else {
            // Below what is kept: as many endpoints as the quorum asks for have to hold it at that height.
            match self.pool.range(0, At::height(height), 1).await {
                Answer::Found(supplier, blocks) if blocks[0].block.hash == hash => {
                    let quorum = self.settings.quorum;
                    quorum < 2 || self.pool.agreed_prefix(Some(supplier), &blocks, quorum).await == 1
                }
                _ => false,
            }
        };
        if ours { Whereabouts::Block(hash) } else { Whereabouts::Elsewhere }
    }

    /// Addresses are looked for in the blocks that are kept, each of which is fetched once for all of them.
    async fn answer_addresses(&mut self, look_ups: &[LookUp]) -> Result<(), Stopping> {
        let asked: Vec<_> = look_ups.iter().filter(|look_up| matches!(look_up.subject, Subject::Address)).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let earliest = asked.iter().filter_map(|look_up| look_up.since).min();
        let links: Vec<_> = match earliest {
            Some(since) => self.walk.mirror.iter().filter(|link| link.timestamp() >= since).copied().collect(),
            None => Vec::new(),
        };
        let mut held = Vec::with_capacity(links.len());
        for link in links {
            let facts = match self.block_of(&link).await {
                Ok(block) => self.facts_of(&block).await,
                Err(error) => Err(error),
            };
            match &facts {
                Ok(facts) => self.note(link.height, facts),
                Err(error) => tracing::debug!(network = %self.settings.network, error, "look-ups wait"),
            }
            held.push((link, facts.ok()));
        }
        for look_up in asked {
            let pays = |fact: &&TxFact| {
                fact.transfers.iter().any(|moved| look_up.pay_to.contains(&moved.to) && moved.asset == look_up.asset)
            };
            let within =
                || held.iter().filter(|(link, _)| look_up.since.is_some_and(|since| link.timestamp() >= since));
            if within().any(|(_, facts)| facts.is_none()) {
                // Only those wait that need the block which can't be had.
                self.look_ups.push_back(look_up.clone());
                continue;
            }
            let facts = within().filter_map(|(_, facts)| facts.as_ref()).flatten().filter(pays).cloned().collect();
            self.looked_up(look_up, facts).await?;
        }
        Ok(())
    }

    /// A block of our chain.
    pub(super) async fn block_of(&mut self, link: &Link) -> Result<Fetched, String> {
        if let Some(block) = self.blocks.fetched(link.hash) {
            return Ok(block);
        }
        let block = self.pool.block(link.hash).await.found("a block of our chain")?;
        self.blocks.keep(&block);
        Ok(block)
    }

    /// Whether an authorization was used already, by the log of its contract.
    async fn answer_authorization(&mut self, look_up: LookUp) -> Result<(), Stopping> {
        match self.find_authorization(&look_up).await {
            Ok(facts) => self.looked_up(&look_up, facts).await,
            Err(error) => {
                tracing::debug!(network = %self.settings.network, error, "a look-up waits");
                self.look_ups.push_back(look_up);
                Ok(())
            }
        }
    }

    async fn find_authorization(&mut self, look_up: &LookUp) -> Result<Vec<TxFact>, String> {
        let (Some(bottom), Some(head)) = (self.walk.mirror.bottom().copied(), self.walk.mirror.head().copied()) else {
            return Err("no chain yet".into());
        };
        // One request for the whole chain is little to a node of one's own, and too much for some providers.
        let uses = match self.uses_of(look_up, 0, &head).await {
            Ok(uses) => uses,
            Err(_) => self.uses_in_pieces(look_up, &bottom, &head).await?,
        };
        let mut facts = Vec::new();
        for tx in uses {
            let found = self.find(&[tx]).await?;
            facts.extend(self.facts_about(tx, &found[&tx]).await?);
        }
        Ok(facts)
    }

    /// The uses of an authorization in the blocks that are kept, in as few requests as providers let pass.
    async fn uses_in_pieces(&mut self, look_up: &LookUp, bottom: &Link, head: &Link) -> Result<Vec<B256>, String> {
        let (mut from, mut span, mut uses) = (bottom.height, head.height - bottom.height + 1, Vec::new());
        while from <= head.height {
            let to = self.walk.mirror.at((from + span - 1).min(head.height)).copied().ok_or("no such block")?;
            match self.uses_of(look_up, from, &to).await {
                Ok(more) => {
                    uses.extend(more);
                    from = to.height + 1;
                }
                Err(error) if span == 1 => return Err(error),
                Err(_) => span = span.div_ceil(2),
            }
        }
        Ok(uses)
    }

    /// The transactions in which an authorization was used or cancelled, from a height up to a block.
    async fn uses_of(&self, look_up: &LookUp, from: u64, to: &Link) -> Result<Vec<B256>, String> {
        let Subject::Authorization { authorizer, nonce, .. } = &look_up.subject else { return Ok(Vec::new()) };
        let authorizer = text::parse_address(authorizer.as_str())?.into_word();
        let filter = json!([{
            "address": look_up.asset.as_str(),
            "topics": [[AUTHORIZATION_USED, AUTHORIZATION_CANCELED], authorizer, nonce],
            "fromBlock": format!("{from:#x}"),
            "toBlock": format!("{:#x}", to.height),
        }]);
        let calls = [("eth_getLogs", filter), ("eth_getBlockTransactionCountByHash", json!([to.hash]))];
        let read = |endpoint: &Endpoint, mut answers: Answers| {
            let knows = has_last(&mut answers);
            let Some(Ok(raw)) = answers.pop() else { return Ok(None) };
            let logs: Vec<RpcLog> = endpoint.read(&raw)?;
            let txs: Vec<_> = logs.into_iter().filter_map(|log| log.transaction_hash).collect();
            Ok(knows.then_some(txs))
        };
        let said = self.pool.on_their_word(self.settings.quorum, &calls, read, "the contract's log").await;
        said.map(|(uses, _)| uses)
    }

    /// Where transactions went that left the chain. What can't be told is asked again at the next poll.
    async fn locate(&mut self, lost: Vec<B256>) -> Result<(), Stopping> {
        for batch in lost.chunks(BATCH_MAX) {
            match self.find(batch).await {
                Ok(found) => {
                    let untold = self.tell(found, true).await?;
                    self.lost.extend(untold);
                }
                Err(error) => {
                    tracing::debug!(network = %self.settings.network, error, "what left the chain is not found yet");
                    self.lost.extend(batch);
                }
            }
        }
        Ok(())
    }

    /// Asks again where those went that could not be told.
    pub(super) async fn locate_again(&mut self) -> Result<(), Stopping> {
        let lost = std::mem::take(&mut self.lost);
        self.locate(lost.into_iter().collect()).await
    }

    /// Reports where transactions are, and with `missing` also which are nowhere. Gives those back that it can't be told of yet:
    /// they are in a block that did not join, or of which nothing more can be had.
    async fn tell(&mut self, found: HashMap<B256, Whereabouts>, missing: bool) -> Result<Vec<B256>, Stopping> {
        let mut found: Vec<_> = found.into_iter().collect();
        let Some(under) = self.walk.mirror.head().map(Link::block_ref) else {
            return Ok(found.into_iter().map(|(hash, _)| hash).collect());
        };
        let mut untold = Vec::new();
        found.sort_unstable_by_key(|(hash, _)| *hash);
        for (hash, place) in found {
            let tx = text::tx(hash);
            match &place {
                Whereabouts::Nowhere if missing => {
                    self.seen.remove(&hash);
                    self.reports.observe(Observation::Missing { tx, under: under.clone() }).await?;
                }
                Whereabouts::Mempool(pending, genuine) => {
                    self.see(pending, *genuine);
                    // One that was looked for because it had gone may stay there for long.
                    if !missing {
                        self.expect(pending);
                    }
                    self.reports.observe(Observation::Seen(facts::pending(pending, *genuine))).await?;
                }
                Whereabouts::Block(_) => match self.facts_about(hash, &place).await {
                    Ok(facts) => {
                        for fact in facts {
                            self.reports.observe(Observation::Found(fact)).await?;
                        }
                    }
                    Err(_) => untold.push(hash),
                },
                Whereabouts::Above | Whereabouts::Elsewhere => untold.push(hash),
                Whereabouts::Nowhere => {}
            }
        }
        Ok(untold)
    }

    /// A mempool has a watched transaction.
    fn see(&mut self, tx: &RpcTx, genuine: bool) {
        let signer = (genuine && self.pool.recomputes()).then_some(tx.from);
        self.seen.insert(tx.hash, signer);
    }

    /// A hint that a transaction entered a mempool.
    pub(super) async fn hear(&mut self, hash: B256) -> Result<(), Stopping> {
        let watched = facts::names(&self.mailbox.interests().interests, hash);
        if !watched || self.seen.contains_key(&hash) || self.walk.mirror.head().is_none() {
            return Ok(());
        }
        if let Ok(found) = self.find(&[hash]).await {
            // In a block it is found when that joins.
            self.tell(found, false).await?;
        }
        Ok(())
    }

    /// Has a transaction looked for again some polls from now.
    fn retry(&mut self, after: u64, tries: u32, hash: B256) {
        self.retries.entry(self.polls + after).or_default().push((tries, hash));
    }

    /// Looks again for transactions that no node knew when their watches were made.
    pub(super) async fn look_again(&mut self) -> Result<(), Stopping> {
        let later = self.retries.split_off(&(self.polls + 1));
        let due: Vec<_> = {
            let due = std::mem::replace(&mut self.retries, later).into_values().flatten();
            let wants = self.mailbox.interests();
            due.filter(|(_, hash)| facts::names(&wants.interests, *hash) && !self.seen.contains_key(hash)).collect()
        };
        for batch in due.chunks(BATCH_MAX) {
            let hashes: Vec<_> = batch.iter().map(|(_, hash)| *hash).collect();
            let Ok(found) = self.find(&hashes).await else {
                batch.iter().for_each(|(tries, hash)| self.retry(1, *tries, *hash));
                continue;
            };
            for (tries, hash) in batch {
                let next = usize::try_from(*tries).unwrap_or(usize::MAX).saturating_add(1);
                if let (Whereabouts::Nowhere, Some(after)) = (&found[hash], LOOK_AGAIN_AFTER.get(next)) {
                    self.retry(*after, tries + 1, *hash);
                }
            }
            self.tell(found, false).await?;
        }
        Ok(())
    }

    /// Looks, now and then, whether mempools still hold what they held: a transaction can be evicted silently.
    pub(super) async fn sweep(&mut self) -> Result<(), Stopping> {
        let period = 10 * self.settings.block_time;
        let now = tokio::time::Instant::now();
        if self.seen.is_empty() || self.swept_at.is_some_and(|at| now.duration_since(at) < period) {
            return Ok(());
        }
        if self.swept_at.replace(now).is_none() {
            return Ok(());
        }
        let batch = self.next_swept();
        let swept: Vec<_> = batch.iter().filter_map(|hash| self.seen.remove_entry(hash)).collect();
        match self.find(&batch).await {
            // Those that are still there are put back.
            Ok(found) => {
                let untold = self.tell(found, true).await?;
                self.lost.extend(untold);
            }
            Err(_) => self.seen.extend(swept),
        }
        Ok(())
    }

    /// Some of those that were seen, in turn. What is watched no more is forgotten on the way.
    fn next_swept(&mut self) -> Vec<B256> {
        let from = self.swept_to.take().map_or(Bound::Unbounded, Bound::Excluded);
        let passed: Vec<_> = self.seen.range((from, Bound::Unbounded)).take(SWEPT_MAX).map(|(hash, _)| *hash).collect();
        let wants = self.mailbox.interests();
        let mut batch = Vec::new();
        for hash in &passed {
            if batch.len() == BATCH_MAX {
                break;
            }
            self.swept_to = Some(*hash);
            if facts::names(&wants.interests, *hash) {
                batch.push(*hash);
            } else {
                self.seen.remove(hash);
            }
        }
        if passed.len() < SWEPT_MAX && batch.len() < BATCH_MAX {
            self.swept_to = None;
        }
        batch
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
        let block = self.block_of(link).await?;
        self.paid_to(&block, query).await
    }

    /// The transactions of a block that pay an address.
    async fn paid_to(&mut self, block: &Fetched, query: &AddressQuery) -> Result<Vec<TxFact>, String> {
        let receipts = self.blocks.receipts(&self.pool, block).await?;
        let internal = if query.asset.is_native() { self.internal(block).await? } else { None };
        let address = text::parse_address(query.address.as_str())?;
        let token = (!query.asset.is_native()).then(|| text::parse_address(query.asset.as_str())).transpose()?;
        let pays = |(position, tx): &(usize, &super::block::Executed)| match token {
            Some(token) => tx.transfers.iter().any(|moved| moved.to == address && moved.token == token),
            None => {
                tx.to == Some(address)
                    || internal
                        .as_ref()
                        .and_then(|all| all.get(*position))
                        .is_some_and(|all| all.iter().any(|moved| moved.to == address))
            }
        };
        let hits: BTreeMap<_, _> =
            receipts.txs.iter().enumerate().filter(pays).map(|(position, _)| (position, Hit::Whole)).collect();
        self.facts_at(block, &hits).await
    }
}

/// A transaction, and the bytes that it was read from.
type FoundTx = (RpcTx, Box<RawValue>);

/// Reads transactions, and whether the endpoint has our head. A node's error says nothing about a transaction.
fn read_txs(endpoint: &Endpoint, mut answers: Answers) -> Result<(Vec<Option<FoundTx>>, bool), CallError> {
    let knows = has_last(&mut answers);
    let read = |answer: Result<Box<RawValue>, CallError>| {
        let raw = answer?;
        let tx: Option<RpcTx> = endpoint.read(&raw)?;
        Ok(tx.map(|tx| (tx, raw)))
    };
    Ok((answers.into_iter().map(read).collect::<Result<_, _>>()?, knows))
}
