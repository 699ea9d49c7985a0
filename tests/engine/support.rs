//! A small world for engine tests: one network, blocks by short names, and the log that comes out.

#![allow(dead_code, reason = "each user needs another part")]

use std::collections::{BTreeMap, BTreeSet};

use h402_watch_engine::amount::Amount;
use h402_watch_engine::changes::{Ask, Changes, Claim, ClaimKey, ClaimState, Event, FinalityMarks, LookUp};
use h402_watch_engine::id::{
    Address, AssetId, BlockHash, BlockRef, Header, NetworkId, SpendKey, Timestamp, TxId, WatchId,
};
use h402_watch_engine::input::{Block, Execution, Observation, Place, Transfer, TxFact, Verification, Via};
use h402_watch_engine::look_ups::LookedUp;
use h402_watch_engine::record::{Recorded, WatchRecord};
use h402_watch_engine::request::{
    AmountRule, AtDeadline, Binding, Depth, Expiry, Report, Subject, Tag, Terms, WatchRequest,
};
use h402_watch_engine::rules::{Limits, NetworkRules};
use h402_watch_engine::watch::Watch;
use h402_watch_engine::{Engine, Snapshot};

pub const NETWORK: &str = "test:1";
pub const HORIZON: u32 = 10;
/// The time of block 0; each block states 10 s more.
pub const START_MS: u64 = 1_700_000_000_000;
pub const BLOCK_MS: u64 = 10_000;

pub fn network() -> NetworkId {
    NETWORK.into()
}

pub fn block_ref(height: u64, branch: &str) -> BlockRef {
    BlockRef { height, hash: BlockHash::new(format!("{height}{branch}")) }
}

/// Block `height` of branch `branch` on top of a block of branch `parent`.
pub fn block(height: u64, branch: &str, parent: &str, facts: Vec<TxFact>) -> Block {
    let header = Header {
        block: block_ref(height, branch),
        parent: BlockHash::new(format!("{}{parent}", height.saturating_sub(1))),
        time: time_of(height),
        slot: height,
        bytes: format!("{height}{branch}").into_bytes().into(),
    };
    let place = Place::Block { block: header.block.clone(), time: header.time };
    let facts = facts.into_iter().map(|fact| TxFact { place: place.clone(), ..fact }).collect();
    Block { floor: header.time, header, facts }
}

/// Blocks `from..=to` of a branch, with nothing in them.
pub fn empty(from: u64, to: u64, branch: &str) -> Vec<h402_watch_engine::input::Block> {
    (from..=to).map(|height| block(height, branch, branch, vec![])).collect()
}

pub fn time_of(height: u64) -> Timestamp {
    Timestamp(START_MS + height * BLOCK_MS)
}

/// A transaction that pays `amount` of the native coin to `to`.
pub fn pays(tx: &str, to: &str, amount: u64) -> TxFact {
    TxFact {
        tx: tx.into(),
        place: Place::Mempool,
        sender: Some("payer".into()),
        execution: Execution::Succeeded,
        spends: vec![SpendKey::new(format!("nonce-of-{tx}"))],
        transfers: vec![transfer(0, to, amount)],
        transfers_known: true,
        authorizations: Vec::new(),
        replaceable: true,
        matures: 0,
        funded_by: Vec::new(),
        memos: Vec::new(),
        references: Vec::new(),
        notes: Default::default(),
        verification: Verification::Endpoint,
        proof: None,
    }
}

pub fn transfer(index: u32, to: &str, amount: u64) -> Transfer {
    Transfer {
        index,
        asset: AssetId::native(),
        from: Some("payer".into()),
        to: to.into(),
        amount: Amount::from(amount),
        via: Via::Value,
    }
}

/// A request with a change.
pub fn with(mut request: WatchRequest, change: impl FnOnce(&mut WatchRequest)) -> WatchRequest {
    change(&mut request);
    request
}

/// A watch on transaction `tx` that asks for `amount` at `depth`.
pub fn watch_tx(tx: &str, amount: u64, depth: u32) -> WatchRequest {
    request(Subject::Transaction { tx: tx.into(), expiry: None }, amount, depth)
}

/// A watch on transaction `tx` that states when it can be included no more.
pub fn watch_expiring(tx: &str, expiry: Expiry) -> WatchRequest {
    request(Subject::Transaction { tx: tx.into(), expiry: Some(expiry) }, 100, 1)
}

/// A transaction that pays `amount` to `shop`, and carries these memos.
pub fn carries(tx: &str, memos: &[&str], amount: u64) -> TxFact {
    TxFact { memos: memos.iter().map(ToString::to_string).collect(), ..pays(tx, "shop", amount) }
}

