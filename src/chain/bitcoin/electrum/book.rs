//! What is followed: which script serves which interests, and its history as the server last gave it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::{OutPoint, Script, ScriptBuf, Transaction, Txid};
use serde::Deserialize;
use serde_json::Value;

use super::super::text::bytes;
use crate::chain::Interests;

/// Scripts that are followed on one network: each costs a request at each block, and servers bound what one client asks.
pub const SCRIPTS_MAX: usize = 10_000;
/// Entries of one history that are believed; of longer ones servers don't tell either.
const HISTORY_MAX: usize = 100_000;
/// Scripts that are remembered as useless, because a server does not give their history.
const AVOIDED_MAX: usize = 10_000;

/// An interest in bytes: a letter for its kind, and a txid, a script or an outpoint as [`bytes`] spells it.
type Key = Box<[u8]>;

/// A transaction in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which.
    pub txid: Txid,
    /// The height of its block; 0: in a mempool.
    pub height: u64,
}

/// A server's answer to `blockchain.scripthash.get_history`.
#[derive(Deserialize)]
struct RpcItem {
    tx_hash: Txid,
    /// 0: in the mempool; −1: there too, and so is something that it spends.
    height: i64,
}

/// Reads a history.
///
/// # Errors
/// If it is none.
pub fn read_history(value: Value) -> Result<Vec<Item>, String> {
    let items: Vec<RpcItem> = serde_json::from_value(value).map_err(|_| "a history that can't be read".to_owned())?;
    if items.len() > HISTORY_MAX {
        return Err(format!("a history of more than {HISTORY_MAX} transactions"));
    }
    Ok(items.iter().map(|item| Item { txid: item.tx_hash, height: u64::try_from(item.height).unwrap_or(0) }).collect())
}

/// What servers call a script.
pub fn script_hash(script: &Script) -> String {
    let mut hash = sha256::Hash::hash(script.as_bytes()).to_byte_array();
    hash.reverse();
    hex::encode(hash)
}

/// What has to be fetched before it is known which script to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A watched transaction.
    Tx(Txid),
    /// The transaction of an output that is used up.
    Output(OutPoint),
}

impl Need {
    fn of(key: &[u8]) -> Option<Self> {
        let txid = |bytes: &[u8]| bytes.try_into().ok().map(Txid::from_byte_array);
        match key {
            [b't', id @ ..] => Some(Self::Tx(txid(id)?)),
            [b's', key @ ..] => bytes::outpoint(key).map(Self::Output),
            _ => None,
        }
    }

    /// The transaction to fetch.
    pub fn txid(&self) -> Txid {
        match self {
            Self::Tx(txid) => *txid,
            Self::Output(outpoint) => outpoint.txid,
        }
    }
}

/// A script that is followed.
#[derive(Default)]
struct Followed {
    users: HashSet<Key>,
    hash: String,
    /// As the server last gave it; `None`: not asked yet.
    status: Option<Option<String>>,
    history: Vec<Item>,
    stale: bool,
}

impl Followed {
    fn concerns(&self, item: &Item) -> bool {
        self.users.iter().any(|key| match Need::of(key) {
            Some(Need::Tx(txid)) => txid == item.txid,
            _ => true,
        })
    }
}

/// The table.
#[derive(Default)]
pub struct Book {
    /// Interests, and the script that serves each, once it is known.
    wants: HashMap<Key, Option<ScriptBuf>>,
    scripts: HashMap<ScriptBuf, Followed>,
    by_hash: HashMap<String, ScriptBuf>,
    /// Interests without a script.
    open: BTreeSet<Key>,
    /// Those of them that wait for room.
    over: BTreeSet<Key>,
    avoided: HashSet<ScriptBuf>,
    /// The state of the interests that was taken over.
    synced: Option<u64>,
    /// Scripts that are followed since a moment ago: what concerns them may lie in blocks that were reported already.
    look_back: HashSet<ScriptBuf>,
}

impl Book {
    /// Takes over what is of interest now. Recipients are followed at once, as far as there is room.
    pub fn sync(&mut self, interests: &Interests) {
        if self.synced != Some(interests.changes()) {
            self.synced = Some(interests.changes());
            self.take_over(interests);
        }
        let recipients: Vec<_> = self.open.iter().filter(|key| key.first() == Some(&b'a')).cloned().collect();
        for key in recipients {
            let script = ScriptBuf::from_bytes(key[1..].to_vec());
            if !self.avoided.contains(&script) {
                self.attach(&key, script);
            }
        }
    }

