//! JSON-RPC methods, answered as Agave 4.2 does.

use serde_json::{Value, json};

use super::CACHE;
use super::account::{RENT, SYSTEM, account_json, holding_json};
use super::chain::{Block, Chain, Ledger};
use super::encode::{self, Detail};
use super::faults::{Faults, Level};
use super::tx::Placed;

/// A JSON-RPC error.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

impl Refusal {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: Value::Null }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    /// Of a slot.
    pub(super) fn slot(code: i64, slot: u64, first: u64) -> Self {
        let message = match code {
            -32001 => {
                format!("Block {slot} cleaned up, does not exist on node. First available block: {first}")
            }
            -32004 => format!("Block not available for slot {slot}"),
            -32007 => format!("Slot {slot} was skipped, or missing due to ledger jump to recent snapshot"),
            -32009 => format!("Slot {slot} was skipped, or missing in long-term storage"),
            -32014 => format!("Block status not yet available for slot {slot}"),
            _ => format!("no answer for slot {slot}"),
        };
        Self::new(code, message)
    }

    pub(super) fn json(&self) -> Value {
        let mut json = json!({ "code": self.code, "message": self.message });
        if !self.data.is_null() {
            json["data"] = self.data.clone();
        }
        json
    }
}

type Answer = Result<Value, Refusal>;

/// A chain as one node sees it for one call.
pub(super) struct View<'a> {
    pub chain: &'a Chain,
    pub faults: &'a Faults,
    pub processed: u64,
    pub confirmed: u64,
    pub finalized: u64,
}

