//! What nodes answer, read tolerantly: chains add fields and types of transactions, and spell numbers as they like.

use alloy_primitives::{Address, B256, Bytes, U256};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A hex number of up to 64 bits; leading zeros are fine (they occur in the wild), `0x` alone is zero (Tron).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(pub u64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("expected a number in hex with 0x"))?;
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Ok(Self(0));
        }
        u64::from_str_radix(digits, 16)
            .map(Self)
            .map_err(|_| D::Error::custom("expected a hex number of at most 64 bits"))
    }
}

/// A 256-bit hex number, read as tolerantly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wei(pub U256);

impl<'de> Deserialize<'de> for Wei {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("expected a number in hex with 0x"))?;
        let digits = if digits.is_empty() { "0" } else { digits };
        U256::from_str_radix(digits, 16)
            .map(Self)
            .map_err(|_| D::Error::custom("expected a hex number of at most 256 bits"))
    }
}

/// A value that some nodes spell as `null`, and others as `0x`.
fn maybe<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let raw = Option::<&'de RawValue>::deserialize(deserializer)?;
    match raw.map(RawValue::get) {
        None | Some("null" | "\"0x\"" | "\"\"") => Ok(None),
        Some(text) => serde_json::from_str(text).map(Some).map_err(D::Error::custom),
    }
}

/// A block's header with the hashes of its transactions.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcBlock {
    /// Its hash.
    pub hash: B256,
    /// Its parent's.
    pub parent_hash: B256,
    /// Its height.
    pub number: Quantity,
    /// The time it states, seconds.
    pub timestamp: Quantity,
    /// Its transactions in order.
    #[serde(default)]
    pub transactions: Vec<B256>,
}

/// A transaction.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcTx {
    /// Its hash.
    pub hash: B256,
    /// Its block; absent while it is pending.
    #[serde(default, deserialize_with = "maybe")]
    pub block_hash: Option<B256>,
    /// Its block's height; absent while it is pending.
    #[serde(default, deserialize_with = "maybe")]
    pub block_number: Option<Quantity>,
    /// Who sent it.
    pub from: Address,
    /// Whom it calls; absent where it makes a contract.
    #[serde(default, deserialize_with = "maybe")]
    pub to: Option<Address>,
    /// Native coin that it carries.
    pub value: Wei,
    /// The sender's count.
    pub nonce: Quantity,
    /// What it calls with.
    #[serde(default)]
    pub input: Bytes,
}

/// A chain receipt.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcReceipt {
    /// The transaction.
    pub transaction_hash: B256,
    /// Its place in the block.
    pub transaction_index: Quantity,
    /// Its block.
    pub block_hash: B256,
    /// Who sent it.
    pub from: Address,
    /// Whom it calls.
    #[serde(default, deserialize_with = "maybe")]
    pub to: Option<Address>,
    /// 1: it did what it says; 0: it moved nothing.
    #[serde(default, deserialize_with = "maybe")]
    pub status: Option<Quantity>,
    /// Gas that it took.
    #[serde(default, deserialize_with = "maybe")]
    pub gas_used: Option<Quantity>,
    /// What each unit of gas cost.
    #[serde(default, deserialize_with = "maybe")]
    pub effective_gas_price: Option<Wei>,
    /// What its contracts logged.
    pub logs: Vec<RpcLog>,
}

/// An entry of a contract's log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcLog {
    /// The contract.
    pub address: Address,
    /// The event and its indexed values.
    pub topics: Vec<B256>,
    /// Its other values.
    pub data: Bytes,
    /// Its place in the block.
    #[serde(default, deserialize_with = "maybe")]
    pub log_index: Option<Quantity>,
    /// Its block.
    #[serde(default, deserialize_with = "maybe")]
    pub block_hash: Option<B256>,
    /// Its transaction.
    #[serde(default, deserialize_with = "maybe")]
    pub transaction_hash: Option<B256>,
    /// Whether a reorg took it back.
    #[serde(default)]
    pub removed: bool,
}

/// An entry of `trace_block`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlatTrace {
    /// `call`, `create`, `suicide`, `reward`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was done.
    pub action: FlatAction,
    /// Why it failed, if it did.
    #[serde(default)]
    pub error: Option<String>,
    /// What came of it.
    #[serde(default)]
    pub result: Option<FlatResult>,
    /// Which call of which call.
    #[serde(default)]
    pub trace_address: Vec<u32>,
    /// Its transaction; absent for rewards.
    #[serde(default)]
    pub transaction_hash: Option<B256>,
    /// Its block.
    #[serde(default)]
    pub block_hash: Option<B256>,
}

/// What a call of `trace_block` did.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlatAction {
    /// `call`, `delegatecall`, …
    #[serde(default)]
    pub call_type: Option<String>,
    /// Who called.
    #[serde(default)]
    pub from: Option<Address>,
    /// Whom.
    #[serde(default)]
    pub to: Option<Address>,
    /// With how much.
    #[serde(default)]
    pub value: Option<Wei>,
    /// The contract that destroyed itself.
    #[serde(default)]
    pub address: Option<Address>,
    /// Who got what it had.
    #[serde(default)]
    pub refund_address: Option<Address>,
    /// How much that was.
    #[serde(default)]
    pub balance: Option<Wei>,
}

/// What came of a call of `trace_block`.
#[derive(Clone, Debug, Deserialize)]
pub struct FlatResult {
    /// The contract that was made.
    #[serde(default)]
    pub address: Option<Address>,
}

/// The answer of `debug_traceBlockByHash` with `callTracer`, for one transaction.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TxTrace {
    /// Which; some nodes leave it out, the order is that of the block.
    #[serde(default)]
    pub tx_hash: Option<B256>,
    /// The outermost call.
    pub result: CallFrame,
}

/// A call and those that it made.
#[derive(Clone, Debug, Deserialize)]
pub struct CallFrame {
    /// `CALL`, `DELEGATECALL`, `CREATE`, `SELFDESTRUCT`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Who called.
    pub from: Address,
    /// Whom.
    #[serde(default)]
    pub to: Option<Address>,
    /// With how much.
    #[serde(default)]
    pub value: Option<Wei>,
    /// Why it failed, if it did.
    #[serde(default)]
    pub error: Option<String>,
    /// The calls that it made.
    #[serde(default)]
    pub calls: Vec<CallFrame>,
}
