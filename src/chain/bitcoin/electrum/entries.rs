//! Transactions of histories: fetched, hashed, proven to be in their block, and read for what they mean.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{ScriptBuf, Transaction, Txid};
use h402_watch_engine::input::{Place, TxFact};
use h402_watch_engine::proof::Proof;

use super::super::facts::{self, Hit, Known};
use super::super::header::Placed;
use super::super::proof::prove;
use super::super::text::Link;
use super::follow::Follower;
use super::proof::{At, Branch};
use super::server::{merkle_call, place_call, transaction_call};

/// Bytes of transactions that are kept, so that one that moves costs no request.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

const NO_COINBASE: &str =
    "no server shows the first transaction of the block, without which a branch does not tell how high the tree is";

/// Transactions that are remembered for being too large.
const OVERSIZE_MAX: usize = 10_000;

/// Transactions by id, the newest that were fetched.
#[derive(Default)]
pub struct Transactions {
    by_id: HashMap<Txid, Arc<Transaction>>,
    order: VecDeque<Txid>,
    bytes: usize,
    /// Those that a server does not give for their size.
    oversize: HashSet<Txid>,
}

impl Transactions {
    fn note_oversize(&mut self, txid: Txid) {
        if self.oversize.len() >= OVERSIZE_MAX {
            self.oversize.clear();
        }
        self.oversize.insert(txid);
    }

    fn keep(&mut self, txid: Txid, tx: &Arc<Transaction>) {
        if self.by_id.insert(txid, Arc::clone(tx)).is_none() {
            self.order.push_back(txid);
            self.bytes += tx.total_size();
        }
        while self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.by_id.remove(&oldest).map_or(0, |tx| tx.total_size());
        }
    }
}

impl Follower {
    /// Transactions by id, those that one server has.
    pub(super) async fn transactions(
        &mut self,
        server: usize,
        txids: impl IntoIterator<Item = Txid>,
    ) -> Result<HashMap<Txid, Arc<Transaction>>, String> {
        let txids: BTreeSet<_> = txids.into_iter().collect();
        let known = |txid: &Txid| Some((*txid, Arc::clone(self.txs.by_id.get(txid)?)));
        let mut found: HashMap<_, _> = txids.iter().filter_map(known).collect();
        let missing: Vec<_> = txids.into_iter().filter(|txid| !found.contains_key(txid)).collect();
        let said = self.servers.at(server).ask(missing.iter().map(transaction_call).collect()).await?;
        for (said, txid) in said.into_iter().zip(missing) {
            let value = match said {
                Ok(value) => value,
                Err(why) if is_absence(&why) => continue,
                Err(why) if is_too_large(&why) => {
                    tracing::warn!(%txid, "a transaction is larger than a server gives");
                    self.txs.note_oversize(txid);
                    continue;
                }
                // Busy, it may be: that says nothing of the transaction.
                Err(why) => return Err(why),
            };
            let tx = value.as_str().and_then(|hex| deserialize_hex::<Transaction>(hex).ok());
            let Some(tx) = tx.filter(|tx| tx.compute_txid() == txid) else {
                return Err(self.servers.at(server).blame("another transaction than was asked for"));
            };
            let tx = Arc::new(tx);
            self.txs.keep(txid, &tx);
            found.insert(txid, tx);
        }
        Ok(found)
    }

    /// The header of a block that we hold.
    pub(super) async fn header_of(&mut self, server: usize, link: &Link) -> Result<Placed, String> {
        if let Some(header) = self.headers.get(link.hash) {
            return Ok(Placed { link: *link, header });
        }
        let placed = self.servers.header_of(server, link.height).await?.filter(|placed| placed.link == *link);
        let placed = placed.ok_or_else(|| format!("the server has another block {} than we", link.height))?;
        self.headers.keep(&placed);
        Ok(placed)
    }

    /// The header at a height of our chain, or below it.
    pub(super) async fn header_at(&mut self, server: usize, height: u64) -> Result<Placed, String> {
        if let Some(link) = self.walk.mirror.at(height).copied() {
            return self.header_of(server, &link).await;
        }
        self.header_below(server, height).await
    }

    /// The facts about transactions that a server says are in a block, in its order: of those that concern somebody, or with
    /// `named` of all.
    pub(super) async fn facts_in(
        &mut self,
        server: usize,
        block: &Placed,
        txids: &BTreeSet<Txid>,
        named: bool,
    ) -> Result<Vec<TxFact>, String> {
        let txs = self.transactions_anywhere(server, txids.iter().copied().collect()).await?;
        let mut concerned = Vec::new();
        for txid in txids.iter().filter(|txid| txs.contains_key(*txid) || !self.txs.oversize.contains(*txid)) {
            let tx = txs.get(txid).ok_or_else(|| format!("the server lists {txid}, and does not have it"))?;
            let hit = facts::hit(&self.mailbox.interests().interests, txid, tx);
            if let Some(hit) = if named { Some(Hit::Whole) } else { hit } {
                concerned.push((*txid, Arc::clone(tx), hit));
            }
        }
        let calls = concerned.iter().map(|(txid, ..)| merkle_call(txid, block.link.height)).collect();
        let said = self.servers.at(server).ask(calls).await?;
        let mut proven = Vec::new();
        for (said, (txid, tx, hit)) in said.into_iter().zip(concerned) {
            let value = said.map_err(|why| format!("no proof of {txid}: {why}"))?;
            let branch: Branch = serde_json::from_value(value).map_err(|_| "a proof that can't be read".to_owned())?;
            // The server may be on another branch by now: that is no fault of its.
            branch.check(&txid, &tx, block.header.merkle_root)?;
            proven.push((branch, txid, tx, hit));
        }
        proven.sort_unstable_by_key(|(branch, ..)| branch.pos);
        let proofs = self.mailbox.interests().interests.proofs && !proven.is_empty();
        let coinbase = if proofs { self.coinbase(server, block).await? } else { None };
        let mut all = Vec::with_capacity(proven.len());
        for (branch, txid, tx, hit) in proven {
            let fact = self.fact_of(server, (&txid, &tx), facts::in_block(&block.link), hit).await?;
            let proof = proofs.then(|| match &coinbase {
                Some((first, of_first)) => prove(&block.header, &branch.leaf(&tx), &of_first.leaf(first)),
                None => Proof::none(NO_COINBASE),
            });
            all.push(TxFact { proof: proof.map(Box::new), ..fact });
        }
        Ok(all)
    }

