//! What nodes answer about a block, as what moved in it: receipts, and calls inside transactions.

use std::collections::HashMap;

use alloy_primitives::{Address, B256, U256};
use h402_watch_engine::input::Execution;
use serde_json::value::RawValue;

use super::pool::Fetched;
use super::wire::{CallFrame, FlatTrace, RpcLog, RpcReceipt, TxTrace};

pub use h402_watch_verify::proof::{AUTHORIZATION_CANCELED, AUTHORIZATION_USED, TRANSFER};

/// The first index of a call inside a transaction; below are its value (0) and its log entries (1 + place).
pub const INTERNAL_BASE: u32 = 0x8000_0000;

/// Calls inside one transaction that are looked at.
const CALLS_MAX: usize = 4096;

/// One movement of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTransfer {
    /// Its place among the transaction's log entries, from 1.
    pub index: u32,
    /// The contract.
    pub token: Address,
    /// From whom.
    pub from: Address,
    /// To whom.
    pub to: Address,
    /// How much.
    pub amount: U256,
}

/// One use of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationLog {
    /// The contract.
    pub token: Address,
    /// Who signed it.
    pub authorizer: Address,
    /// Its single-use number.
    pub nonce: B256,
    /// Whether it was cancelled instead of used.
    pub cancelled: bool,
}

/// One movement of native coin by a call inside a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalTransfer {
    /// `0x8000_0000` and its place among the transaction's calls that carry coin.
    pub index: u32,
    /// From whom.
    pub from: Address,
    /// To whom.
    pub to: Address,
    /// How much.
    pub amount: U256,
}

/// What the receipts tell of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Which.
    pub hash: B256,
    /// Who sent it.
    pub from: Address,
    /// Whom it calls.
    pub to: Option<Address>,
    /// How it ended.
    pub execution: Execution,
    /// What its sender paid for it, in native coin, as far as the receipt tells.
    pub fee: U256,
    /// Tokens that moved.
    pub transfers: Vec<LogTransfer>,
    /// Authorizations that it used up.
    pub authorizations: Vec<AuthorizationLog>,
}

/// The checks that cost nothing and always apply: one receipt for each transaction, in order, of this block, with log
/// entries numbered without a gap (research/evm.md §2.4).
///
/// # Errors
/// Says what can't be.
pub fn check_receipts(raw: &RawValue, block: &Fetched) -> Result<Vec<Executed>, String> {
    let receipts: Vec<RpcReceipt> = serde_json::from_str(raw.get()).map_err(|error| format!("receipts: {error}"))?;
    let hashes = &block.block.transactions;
    if receipts.len() != hashes.len() {
        return Err(format!("{} receipts for {} transactions", receipts.len(), hashes.len()));
    }
    let mut next_log = None;
    for ((receipt, hash), index) in receipts.iter().zip(hashes).zip(0_u64..) {
        if receipt.block_hash != block.block.hash {
            return Err("a receipt of another block".into());
        }
        if receipt.transaction_hash != *hash || receipt.transaction_index.0 != index {
            return Err("receipts in another order than the transactions".into());
        }
        if receipt.status.is_some_and(|status| status.0 > 1) {
            return Err("a receipt with a status other than 0 and 1".into());
        }
        for log in &receipt.logs {
            let Some(at) = log.log_index else { continue };
            if next_log.is_some_and(|next| next != at.0) || log.removed {
                return Err("log entries that are not numbered without a gap".into());
            }
            next_log = Some(at.0.saturating_add(1));
        }
    }
    Ok(receipts.iter().map(executed).collect())
}

