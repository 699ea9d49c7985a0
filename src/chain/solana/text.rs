//! How Solana spells its identifiers: base58, of 32 bytes for accounts and block hashes and of 64 for signatures.

use h402_watch_engine::changes::Interest;
use h402_watch_engine::id::{Address, AssetId, BlockHash, TxId};
use h402_watch_engine::request::{Expiry, Subject, Tag, WatchRequest};
use solana_hash::Hash;
use solana_pubkey::Pubkey;
use solana_signature::Signature;

use crate::chain::{BadField, End, Family, Key, mirror};

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
    spell,
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

/// Interests in the bytes that base58 stands for; for the chain's own coin none.
pub mod bytes {
    use solana_pubkey::Pubkey;
    use solana_signature::Signature;

    pub const NATIVE: &[u8] = &[];

    pub fn tx(text: &str) -> Option<[u8; 64]> {
        text.parse::<Signature>().ok().map(Into::into)
    }

    pub fn account(text: &str) -> Option<[u8; 32]> {
        text.parse::<Pubkey>().ok().map(|account| account.to_bytes())
    }
}

/// The transaction of an open interest.
pub fn spell_tx(bytes: &[u8]) -> Option<TxId> {
    bytes.try_into().ok().map(|bytes: [u8; 64]| tx(&Signature::from(bytes)))
}

/// What ends a transaction, in the bytes of an open interest.
pub fn end(expiry: &Expiry) -> Option<End> {
    Some(match expiry {
        Expiry::Height(height) => End::Height(*height),
        Expiry::Nonce { account, value } => {
            let (account, value) = (bytes::account(account.as_str())?, value.parse::<Hash>().ok()?.to_bytes());
            End::Nonce([account, value].concat().into())
        }
    })
}

/// The nonce of an open interest.
pub fn spell_nonce(nonce: &[u8]) -> Option<Expiry> {
    let (account, value) = (nonce.first_chunk::<32>()?, nonce.get(32..)?.try_into().ok()?);
    let (account, value) = (address(&Pubkey::from(*account)), Hash::new_from_array(value).to_string());
    Some(Expiry::Nonce { account, value })
}

fn spell(interest: &Interest) -> Option<Key> {
    Some(match interest {
        Interest::Tx(tx) => Key::Tx(bytes::tx(tx.as_str())?.to_vec()),
        Interest::Recipient { asset, address } => {
            let mint = match asset.is_native() {
                true => bytes::NATIVE.to_vec(),
                false => bytes::account(asset.as_str())?.to_vec(),
            };
            Key::Recipient { asset: mint, address: bytes::account(address.as_str())?.to_vec() }
        }
        Interest::Expiry { tx, expiry } => Key::Expiry { tx: bytes::tx(tx.as_str())?.to_vec(), end: end(expiry)? },
        // There are no authorizations, and nothing takes the place of a signature.
        Interest::Authorization { .. } | Interest::Spend(_) => return None,
        Interest::Proofs => Key::Proofs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interests_are_spelled_in_bytes_and_back() {
        for byte in [0, 1, 7, 255] {
            let id = tx(&Signature::from([byte; 64]));
            assert_eq!(spell(&Interest::Tx(id.clone())), Some(Key::Tx(vec![byte; 64])));
            assert_eq!(spell_tx(&[byte; 64]), Some(id.clone()));
            let account = address(&Pubkey::from([byte; 32]));
            let value = Hash::new_from_array([byte; 32]).to_string();
            for expiry in [Expiry::Height(u64::from(byte)), Expiry::Nonce { account: account.clone(), value }] {
                let end = end(&expiry).expect("a good one");
                if let End::Nonce(nonce) = &end {
                    assert_eq!(spell_nonce(nonce), Some(expiry.clone()));
                }
                let spelled = spell(&Interest::Expiry { tx: id.clone(), expiry });
                assert_eq!(spelled, Some(Key::Expiry { tx: vec![byte; 64], end }));
            }
            let mint = AssetId::new(WALLET);
            for (asset, key) in [(mint, bytes::account(WALLET).expect("one").to_vec()), (AssetId::native(), vec![])] {
                let spelled = spell(&Interest::Recipient { asset, address: account.clone() });
                assert_eq!(spelled, Some(Key::Recipient { asset: key, address: vec![byte; 32] }));
            }
        }
        assert_eq!((spell_tx(&[1; 63]), spell_nonce(&[1; 63])), (None, None));
        assert_eq!(spell(&Interest::Tx(WALLET.into())), None);
    }

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