    fn take_over(&mut self, interests: &Interests) {
        let gone: Vec<_> = self.wants.keys().filter(|key| !is_open(interests, key)).cloned().collect();
        for key in gone {
            self.detach(&key);
            self.wants.remove(&key);
            self.open.remove(&key);
            self.over.remove(&key);
        }
        let named = |letter: u8| move |key: &[u8]| [&[letter], key].concat();
        let txs = interests.txs.iter().map(named(b't'));
        let spends = interests.spends.iter().map(named(b's'));
        for key in txs.chain(spends).chain(interests.recipients.iter().map(named(b'a'))) {
            if !self.wants.contains_key(&key[..]) {
                self.wants.insert(key.clone().into(), None);
                self.open.insert(key.into());
            }
        }
    }

    /// What has to be fetched.
    pub fn needs(&self) -> Vec<(Key, Need)> {
        // Watched transactions come before what they use up.
        self.open.iter().rev().filter_map(|key| Some((key.clone(), Need::of(key)?))).collect()
    }

    /// The script that shows what becomes of what was fetched.
    pub fn script_for(&self, need: Need, tx: &Transaction) -> Option<ScriptBuf> {
        match need {
            Need::Output(outpoint) => {
                let output = tx.output.get(usize::try_from(outpoint.vout).ok()?)?;
                (!self.avoided.contains(&output.script_pubkey)).then(|| output.script_pubkey.clone())
            }
            Need::Tx(_) => {
                let scripts =
                    tx.output.iter().map(|output| &output.script_pubkey).filter(|script| {
                        !script.is_op_return() && !script.is_empty() && !self.avoided.contains(*script)
                    });
                let known = scripts.clone().find(|script| self.scripts.contains_key(*script));
                known.or_else(|| scripts.clone().next()).cloned()
            }
        }
    }

    /// Has a script serve an interest, if there is room.
    pub fn attach(&mut self, key: &[u8], script: ScriptBuf) {
        if self.scripts.len() >= SCRIPTS_MAX && !self.scripts.contains_key(&script) {
            self.over.insert(key.into());
            return;
        }
        self.look_back.insert(script.clone());
        self.open.remove(key);
        self.over.remove(key);
        let followed = self.scripts.entry(script.clone()).or_default();
        followed.users.insert(key.into());
        if followed.hash.is_empty() {
            followed.hash = script_hash(&script);
            self.by_hash.insert(followed.hash.clone(), script.clone());
        }
        self.wants.insert(key.into(), Some(script));
    }

    fn detach(&mut self, key: &[u8]) {
        let Some(script) = self.wants.get_mut(key).and_then(Option::take) else { return };
        let Some(followed) = self.scripts.get_mut(&script) else { return };
        followed.users.remove(key);
        if followed.users.is_empty() {
            self.by_hash.remove(&followed.hash);
            self.scripts.remove(&script);
            self.look_back.remove(&script);
        }
    }

    /// The server does not give the history of a script. One that was followed so far must not be lost out of sight.
    ///
    /// # Errors
    /// If it is a recipient's that was followed.
    pub fn refuse(&mut self, script: &Script, why: &str) -> Result<(), String> {
        let Some(followed) = self.scripts.get(script) else { return Ok(()) };
        let users: Vec<_> = followed.users.iter().cloned().collect();
        if followed.status.is_some() && users.iter().any(|key| key.first() == Some(&b'a')) {
            return Err(format!("the history of a watched address is refused: {why}"));
        }
        tracing::warn!(script = %followed.hash, why, "a history is refused");
        if self.avoided.len() >= AVOIDED_MAX {
            self.avoided.clear();
        }
        self.avoided.insert(script.to_owned());
        for key in users {
            self.detach(&key);
            self.open.insert(key);
        }
        Ok(())
    }

    /// Gives scripts that were refused another chance.
    pub fn forgive(&mut self) {
        self.avoided.clear();
    }

    /// How many interests wait for room, or because a server refuses.
    pub fn waiting(&self) -> usize {
        let refused = self.open.iter().filter(|key| key.first() == Some(&b'a') && !self.over.contains(*key));
        self.over.len() + refused.count()
    }

    /// Whether a recipient waits for room.
    pub fn keeps_waiting(&self, script: &Script) -> bool {
        self.open.contains(&[b"a", script.as_bytes()].concat()[..])
    }

    /// Those were told.
    pub fn looked_back(&mut self) {
        self.look_back.clear();
    }

