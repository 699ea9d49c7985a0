//! Keys, and what accounts hold.

use alloy_primitives::U256;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub const SYSTEM: &str = "11111111111111111111111111111111";
pub const TOKEN: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
pub const TOKEN_2022: &str = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb";
pub const ATA: &str = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL";
pub const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";

/// What keeps a token account from being collected.
pub const RENT: u64 = 2_039_280;

pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

pub(super) fn base58(bytes: &[u8]) -> String {
    bs58::encode(bytes).into_string()
}

pub(super) fn bytes(key: &str) -> Vec<u8> {
    bs58::decode(key).into_vec().expect("base58")
}

/// A wallet's key, the same for the same name.
pub fn key(name: &str) -> String {
    let keys = (0_u8..=255).map(|n| sha256(&[name.as_bytes(), &[n]]));
    base58(&keys.into_iter().find(on_curve).expect("every other one is on the curve"))
}

/// Where a wallet keeps a mint's tokens unless it says otherwise.
pub fn ata(owner: &str, mint: &Mint) -> String {
    let (owner, program, address) = (bytes(owner), bytes(&mint.program), bytes(&mint.address));
    let candidates = (0_u8..=255)
        .rev()
        .map(|bump| sha256(&[&owner, &program, &address, &[bump], &bytes(ATA), b"ProgramDerivedAddress".as_slice()]));
    base58(&candidates.into_iter().find(|key| !on_curve(key)).expect("every other one is off the curve"))
}

/// Whether it is a point of ed25519: y² - 1 over d·y² + 1 is a square.
fn on_curve(key: &[u8; 32]) -> bool {
    let p: U256 = (U256::ONE << 255) - U256::from(19);
    let d: U256 = (p - U256::from(121_665_u64)).mul_mod(U256::from(121_666).pow_mod(p - U256::from(2), p), p);
    let y: U256 = U256::from_le_bytes(*key) & ((U256::ONE << 255) - U256::ONE);
    let squared = y.mul_mod(y, p);
    let above = squared.add_mod(p - U256::ONE, p);
    let below = squared.mul_mod(d, p).add_mod(U256::ONE, p);
    above.is_zero() || above.mul_mod(below, p).pow_mod((p - U256::ONE) >> 1, p) == U256::ONE
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub struct Mint {
    pub address: String,
    pub program: String,
    pub decimals: u8,
    /// What Token-2022 withholds of a transfer.
    pub fee_basis_points: u64,
}

impl Mint {
    /// Of the Token program, with 6 decimals.
    pub fn token(name: &str) -> Self {
        Self { address: key(name), program: TOKEN.into(), decimals: 6, fee_basis_points: 0 }
    }

    /// Of Token-2022, with 6 decimals and this fee.
    pub fn token_2022(name: &str, fee_basis_points: u64) -> Self {
        Self { program: TOKEN_2022.into(), fee_basis_points, ..Self::token(name) }
    }

    /// Rounded up, as Token-2022 does.
    pub(super) fn fee_of(&self, amount: u64) -> u64 {
        let fee = (u128::from(amount) * u128::from(self.fee_basis_points)).div_ceil(10_000);
        u64::try_from(fee).expect("at most the amount")
    }
}

/// Tokens in an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    pub owner: String,
    pub mint: Mint,
    pub amount: u64,
}

/// An account that is neither a plain wallet nor one of tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Account {
    Nonce { authority: String, value: String },
    Mint(Mint),
    Other { program: String, data: Vec<u8> },
}

/// What a nonce becomes where this is the latest blockhash.
pub(super) fn durable(blockhash: &str) -> String {
    base58(&sha256(&[b"DURABLE_NONCE", &bytes(blockhash)]))
}

/// `getAccountInfo` on an account of tokens.
pub(super) fn holding_json(holding: &Holding, lamports: u64, encoding: &str) -> Value {
    let Holding { owner, mint, amount } = holding;
    let info = json!({
        "isNative": false, "mint": mint.address, "owner": owner, "state": "initialized",
        "tokenAmount": ui_amount(*amount, mint.decimals, false),
    });
    let name = if mint.program == TOKEN { "spl-token" } else { "spl-token-2022" };
    let parsed = json!({ "program": name, "parsed": { "info": info, "type": "account" }, "space": 165 });
    // Mint, owner, amount, no delegate; state "initialized"; neither native nor with a close authority.
    let data = [&bytes(&mint.address)[..], &bytes(owner), &amount.to_le_bytes(), &[0; 36], &[1], &[0; 56]].concat();
    account_json(&mint.program, lamports, &data, Some(parsed), encoding)
}

impl Account {
    pub(super) fn json(&self, lamports: u64, encoding: &str) -> Value {
        match self {
            Self::Nonce { authority, value } => {
                // Versions::Current, State::Initialized, authority, nonce, lamports per signature.
                let head = [1_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat();
                let data = [&head[..], &bytes(authority), &bytes(value), &5_000_u64.to_le_bytes()].concat();
                let fees = json!({ "lamportsPerSignature": "5000" });
                let info = json!({ "authority": authority, "blockhash": value, "feeCalculator": fees });
                let parsed =
                    json!({ "program": "nonce", "parsed": { "info": info, "type": "initialized" }, "space": 80 });
                account_json(SYSTEM, lamports, &data, Some(parsed), encoding)
            }
            Self::Mint(mint) => {
                let info = json!({
                    "decimals": mint.decimals, "freezeAuthority": null, "isInitialized": true,
                    "mintAuthority": null, "supply": "1000000000000000",
                });
                let name = if mint.program == TOKEN { "spl-token" } else { "spl-token-2022" };
                let parsed = json!({ "program": name, "parsed": { "info": info, "type": "mint" }, "space": 82 });
                // No mint authority, supply, decimals, initialized, no freeze authority.
                let supply = 1_000_000_000_000_000_u64.to_le_bytes();
                let data = [&[0; 36][..], &supply, &[mint.decimals, 1], &[0; 36]].concat();
                account_json(&mint.program, lamports, &data, Some(parsed), encoding)
            }
            Self::Other { program, data } => account_json(program, lamports, data, None, encoding),
        }
    }
}

/// Base64 where nothing can be parsed, as a node does.
pub(super) fn account_json(owner: &str, lamports: u64, data: &[u8], parsed: Option<Value>, encoding: &str) -> Value {
    let space = data.len();
    let data = match (encoding, parsed) {
        ("jsonParsed", Some(parsed)) => parsed,
        _ => json!([BASE64_STANDARD.encode(data), "base64"]),
    };
    json!({
        "data": data, "executable": false, "lamports": lamports, "owner": owner, "rentEpoch": u64::MAX, "space": space,
    })
}

/// `uiTokenAmount`. In the balances of a transaction a node has null for zero.
pub(super) fn ui_amount(amount: u64, decimals: u8, zero_is_null: bool) -> Value {
    let unit = 10_u128.pow(decimals.into());
    let (whole, rest) = (u128::from(amount) / unit, u128::from(amount) % unit);
    let text = format!("{whole}.{rest:0width$}", width = usize::from(decimals));
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let float: f64 = text.parse().expect("a number");
    let float = if amount == 0 && zero_is_null { Value::Null } else { json!(float) };
    json!({ "amount": amount.to_string(), "decimals": decimals, "uiAmount": float, "uiAmountString": text })
}