/// A watch on the address `shop`.
pub fn watch_address(amount: u64, depth: u32) -> WatchRequest {
    request(Subject::Address, amount, depth)
}

/// A watch on what the descriptor `keys` derives.
pub fn watch_descriptor(amount: u64, gap_limit: u32) -> WatchRequest {
    let subject = Subject::Descriptor { descriptor: "keys".into(), gap_limit };
    with(request(subject, amount, 1), |it| it.terms.pay_to = "keys".into())
}

/// Descriptors of this world: `keys` derives `keys/0/0`, `keys/0/1`, … and `keys/1/0`, …; `no keys` derives nothing.
pub fn derive(descriptor: &str, branch: u32, index: u32) -> Option<Address> {
    (descriptor == "keys" && branch < 2).then(|| Address::new(format!("{descriptor}/{branch}/{index}")))
}

pub fn request(subject: Subject, amount: u64, depth: u32) -> WatchRequest {
    WatchRequest {
        network: network(),
        subject,
        terms: Terms {
            pay_to: "shop".into(),
            asset: AssetId::native(),
            amount: Amount::from(amount),
            amount_rule: AmountRule::AtLeast,
            payer: None,
            depth: Depth::Blocks(depth),
            not_before: None,
            from_height: None,
            deadline: Timestamp(START_MS + 1_000 * BLOCK_MS),
            at_deadline: AtDeadline::Fail,
            memo: None,
            references: Vec::new(),
        },
        binding: Binding::default(),
        idempotency_key: None,
        report: Report::Milestones,
        proofs: None,
    }
}

pub fn rules() -> NetworkRules {
    NetworkRules {
        network: network(),
        horizon: HORIZON,
        tags: vec![Tag::Safe, Tag::Finalized],
        searches_below: false,
        derive: Some(derive),
        deadline_grace_ms: 0,
        proofs: false,
        late_window_ms: 100 * BLOCK_MS,
    }
}

/// An engine, and what a store would hold.
pub struct World {
    pub engine: Engine,
    pub now: Timestamp,
    pub log: Vec<Event>,
    pub asks: Vec<Ask>,
    pub watches: BTreeMap<WatchId, Watch>,
    pub claims: BTreeMap<ClaimKey, Claim>,
    pub headers: BTreeMap<u64, Header>,
    pub marks: Option<FinalityMarks>,
    pub looked_up: Option<LookedUp>,
    rules: NetworkRules,
    told: usize,
}

impl World {
    /// A world whose chain is blocks 0 to 5 of branch `a`.
    pub fn new() -> Self {
        Self::under(rules())
    }

    /// The same under other rules.
    pub fn under(rules: NetworkRules) -> Self {
        let engine = Engine::restore(Limits::default(), vec![rules.clone()], Snapshot::default());
        let mut world = Self {
            engine,
            now: time_of(5),
            log: Vec::new(),
            asks: Vec::new(),
            watches: BTreeMap::new(),
            claims: BTreeMap::new(),
            headers: BTreeMap::new(),
            marks: None,
            looked_up: None,
            rules,
            told: 0,
        };
        world.blocks((0..=5).map(|height| block(height, "a", "a", Vec::new())).collect());
        world
    }

    pub fn create(&mut self, request: WatchRequest) -> WatchId {
        let id = self.engine.create(self.now, request).expect("a good request").id;
        self.commit();
        self.observe(Observation::LookedUp { watch: id.clone(), under: block_ref(5, "a"), facts: Vec::new() });
        id
    }

    pub fn observe(&mut self, observation: Observation) {
        let claims = observation.transactions().into_iter().flat_map(|tx| self.claims_of(tx)).collect();
        self.engine.handle_observation(self.now, &network(), observation, claims).expect("it links");
        self.commit();
    }

    fn claims_of(&self, tx: &TxId) -> Vec<(ClaimKey, Claim)> {
        self.claims.iter().filter(|(key, _)| key.tx == *tx).map(|(key, claim)| (key.clone(), claim.clone())).collect()
    }

    pub fn blocks(&mut self, blocks: Vec<Block>) {
        if let Some(last) = blocks.last() {
            self.now = self.now.max(last.header.time);
        }
        self.observe(Observation::Blocks(blocks));
    }

    /// The chain calls block `height` of branch `a` final.
    pub fn finalize(&mut self, height: u64) {
        self.observe(Observation::Finality { tag: Tag::Finalized, block: block_ref(height, "a") });
    }

    /// The source has proof, by block `height` of branch `a`, that a transaction has expired.
    pub fn expire(&mut self, tx: &str, expiry: &Expiry, height: u64) {
        let block = block_ref(height, "a");
        self.observe(Observation::Expired { tx: tx.into(), expiry: expiry.clone(), block });
    }

