//! How Solana spells its identifiers: base58, of 32 bytes for accounts and block hashes and of 64 for signatures.

use h402_watch_engine::id::{Address, AssetId, BlockHash, TxId};
use h402_watch_engine::request::{Expiry, Subject, Tag, WatchRequest};
use solana_hash::Hash;
use solana_pubkey::Pubkey;
use solana_signature::Signature;

use crate::chain::{BadField, Family, mirror};

/// The namespace of CAIP-2 that names a cluster by the first 32 characters of its genesis hash.
pub const NAMESPACE: &str = "solana";
/// How many.
pub const REFERENCE_LENGTH: usize = 32;

/// What a header's place in the chain is kept as.
pub(super) type Link = mirror::Link<Hash>;

impl mirror::Hash for Hash {
    fn parse(text: &BlockHash) -> Option<Self> {
        text.as_str().parse().ok()
    }

    fn spell(self) -> BlockHash {
        BlockHash::new(self.to_string())
    }
}

/// What all clusters have in common.
pub const FAMILY: Family = Family {
    request: spell_request,
    address: |text| parse_account(text).map(|account| address(&account)),
    asset,
    binary: |_| None,
    searches_below: true,
    tags: &[Tag::Confirmed, Tag::Finalized],
    derive: None,
};

const ACCOUNT_EXPECTED: &str = "an account's address, 32 bytes in base58";

/// Whether a reference of the namespace may name a cluster.
///
/// # Errors
/// Says what is expected.
pub fn check_reference(reference: &str) -> Result<(), String> {
    let base58 = |c: char| c.is_ascii_alphanumeric() && !"0OIl".contains(c);
    if reference.len() == REFERENCE_LENGTH && reference.chars().all(base58) {
        return Ok(());
    }
    Err(format!("{NAMESPACE}:<the first {REFERENCE_LENGTH} characters of the cluster's genesis hash>"))
}

fn spell_request(request: &mut WatchRequest) -> Result<(), BadField> {
    let bad = |field: &'static str| move |expected: String| BadField { field: field.to_owned(), expected };
    match &request.subject {
        Subject::Descriptor { .. } => {
            return Err(bad("output_descriptor")(
                "a transaction or an address: Solana has no output descriptors".into(),
            ));
        }
        Subject::Authorization { .. } => {
            return Err(bad("authorization")("a transaction or an address: Solana has no authorizations".into()));
        }
        Subject::Transaction { .. } | Subject::Address => {}
    }
    let terms = &mut request.terms;
    terms.pay_to = (FAMILY.address)(terms.pay_to.as_str()).map_err(bad("terms.pay_to"))?;
    terms.asset = asset(terms.asset.as_str()).map_err(bad("terms.asset"))?;
    if terms.pay_to.as_str() == terms.asset.as_str() {
        return Err(bad("terms.pay_to")("the wallet that is paid, not the mint".into()));
    }
    if terms.pay_to.as_str() == Pubkey::default().to_string() {
        return Err(bad("terms.pay_to")("a wallet, not the system program".into()));
    }
    if let Some(payer) = &mut terms.payer {
        *payer = (FAMILY.address)(payer.as_str()).map_err(bad("terms.payer"))?;
    }
    for reference in &mut terms.references {
        *reference = (FAMILY.address)(reference.as_str()).map_err(bad("terms.references"))?;
    }
    if let Subject::Transaction { tx: id, expiry } = &mut request.subject {
        *id = parse_signature(id.as_str()).map(|signature| tx(&signature)).map_err(bad("transaction.tx"))?;
        if let Some(Expiry::Nonce { account, value }) = expiry {
            *account = (FAMILY.address)(account.as_str()).map_err(bad("transaction.nonce_account"))?;
            let parsed: Result<Hash, _> = value.parse();
            let parsed = parsed.map_err(|_| bad("transaction.nonce")("32 bytes in base58".into()))?;
            *value = parsed.to_string();
        }
    }
    Ok(())
}

fn asset(text: &str) -> Result<AssetId, String> {
    if text == AssetId::NATIVE {
        return Ok(AssetId::native());
    }
    let mint = parse_account(text).map_err(|_| "native, or a mint's address, 32 bytes in base58".to_owned())?;
    Ok(AssetId::new(mint.to_string()))
}

/// Reads an account's address.
pub fn parse_account(text: &str) -> Result<Pubkey, String> {
    text.parse().map_err(|_| ACCOUNT_EXPECTED.to_owned())
}

/// Reads a signature. One of zeros stands for none (web3.js #1102).
pub fn parse_signature(text: &str) -> Result<Signature, String> {
    let parsed: Option<Signature> = text.parse().ok();
    let parsed = parsed.filter(|signature| *signature != Signature::default());
    parsed.ok_or_else(|| "a transaction's first signature, 64 bytes in base58".to_owned())
}

pub fn address(account: &Pubkey) -> Address {
    Address::new(account.to_string())
}

pub fn tx(signature: &Signature) -> TxId {
    TxId::new(signature.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALLET: &str = "9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM";

    #[test]
    fn an_account_has_one_spelling() {
        assert_eq!((FAMILY.address)(WALLET).as_ref().map(Address::as_str), Ok(WALLET));
        let damaged = WALLET.replace('9', "0");
        for text in ["", "1", damaged.as_str(), &WALLET[3..], &format!("{WALLET}1")] {
            assert!((FAMILY.address)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signature_of_63_bytes_or_of_zeros_is_none() {
        let whole = Signature::from([7; 64]).to_string();
        assert_eq!(parse_signature(&whole).map(|signature| tx(&signature).to_string()), Ok(whole.clone()));
        for text in [&whole[1..], "1".repeat(64).as_str(), "", "0x12", WALLET] {
            assert!(parse_signature(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_cluster_is_named_by_its_genesis() {
        for known in
            ["5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "4uhcVJyU9pJkvQyS88uRDiswHXSYkY3z"]
        {
            assert_eq!(check_reference(known), Ok(()));
        }
        for wrong in ["mainnet", "", "5eykt4UsFv8P8NJdTREpY1vzqKqZKvd0"] {
            assert!(check_reference(wrong).is_err(), "{wrong}");
        }
    }
}
