//! What nodes answer, as far as it is read.
//!
//! Texts are borrowed from the answer: a block of mainnet names some hundred thousand accounts, and all but a few are only
//! looked at.

use serde::Deserialize;
use serde_json::Value;

/// A block: its header, and its transactions where they were asked for (`getBlock`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcBlock<'a> {
    pub blockhash: &'a str,
    pub previous_blockhash: &'a str,
    pub parent_slot: u64,
    pub block_height: Option<u64>,
    /// Seconds.
    pub block_time: Option<u64>,
    #[serde(borrow)]
    pub transactions: Option<Vec<BlockTx<'a>>>,
}

/// A transaction of a block, with the accounts that it names (`transactionDetails: "accounts"`).
#[derive(Debug, Deserialize)]
pub struct BlockTx<'a> {
    #[serde(borrow)]
    pub transaction: Accounts<'a>,
    #[serde(borrow)]
    pub meta: Option<Meta<'a>>,
}

/// Who is named, those of look-up tables included.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accounts<'a> {
    #[serde(borrow)]
    pub signatures: Vec<&'a str>,
    #[serde(borrow)]
    pub account_keys: Vec<Account<'a>>,
}

/// An account that a transaction names.
#[derive(Debug, Deserialize)]
pub struct Account<'a> {
    pub pubkey: &'a str,
}

/// What a transaction did.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta<'a> {
    pub err: Option<Value>,
    pub fee: u64,
    pub pre_balances: Vec<u64>,
    pub post_balances: Vec<u64>,
    /// `null` where the node did not record them.
    #[serde(borrow)]
    pub pre_token_balances: Option<Vec<TokenBalance<'a>>>,
    #[serde(borrow)]
    pub post_token_balances: Option<Vec<TokenBalance<'a>>>,
    #[serde(borrow)]
    pub loaded_addresses: Option<Loaded<'a>>,
    #[serde(borrow)]
    pub inner_instructions: Option<Vec<Inner<'a>>>,
}

/// What a token account holds. A mint is of one token program only, which need not be read beside it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenBalance<'a> {
    pub account_index: usize,
    pub mint: &'a str,
    pub owner: Option<&'a str>,
    #[serde(borrow)]
    pub ui_token_amount: TokenAmount<'a>,
}

/// An amount of a token; the exact one of its spellings.
#[derive(Debug, Deserialize)]
pub struct TokenAmount<'a> {
    pub amount: &'a str,
}

/// Accounts that look-up tables brought.
#[derive(Debug, Deserialize)]
pub struct Loaded<'a> {
    #[serde(borrow)]
    pub writable: Vec<&'a str>,
    #[serde(borrow)]
    pub readonly: Vec<&'a str>,
}

/// What one instruction called.
#[derive(Debug, Deserialize)]
pub struct Inner<'a> {
    #[serde(borrow)]
    pub instructions: Vec<Instruction<'a>>,
}

/// An instruction: which program, and what it was told, in base58.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instruction<'a> {
    pub program_id_index: usize,
    pub data: &'a str,
}

/// A transaction by its signature (`getTransaction`).
#[derive(Debug, Deserialize)]
pub struct RpcTx<'a> {
    pub slot: u64,
    #[serde(borrow)]
    pub transaction: Whole<'a>,
    #[serde(borrow)]
    pub meta: Option<Meta<'a>>,
}

/// A transaction with its instructions.
#[derive(Debug, Deserialize)]
pub struct Whole<'a> {
    #[serde(borrow)]
    pub signatures: Vec<&'a str>,
    #[serde(borrow)]
    pub message: Message<'a>,
}

/// What its signers signed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message<'a> {
    #[serde(borrow)]
    pub account_keys: Vec<&'a str>,
    #[serde(borrow)]
    pub instructions: Vec<Instruction<'a>>,
}

/// An answer, and the slot that it was given under.
#[derive(Debug, Deserialize)]
pub struct Under<T> {
    pub context: Context,
    pub value: T,
}

/// What an answer was given under.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Context {
    pub slot: u64,
}

/// How far a transaction has come (`getSignatureStatuses`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub slot: u64,
    /// Old nodes have no such word; without votes to wait for it is final.
    pub confirmation_status: Option<Commitment>,
    #[serde(default)]
    pub confirmations: Option<u64>,
}

impl Status {
    /// Whether it is in a block that most have voted for.
    pub fn is_confirmed(&self) -> bool {
        match self.confirmation_status {
            Some(commitment) => commitment != Commitment::Processed,
            None => self.confirmations.is_none(),
        }
    }
}

/// How firmly a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Commitment {
    Processed,
    Confirmed,
    Finalized,
}

/// A transaction that names an account (`getSignaturesForAddress`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signed {
    pub signature: String,
    pub slot: u64,
    pub err: Option<Value>,
    /// Seconds.
    pub block_time: Option<u64>,
}

/// An account, its data in base64.
#[derive(Debug, Deserialize)]
pub struct RpcAccount {
    pub owner: String,
    /// The data, and the name of its encoding.
    pub data: (String, String),
}

/// An account's address, of `getTokenAccountsByOwner`.
#[derive(Debug, Deserialize)]
pub struct Keyed {
    pub pubkey: String,
}