    /// Whether there is no room to follow a watched transaction, once it comes up.
    pub fn has_no_room_for(&self, txid: &Txid) -> bool {
        self.scripts.len() >= SCRIPTS_MAX && self.open.contains(&[b"t", &txid.as_byte_array()[..]].concat()[..])
    }

    /// A script changed, as its server announced.
    pub fn announced(&mut self, hash: &str) {
        let followed = self.by_hash.get(hash).and_then(|script| self.scripts.get_mut(script));
        if let Some(followed) = followed {
            followed.stale = true;
        }
    }

    /// All histories have to be read again, whatever their status.
    pub fn doubt(&mut self) {
        for followed in self.scripts.values_mut() {
            followed.stale = true;
        }
    }

    /// The scripts whose status has to be asked for, with their hashes: all, or those that may have changed.
    pub fn to_ask(&self, all: bool) -> Vec<(ScriptBuf, String)> {
        let due = |followed: &Followed| all || followed.stale || followed.status.is_none();
        let scripts = self.scripts.iter().filter(|(_, followed)| due(followed));
        scripts.map(|(script, followed)| (script.clone(), followed.hash.clone())).collect()
    }

    /// Whether a status tells of something new. One that is the same may still stand for another block at the same height:
    /// that is why proofs are asked for anew.
    pub fn is_news(&self, script: &Script, status: &Option<String>) -> bool {
        self.scripts.get(script).is_some_and(|followed| followed.stale || followed.status.as_ref() != Some(status))
    }

    /// Notes what was read.
    pub fn note(&mut self, script: &Script, status: Option<String>, history: Vec<Item>) {
        if let Some(followed) = self.scripts.get_mut(script) {
            (followed.status, followed.history, followed.stale) = (Some(status), history, false);
        }
    }

    fn items(&self) -> impl Iterator<Item = &Item> {
        self.scripts.values().flat_map(|followed| followed.history.iter().filter(|item| followed.concerns(item)))
    }

    /// What may be of interest in the blocks between two heights.
    pub fn between(&self, from: u64, to: u64) -> BTreeMap<u64, BTreeSet<Txid>> {
        let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for item in self.items().filter(|item| item.height >= from.max(1) && item.height <= to) {
            found.entry(item.height).or_default().insert(item.txid);
        }
        found
    }

    /// Where transactions are: the heights of those in blocks, and those in a mempool alone.
    pub fn places(&self) -> (HashMap<Txid, u64>, BTreeSet<Txid>) {
        let mut heights = HashMap::new();
        let mut pending = BTreeSet::new();
        for item in self.items() {
            if item.height == 0 {
                pending.insert(item.txid);
            } else {
                heights.insert(item.txid, item.height);
            }
        }
        // A server lists some in both places for a moment.
        pending.retain(|txid| !heights.contains_key(txid));
        (heights, pending)
    }

    /// What concerns the scripts that are followed anew, in blocks between two heights.
    pub fn look_back(&self, from: u64, to: u64) -> BTreeMap<u64, BTreeSet<Txid>> {
        let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for followed in self.look_back.iter().filter_map(|script| self.scripts.get(script)) {
            let concerning = followed.history.iter().filter(|item| followed.concerns(item));
            for item in concerning.filter(|item| item.height >= from.max(1) && item.height <= to) {
                found.entry(item.height).or_default().insert(item.txid);
            }
        }
        found
    }
}

fn is_open(interests: &Interests, key: &[u8]) -> bool {
    match key {
        [b't', txid @ ..] => interests.txs.contains(txid),
        [b's', outpoint @ ..] => interests.spends.contains(outpoint),
        [_, script @ ..] => interests.recipients.contains(script),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_called_what_servers_call_them() {
        // The example of the protocol's documentation.
        let script = bitcoin::Address::from_script(
            &ScriptBuf::from_hex("76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac").expect("hex"),
            bitcoin::Network::Bitcoin,
        );
        let script = script.expect("an address").script_pubkey();
        assert_eq!(script_hash(&script), "8b01df4e368ea28f8dc0423bcf7a4923e3a12d307c875e47a0cfbf90b5c39161");
    }

    #[test]
    fn histories_are_read() {
        let id = "ab".repeat(32);
        let value = serde_json::json!([{ "tx_hash": id, "height": 7 }, { "tx_hash": id, "height": -1, "fee": 5 }]);
        let heights: Vec<_> = read_history(value).expect("a history").iter().map(|item| item.height).collect();
        assert_eq!(heights, [7, 0]);
        assert!(read_history(serde_json::json!({})).is_err());
    }
}