impl View<'_> {
    pub(super) fn answer(&self, method: &str, params: &Value) -> Answer {
        match method {
            "getSlot" => Ok(json!(self.slot(&params[0])?)),
            "getBlockHeight" => Ok(json!(self.bank(&params[0])?.height)),
            "getLatestBlockhash" => {
                let bank = self.bank(&params[0])?;
                let value = json!({ "blockhash": bank.hash, "lastValidBlockHeight": bank.height + 150 });
                Ok(with_context(bank.slot, &value))
            }
            "getEpochInfo" => self.epoch_info(&params[0]),
            "getGenesisHash" => {
                let real = || self.chain.below(0).hash.clone();
                Ok(json!(self.faults.genesis.clone().unwrap_or_else(real)))
            }
            "getFirstAvailableBlock" => Ok(json!(self.faults.first)),
            "getBlock" => self.block(params),
            "getBlocks" => self.blocks(params),
            "getBlockTime" => self.block_time(params),
            "getSignatureStatuses" => self.statuses(params),
            "getTransaction" => self.transaction(params),
            "getSignaturesForAddress" => self.signatures_for(params),
            "getTokenAccountsByOwner" => self.tokens_of(params),
            "getAccountInfo" => self.account(params),
            "getMultipleAccounts" => self.accounts(params),
            "getHealth" => Ok(json!("ok")),
            "getVersion" => Ok(json!({ "feature-set": 4_033_350_765_u64, "solana-core": "4.2.2" })),
            // Not migrated to Alpenglow.
            "getAgGenesisCert" => Ok(Value::Null),
            _ => Err(Refusal::new(-32601, "Method not found")),
        }
    }

    /// The newest slot of the commitment that is asked for.
    fn slot(&self, config: &Value) -> Result<u64, Refusal> {
        let slot = match level(config)? {
            Level::Processed => self.processed,
            Level::Confirmed => self.confirmed,
            Level::Finalized => self.finalized,
        };
        if config["minContextSlot"].as_u64().is_some_and(|least| slot < least) {
            let refusal = Refusal::new(-32016, "Minimum context slot has not been reached");
            return Err(Refusal { data: json!({ "contextSlot": slot }), ..refusal });
        }
        Ok(slot)
    }

    fn bank(&self, config: &Value) -> Result<&Block, Refusal> {
        Ok(self.chain.below(self.slot(config)?))
    }

    fn epoch_info(&self, config: &Value) -> Answer {
        let bank = self.bank(config)?;
        let transactions: usize = self.chain.range(0..=bank.slot).map(|block| block.transactions.len()).sum();
        Ok(json!({
            "absoluteSlot": bank.slot, "blockHeight": bank.height, "epoch": bank.slot / 432_000,
            "slotIndex": bank.slot % 432_000, "slotsInEpoch": 432_000, "transactionCount": transactions,
        }))
    }

    fn block(&self, params: &Value) -> Answer {
        let slot = params[0].as_u64().ok_or_else(|| Refusal::invalid("Invalid params: invalid type"))?;
        let config = &params[1];
        let detail = match config["transactionDetails"].as_str() {
            None | Some("full") => Detail::Full,
            Some("accounts") => Detail::Accounts,
            Some("signatures") => Detail::Signatures,
            Some("none") => Detail::None,
            Some(other) => return Err(Refusal::invalid(format!("Invalid params: unknown variant `{other}`"))),
        };
        only_json(config)?;
        let level = at_least_confirmed(config)?;
        let refuse = |code| Refusal::slot(code, slot, self.faults.first);
        match self.faults.withheld.get(&slot) {
            Some(Some(code)) => return Err(refuse(*code)),
            Some(None) => return Ok(Value::Null),
            None => {}
        }
        let block = match self.chain.get(slot) {
            // A node says so of finalized slots only.
            _ if slot <= self.finalized && slot < self.faults.first => return Err(refuse(-32001)),
            None if slot < self.finalized => return Err(refuse(-32007)),
            Some(block) if slot <= self.finalized => block,
            Some(block) if slot <= self.confirmed && level == Level::Confirmed => block,
            _ => return Err(refuse(-32004)),
        };
        let rewards = config["rewards"].as_bool().unwrap_or(true);
        encode::block(block, detail, rewards, config["maxSupportedTransactionVersion"].as_u64())
    }

    fn blocks(&self, params: &Value) -> Answer {
        let start = params[0].as_u64().ok_or_else(|| Refusal::invalid("Invalid params: invalid type"))?;
        let (end, config) = match params[1].as_u64() {
            Some(end) => (end, &params[2]),
            None if params[1].is_object() => (start.saturating_add(500_000), &params[1]),
            None => (start.saturating_add(500_000), &params[2]),
        };
        at_least_confirmed(config)?;
        let end = end.min(self.slot(config)?);
        if end < start {
            return Ok(json!([]));
        }
        if end - start > 500_000 {
            return Err(Refusal::invalid("Slot range too large; max 500000"));
        }
        let first = start.max(self.faults.first);
        if end < first {
            return Ok(json!([]));
        }
        let slots = self.chain.range(first..=end).map(|block| block.slot);
        Ok(slots.filter(|slot| !self.faults.omitted.contains(slot)).map(|slot| json!(slot)).collect())
    }

    fn block_time(&self, params: &Value) -> Answer {
        let slot = params[0].as_u64().ok_or_else(|| Refusal::invalid("Invalid params: invalid type"))?;
        let refuse = |code| Refusal::slot(code, slot, self.faults.first);
        match self.chain.get(slot) {
            _ if slot < self.faults.first => Err(refuse(-32001)),
            Some(block) if slot <= self.processed => Ok(json!(block.time)),
            None if slot < self.finalized => Err(refuse(-32007)),
            _ => Err(refuse(-32004)),
        }
    }

    fn statuses(&self, params: &Value) -> Answer {
        let asked = params[0].as_array().ok_or_else(|| Refusal::invalid("Invalid params: invalid type"))?;
        if asked.len() > 256 {
            return Err(Refusal::invalid("Too many inputs provided; max 256"));
        }
        let history = params[1]["searchTransactionHistory"].as_bool().unwrap_or_default();
        let statuses: Vec<_> =
            asked.iter().map(|one| Ok(self.status(signature(one)?, history))).collect::<Result<_, Refusal>>()?;
        Ok(with_context(self.processed, &json!(statuses)))
    }

    fn status(&self, signature: &str, history: bool) -> Value {
        let Some(placed) = self.find(signature) else { return Value::Null };
        let (slot, placed) = placed;
        let remembered = slot + CACHE > self.processed;
        let kept = history && slot <= self.finalized && slot >= self.faults.first;
        if self.faults.hidden_statuses.contains(signature) || !(remembered || kept) || slot > self.processed {
            return Value::Null;
        }
        let err = &placed.tx.err;
        let final_now = slot <= self.finalized;
        json!({
            "confirmationStatus": if slot > self.confirmed { "processed" } else { self.level_of(slot) },
            // Votes on top, as if each slot had one; null is finalized.
            "confirmations": (!final_now).then(|| (self.processed - slot).min(31)),
            "err": err,
            "slot": slot,
            "status": err.as_ref().map_or(json!({ "Ok": null }), |err| json!({ "Err": err })),
        })
    }

    fn transaction(&self, params: &Value) -> Answer {
        let signature = signature(&params[0])?;
        // The configuration may be an encoding alone.
        let old = json!({ "encoding": params[1] });
        let config = if params[1].is_string() { &old } else { &params[1] };
        only_json(config)?;
        let highest = if at_least_confirmed(config)? == Level::Confirmed { self.confirmed } else { self.finalized };
        let found = self.find(signature).filter(|(slot, _)| *slot <= highest && *slot >= self.faults.first);
        let Some((slot, placed)) = found else { return Ok(Value::Null) };
        if self.faults.hidden_transactions.contains(signature) {
            return Ok(Value::Null);
        }
        let mut json = encode::transaction(placed, Detail::Full, config["maxSupportedTransactionVersion"].as_u64())?;
        json["blockTime"] = json!(self.chain.below(slot).time);
        json["slot"] = json!(slot);
        json["transactionIndex"] = json!(self.chain.place(signature).map(|(_, n)| n));
        Ok(json)
    }

    fn signatures_for(&self, params: &Value) -> Answer {
        let (address, config) = (key(&params[0])?, &params[1]);
        let level = at_least_confirmed(config)?;
        let limit = config["limit"].as_u64().unwrap_or(1_000);
        if limit == 0 || limit > 1_000 {
            return Err(Refusal::invalid("Invalid limit; max 1000"));
        }
        let highest = if level == Level::Confirmed { self.slot(config)? } else { self.finalized };
        let bound = |name: &str| -> Result<Option<(u64, usize)>, Refusal> {
            if config[name].is_null() {
                return Ok(None);
            }
            let signature = signature(&config[name])?;
            let place = self.chain.place(signature).filter(|(slot, _)| *slot <= highest && *slot >= self.faults.first);
            let unknown = || Refusal::new(-32020, format!("Transaction {signature} not found"));
            Ok(Some(place.ok_or_else(unknown)?))
        };
        let (before, until) = (bound("before")?, bound("until")?);
        let blocks = self.chain.range(self.faults.first..=highest.max(self.faults.first)).rev();
        let all = blocks.flat_map(|block| {
            let txs = block.transactions.iter().enumerate().rev();
            txs.map(move |(n, placed)| (block, n, placed))
        });
        let found = all.filter(|(block, n, placed)| {
            let at = (block.slot, *n);
            let between = before.is_none_or(|before| at < before) && until.is_none_or(|until| at > until);
            between && block.slot <= highest && placed.touches(address)
        });
        let limit = usize::try_from(limit).expect("at most 1000");
        Ok(found.take(limit).map(|(block, n, placed)| self.listed(block, n, placed)).collect())
    }

    fn listed(&self, block: &Block, index: usize, placed: &Placed) -> Value {
        json!({
            "blockTime": block.time,
            "confirmationStatus": self.level_of(block.slot),
            "err": placed.tx.err,
            "memo": placed.memo(),
            "signature": placed.tx.signature,
            "slot": block.slot,
            "transactionIndex": index,
        })
    }

    fn tokens_of(&self, params: &Value) -> Answer {
        let (owner, filter, config) = (key(&params[0])?, &params[1], &params[2]);
        let slot = self.slot(config)?;
        let ledger = self.chain.ledger_at(slot);
        let held = ledger.holdings.iter().filter(|(_, holding)| {
            holding.owner == owner
                && (filter["mint"] == holding.mint.address.as_str()
                    || filter["programId"] == holding.mint.program.as_str())
        });
        let accounts: Vec<_> =
            held.map(|(key, _)| json!({ "pubkey": key, "account": account(&ledger, key, config) })).collect();
        Ok(with_context(slot, &json!(accounts)))
    }

    fn account(&self, params: &Value) -> Answer {
        let slot = self.slot(&params[1])?;
        let account = account(&self.chain.ledger_at(slot), key(&params[0])?, &params[1]);
        Ok(with_context(slot, &account))
    }

    fn accounts(&self, params: &Value) -> Answer {
        let slot = self.slot(&params[1])?;
        let ledger = self.chain.ledger_at(slot);
        let keys = params[0].as_array().ok_or_else(|| Refusal::invalid("Invalid params: invalid type"))?;
        if keys.len() > 100 {
            return Err(Refusal::invalid("Too many inputs provided; max 100"));
        }
        let accounts = keys.iter().map(|each| Ok(account(&ledger, key(each)?, &params[1])));
        Ok(with_context(slot, &accounts.collect::<Result<_, Refusal>>()?))
    }

    fn find(&self, signature: &str) -> Option<(u64, &Placed)> {
        let (slot, n) = self.chain.place(signature)?;
        Some((slot, &self.chain.get(slot)?.transactions[n]))
    }

    fn level_of(&self, slot: u64) -> &'static str {
        if slot <= self.finalized { "finalized" } else { "confirmed" }
    }
}