    /// Time passes and the source has nothing new.
    pub fn wait_until(&mut self, now: Timestamp) {
        self.now = now;
        self.observe(Observation::Synced { at: now });
    }

    pub fn commit(&mut self) {
        let Changes { watches, claims, events, headers, headers_removed, finality, looked_up, asks } =
            self.engine.drain();
        for Recorded { watch, record } in watches {
            assert_eq!(record, WatchRecord::of(&watch));
            self.watches.insert(watch.id.clone(), watch);
        }
        for (key, claim) in claims {
            match claim {
                Some(claim) => self.claims.insert(key, claim),
                None => self.claims.remove(&key),
            };
        }
        if let Some((_, marks)) = finality.into_iter().last() {
            self.marks = Some(marks);
        }
        if let Some((_, looked_up)) = looked_up.into_iter().last() {
            self.looked_up = Some(looked_up);
        }
        for (_, height) in headers_removed {
            self.headers.remove(&height);
        }
        self.headers.extend(headers.into_iter().map(|(_, header)| (header.block.height, header)));
        for event in &events {
            assert_eq!(event.sequence, self.log.len() as u64 + 1, "the log has no gap (invariant 5)");
            self.log.push(event.clone());
        }
        self.asks.extend(asks.into_iter().map(|(_, ask)| ask));
    }

    /// The process dies and starts again from what was committed. The look-ups that it asks for then.
    pub fn restart(&mut self) -> Vec<LookUp> {
        let seen = self.asks.len();
        let mut watches: Vec<_> = self.watches.values().filter(|watch| !watch.archived).cloned().collect();
        watches.sort_by_key(|watch| watch.ordinal);
        let candidates = watches.iter().flat_map(|watch| &watch.candidates);
        let txs: BTreeSet<_> = candidates.map(|candidate| candidate.fact.tx.clone()).collect();
        let claims = self.claims.iter().filter(|(key, _)| txs.contains(&key.tx));
        let claims: Vec<_> = claims.map(|(key, claim)| (key.clone(), claim.clone())).collect();
        let snapshot = Snapshot {
            chains: vec![(network(), self.headers.values().cloned().collect())],
            finality: self.marks.clone().map(|marks| (network(), marks)).into_iter().collect(),
            looked_up: self.looked_up.clone().map(|looked_up| (network(), looked_up)).into_iter().collect(),
            next_sequence: self.log.len() as u64 + 1,
            next_ordinal: self.watches.values().map(|watch| watch.ordinal + 1).max().unwrap_or(0),
        };
        let rules = vec![self.rules.clone()];
        self.engine = Engine::restore(Limits::default(), rules, snapshot);
        let found = self.engine.adopt_all(watches.into_iter().map(Recorded::of)).expect("the network is configured");
        assert_eq!(found, txs.into_iter().map(|tx| (network(), tx)).collect());
        self.engine.learn(claims);
        self.commit();
        let look_up = |ask: &Ask| if let Ask::LookUp(look_up) = ask { Some(look_up.clone()) } else { None };
        self.asks[seen..].iter().filter_map(look_up).collect()
    }

    /// The events since the last call, as `watch:event`, with what is most telling of each.
    pub fn told(&mut self) -> Vec<String> {
        let new = self.log[self.told..].iter().map(|event| self.line(event)).collect();
        self.told = self.log.len();
        new
    }

    /// All events so far.
    pub fn story(&self) -> Vec<String> {
        self.log.iter().map(|event| format!("{} {}", event.sequence, self.line(event))).collect()
    }

    fn line(&self, event: &Event) -> String {
        let json: serde_json::Value = serde_json::from_slice(&event.artefact).expect("an artefact is JSON");
        let ordinal = self.watches[&event.watch].ordinal;
        let mut line = format!("w{ordinal} {}", event.kind.as_str());
        if let Some(outcome) = json["outcome"].as_str() {
            line = format!("w{ordinal} {outcome}");
        }
        for part in
            [&json["reason"], &json["by"]["tx"], &json["transaction"]["block"]["hash"], &json["leftBlock"]["hash"]]
        {
            if let Some(text) = part.as_str() {
                line = format!("{line} {text}");
            }
        }
        line
    }

    pub fn claim_state(&self, tx: &str) -> Vec<(u64, ClaimState)> {
        let of_tx = self.claims.iter().filter(|(key, _)| key.tx.as_str() == tx);
        of_tx.map(|(_, claim)| (self.watches[&claim.watch].ordinal, claim.state)).collect()
    }
}