fn executed(receipt: &RpcReceipt) -> Executed {
    let execution = match receipt.status {
        Some(status) if status.0 == 1 => Execution::Succeeded,
        Some(_) => Execution::Reverted,
        None => Execution::Unknown,
    };
    // Some chains keep the log of what was reverted; it moved nothing.
    let logs: &[RpcLog] = if execution == Execution::Succeeded { &receipt.logs } else { &[] };
    let (mut transfers, mut authorizations) = (Vec::new(), Vec::new());
    for (log, index) in logs.iter().zip(1_u32..INTERNAL_BASE) {
        match log.topics.as_slice() {
            // Three topics and one word: ERC-721 has four topics, unindexed tokens of old have one.
            [TRANSFER, from, to] if log.data.len() == 32 => transfers.push(LogTransfer {
                index,
                token: log.address,
                from: Address::from_word(*from),
                to: Address::from_word(*to),
                amount: U256::from_be_slice(&log.data),
            }),
            [kind @ (AUTHORIZATION_USED | AUTHORIZATION_CANCELED), authorizer, nonce] => {
                authorizations.push(AuthorizationLog {
                    token: log.address,
                    authorizer: Address::from_word(*authorizer),
                    nonce: *nonce,
                    cancelled: *kind == AUTHORIZATION_CANCELED,
                });
            }
            _ => {}
        }
    }
    let (hash, from, to) = (receipt.transaction_hash, receipt.from, receipt.to);
    let price = receipt.effective_gas_price.map_or(U256::ZERO, |price| price.0);
    let fee = price.saturating_mul(U256::from(receipt.gas_used.map_or(0, |gas| gas.0)));
    Executed { hash, from, to, execution, fee, transfers, authorizations }
}

/// Collects movements per transaction; the order of the calls gives each its index.
struct Movements {
    by_tx: Vec<Vec<InternalTransfer>>,
}

impl Movements {
    fn add(&mut self, tx: usize, from: Address, to: Address, amount: U256) {
        let moved = &mut self.by_tx[tx];
        if amount.is_zero() || moved.len() >= CALLS_MAX {
            return;
        }
        let index = INTERNAL_BASE + u32::try_from(moved.len()).unwrap_or(0);
        moved.push(InternalTransfer { index, from, to, amount });
    }
}

/// Reads `trace_block`; `None` if it is of another block, or not of each transaction.
pub fn from_flat(block: &Fetched, traces: Vec<FlatTrace>) -> Option<Vec<Vec<InternalTransfer>>> {
    let positions: HashMap<_, _> = block.block.transactions.iter().zip(0_usize..).collect();
    let mut movements = Movements { by_tx: vec![Vec::new(); block.block.transactions.len()] };
    let mut traced = vec![false; block.block.transactions.len()];
    // Calls of the current transaction that failed; the traces of one stand together.
    let (mut current, mut failed) = (None, Vec::<Vec<u32>>::new());
    for trace in traces {
        let Some(hash) = trace.transaction_hash else { continue };
        if current.replace(hash) != Some(hash) {
            failed.clear();
        }
        if trace.block_hash.is_some_and(|of| of != block.block.hash) {
            return None;
        }
        let &position = positions.get(&hash)?;
        traced[position] = true;
        // What a failed call did, and what those did that it made, was undone.
        let undone = failed.iter().any(|call| trace.trace_address.starts_with(call));
        if trace.error.is_some() {
            // One within another failed call says nothing new.
            if !undone {
                failed.push(trace.trace_address);
            }
            continue;
        }
        // The outermost call is the transaction's own value, whether it calls a contract or makes one.
        if undone || trace.trace_address.is_empty() {
            continue;
        }
        let action = trace.action;
        let amount = action.value.map_or(U256::ZERO, |value| value.0);
        match trace.kind.as_str() {
            "call" if action.call_type.as_deref() == Some("call") => {
                if let (Some(from), Some(to)) = (action.from, action.to) {
                    movements.add(position, from, to, amount);
                }
            }
            "create" => {
                if let (Some(from), Some(to)) = (action.from, trace.result.and_then(|result| result.address)) {
                    movements.add(position, from, to, amount);
                }
            }
            "suicide" => {
                if let (Some(from), Some(to), Some(balance)) = (action.address, action.refund_address, action.balance) {
                    movements.add(position, from, to, balance.0);
                }
            }
            _ => {}
        }
    }
    // A node without traces of the block says that there are none.
    traced.into_iter().all(|seen| seen).then_some(movements.by_tx)
}