fn with_context(slot: u64, value: &Value) -> Value {
    json!({ "context": { "apiVersion": "4.2.2", "slot": slot }, "value": value })
}

fn level(config: &Value) -> Result<Level, Refusal> {
    match config["commitment"].as_str() {
        None | Some("finalized") => Ok(Level::Finalized),
        Some("confirmed") => Ok(Level::Confirmed),
        Some("processed") => Ok(Level::Processed),
        Some(other) => Err(Refusal::invalid(format!("Invalid params: unknown variant `{other}`"))),
    }
}

fn at_least_confirmed(config: &Value) -> Result<Level, Refusal> {
    match level(config)? {
        Level::Processed => Err(Refusal::invalid("Method does not support commitment below `confirmed`")),
        level => Ok(level),
    }
}

/// Of what a node offers, this one writes JSON alone.
fn only_json(config: &Value) -> Result<(), Refusal> {
    match config["encoding"].as_str() {
        None | Some("json") => Ok(()),
        Some(other) => Err(Refusal::invalid(format!("this node does not write {other}"))),
    }
}

fn key(value: &Value) -> Result<&str, Refusal> {
    sized(value, 32)
}

fn signature(value: &Value) -> Result<&str, Refusal> {
    sized(value, 64)
}

fn sized(value: &Value, size: usize) -> Result<&str, Refusal> {
    let text = value.as_str().ok_or_else(|| Refusal::invalid("Invalid params: invalid type"))?;
    match bs58::decode(text).into_vec() {
        Ok(bytes) if bytes.len() == size => Ok(text),
        Ok(_) => Err(Refusal::invalid("Invalid param: WrongSize")),
        Err(_) => Err(Refusal::invalid("Invalid param: Invalid")),
    }
}

fn account(ledger: &Ledger, key: &str, config: &Value) -> Value {
    let encoding = config["encoding"].as_str().unwrap_or("base64");
    let lamports = ledger.lamports.get(key).copied();
    if let Some(holding) = ledger.holdings.get(key) {
        return holding_json(holding, lamports.unwrap_or(RENT), encoding);
    }
    match (ledger.accounts.get(key), lamports) {
        (Some(account), lamports) => account.json(lamports.unwrap_or(RENT), encoding),
        (None, Some(lamports)) if lamports > 0 => account_json(SYSTEM, lamports, &[], None, encoding),
        _ => Value::Null,
    }
}