    /// The first transaction of a block, and what shows that it is in it; `None` where no server shows it.
    async fn coinbase(&mut self, server: usize, block: &Placed) -> Result<Option<(Arc<Transaction>, Branch)>, String> {
        let others = (0..self.servers.len()).filter(|index| *index != server);
        for index in std::iter::once(server).chain(others) {
            if index != server && !self.servers.is_usable(index).await {
                continue;
            }
            // One that is away is asked again, with all else; one that does not know the question won't learn it.
            let said = match self.servers.at(index).ask(vec![place_call(block.link.height, 0)]).await {
                Ok(said) => said,
                Err(error) if index == server => return Err(error),
                Err(_) => continue,
            };
            let at = said.into_iter().next().and_then(Result::ok);
            let Some(at) = at.and_then(|value| serde_json::from_value::<At>(value).ok()) else { continue };
            let (txid, branch) = at.first();
            let found = self.transactions_anywhere(index, BTreeSet::from([txid])).await?;
            let Some(tx) = found.get(&txid).filter(|tx| tx.is_coinbase()) else { continue };
            if branch.check(&txid, tx, block.header.merkle_root).is_ok() {
                return Ok(Some((Arc::clone(tx), branch)));
            }
        }
        tracing::debug!(height = block.link.height, "no server shows a block's first transaction");
        Ok(None)
    }

    /// The fact about a transaction in a mempool, if it concerns somebody, or is asked for (`named`).
    pub(super) async fn pending_fact(
        &mut self,
        server: usize,
        (txid, tx): (&Txid, &Transaction),
        named: bool,
    ) -> Result<Option<TxFact>, String> {
        let hit = facts::hit(&self.mailbox.interests().interests, txid, tx);
        let Some(hit) = (if named { Some(Hit::Whole) } else { hit }) else { return Ok(None) };
        self.fact_of(server, (txid, tx), Place::Mempool, hit).await.map(Some)
    }

    async fn fact_of(
        &mut self,
        server: usize,
        (txid, tx): (&Txid, &Transaction),
        place: Place,
        hit: Hit,
    ) -> Result<TxFact, String> {
        // A txid does not cover the witnesses, which would show whose money this is: the parents' outputs do.
        let spent: Vec<_> = if tx.is_coinbase() { Vec::new() } else { facts::outpoints(tx).copied().collect() };
        let parents = spent.iter().map(|outpoint| outpoint.txid).collect();
        let parents = self.transactions_anywhere(server, parents).await?;
        let script = |outpoint: &bitcoin::OutPoint| {
            let output = parents.get(&outpoint.txid)?.output.get(usize::try_from(outpoint.vout).ok()?)?;
            Some(output.script_pubkey.clone())
        };
        let known: Option<Vec<ScriptBuf>> = spent.iter().map(script).collect();
        let wants = self.mailbox.interests();
        let scripts = known.as_deref().unwrap_or_default();
        let network = self.servers.network();
        let mut fact = facts::fact((txid, tx), hit, place, &wants.interests, network, Known::All(scripts));
        if known.is_none() {
            tracing::warn!(%txid, "whose money a transaction uses can't be told: it counts for nobody");
            (fact.transfers_known, fact.transfers) = (false, Vec::new());
        }
        Ok(fact)
    }

    /// Transactions by id, from whichever server has them: their bytes hash to it.
    async fn transactions_anywhere(
        &mut self,
        server: usize,
        txids: BTreeSet<Txid>,
    ) -> Result<HashMap<Txid, Arc<Transaction>>, String> {
        let mut found = self.transactions(server, txids.iter().copied()).await?;
        for index in (0..self.servers.len()).filter(|index| *index != server) {
            let missing: Vec<_> = txids.iter().filter(|txid| !found.contains_key(*txid)).copied().collect();
            if !missing.is_empty() && self.servers.is_usable(index).await {
                found.extend(self.transactions(index, missing).await.unwrap_or_default());
            }
        }
        Ok(found)
    }
}

/// Whether a server's refusal says that there is no such transaction, in the words of bitcoind, ElectrumX, electrs and Fulcrum.
fn is_absence(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    ["no such mempool", "no such transaction", "missing transaction", "no transaction", "not found"]
        .iter()
        .any(|words| why.contains(words))
}

/// Whether it says that the answer is larger than it gives.
fn is_too_large(why: &str) -> bool {
    why.to_ascii_lowercase().contains("too large")
}