/// Reads `debug_traceBlockByHash` with `callTracer`; `None` if it is of another block.
pub fn from_frames(block: &Fetched, traces: Vec<TxTrace>) -> Option<Vec<Vec<InternalTransfer>>> {
    let hashes = &block.block.transactions;
    if traces.len() != hashes.len() {
        return None;
    }
    let mut movements = Movements { by_tx: vec![Vec::new(); hashes.len()] };
    for ((trace, hash), position) in traces.iter().zip(hashes).zip(0..) {
        if trace.tx_hash.is_some_and(|of| of != *hash) {
            return None;
        }
        if trace.result.error.is_none() {
            for call in &trace.result.calls {
                walk(&mut movements, position, call);
            }
        }
    }
    Some(movements.by_tx)
}

/// A call, then those that it made; a failed one undid them all.
fn walk(movements: &mut Movements, position: usize, call: &CallFrame) {
    if call.error.is_some() {
        return;
    }
    if let ("CALL" | "CREATE" | "CREATE2" | "SELFDESTRUCT", Some(to), Some(value)) =
        (call.kind.as_str(), call.to, call.value)
    {
        movements.add(position, call.from, to, value.0);
    }
    for inner in &call.calls {
        walk(movements, position, inner);
    }
}

/// Reads JSON that may be nested as deeply as the EVM allows calls (1,024, two levels each), which is more than
/// `serde_json` does by itself.
pub(super) fn read_deep<T: serde::de::DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
    const DEPTH_MAX: usize = 2 * 1024 + 64;
    let mut depth = 0_usize;
    for byte in raw.get().bytes() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err("an answer that is nested too deeply".into());
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    deserializer.disable_recursion_limit();
    let deserializer = serde_stacker::Deserializer::new(&mut deserializer);
    T::deserialize(deserializer).map_err(|error| format!("an answer that can't be read: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(depth: usize) -> Box<RawValue> {
        let frame = r#"{"type":"CALL","from":"0x00000000000000000000000000000000000000aa","calls":["#;
        let text = format!("[{{\"result\":{}{}}}]", frame.repeat(depth), "]}".repeat(depth));
        RawValue::from_string(text).expect("JSON")
    }

    #[test]
    fn traces_may_be_as_deep_as_calls_and_no_deeper() {
        assert_eq!(read_deep::<Vec<TxTrace>>(&nested(1024)).expect("the EVM's own limit").len(), 1);
        assert!(read_deep::<Vec<TxTrace>>(&nested(5000)).is_err());
    }

    #[test]
    fn what_a_failed_call_did_was_undone_with_all_that_it_made() {
        let hash = B256::repeat_byte(3);
        let block: super::super::wire::RpcBlock = serde_json::from_value(json!({
            "hash": B256::repeat_byte(1), "parentHash": B256::repeat_byte(2), "number": "0x1", "timestamp": "0x1",
            "transactions": [hash],
        }))
        .expect("a block");
        let call = |address: &[u32], error: Option<&str>| {
            json!({
                "type": "call", "transactionHash": hash, "traceAddress": address, "error": error,
                "action": {
                    "callType": "call", "from": Address::repeat_byte(0xaa), "to": Address::repeat_byte(0xbb), "value": "0x5",
                },
            })
        };
        let traces = json!([
            call(&[], None),
            call(&[0], Some("Reverted")),
            call(&[0, 0], None),
            call(&[1], None),
            call(&[1, 0], None),
        ]);
        let traces = serde_json::from_value(traces).expect("traces");
        let moved = from_flat(&Fetched { block, header: [].into() }, traces).expect("of this block");
        assert_eq!(moved[0].len(), 2, "{moved:?}");
        assert_eq!(moved[0][1].index, INTERNAL_BASE + 1);
    }
}
