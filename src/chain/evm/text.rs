//! How EVM chains spell their identifiers: hashes in lower-case hex, addresses with the checksum of EIP-55.

use alloy_primitives::{Address as EvmAddress, B256};
use h402_watch_engine::changes::Interest;
use h402_watch_engine::id::{Address, AssetId, BlockHash, SpendKey, TxId};
use h402_watch_engine::request::{Subject, Tag, WatchRequest};

use super::wire::RpcBlock;
use crate::chain::{BadField, Family, Key, mirror, without_marks};

/// A header as the mirror keeps it.
pub(super) type Link = mirror::Link<B256>;

impl mirror::Hash for B256 {
    fn parse(text: &BlockHash) -> Option<Self> {
        text.as_str().parse().ok()
    }

    fn spell(self) -> BlockHash {
        BlockHash::new(word(self))
    }
}

impl From<&RpcBlock> for Link {
    fn from(block: &RpcBlock) -> Self {
        Self {
            height: block.number.0,
            hash: block.hash,
            parent: block.parent_hash,
            time: block.timestamp.0,
            slot: block.number.0,
        }
    }
}

/// What all EVM chains have in common.
pub const FAMILY: Family = Family {
    request: spell_request,
    address: |text| parse_address(text).map(address),
    asset: |text| if text == AssetId::NATIVE { Ok(AssetId::native()) } else { parse_address(text).map(asset) },
    spell,
    searches_below: false,
    tags: &[Tag::Safe, Tag::Finalized],
    derive: None,
};

const ADDRESS_EXPECTED: &str = "an address, 0x and 40 hex digits, with a correct EIP-55 checksum or all in one case";
const WORD_EXPECTED: &str = "0x and 64 hex digits";

fn spell_request(request: &mut WatchRequest) -> Result<(), BadField> {
    let bad = |field: &'static str| move |expected| BadField { field: field.to_owned(), expected };
    if let Subject::Descriptor { .. } = request.subject {
        let expected =
            "a transaction, an address or an authorization: EVM chains have no output descriptors".to_owned();
        return Err(BadField { field: "output_descriptor".into(), expected });
    }
    without_marks(request, "EVM")?;
    let terms = &mut request.terms;
    terms.pay_to = (FAMILY.address)(terms.pay_to.as_str()).map_err(bad("terms.pay_to"))?;
    terms.asset = (FAMILY.asset)(terms.asset.as_str())
        .map_err(|expected| BadField { field: "terms.asset".into(), expected: format!("native, or {expected}") })?;
    if let Some(payer) = &mut terms.payer {
        *payer = (FAMILY.address)(payer.as_str()).map_err(bad("terms.payer"))?;
    }
    match &mut request.subject {
        Subject::Transaction { tx: id, .. } => *id = tx(parse_word(id.as_str()).map_err(bad("transaction.tx"))?),
        Subject::Address | Subject::Descriptor { .. } => {}
        Subject::Authorization { authorizer, nonce, .. } => {
            *authorizer = (FAMILY.address)(authorizer.as_str()).map_err(bad("authorization.authorizer"))?;
            *nonce = word(parse_word(nonce).map_err(bad("authorization.nonce"))?);
        }
    }
    Ok(())
}

/// Reads an address: the checksum is optional (EIP-55), and right where there is one.
pub fn parse_address(text: &str) -> Result<EvmAddress, String> {
    let expected = || ADDRESS_EXPECTED.to_owned();
    let digits = text.strip_prefix("0x").ok_or_else(expected)?;
    let parsed: EvmAddress = text.parse().map_err(|_| expected())?;
    let one_case = !digits.bytes().any(|b| b.is_ascii_lowercase()) || !digits.bytes().any(|b| b.is_ascii_uppercase());
    if !one_case && parsed.to_checksum(None) != text {
        return Err(expected());
    }
    Ok(parsed)
}

/// Reads a hash or another 32-byte word.
pub fn parse_word(text: &str) -> Result<B256, String> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 64);
    let parsed = digits.and_then(|_| text.parse().ok());
    parsed.ok_or_else(|| WORD_EXPECTED.to_owned())
}

pub(super) fn address(address: EvmAddress) -> Address {
    Address::new(address.to_checksum(None))
}

pub(super) fn asset(token: EvmAddress) -> AssetId {
    AssetId::new(token.to_checksum(None))
}

pub(super) fn word(word: B256) -> String {
    format!("{word:#x}")
}

pub(super) fn tx(hash: B256) -> TxId {
    TxId::new(word(hash))
}

/// A nonce of an account can be used by one transaction only.
pub(super) fn spend(sender: EvmAddress, nonce: u64) -> SpendKey {
    SpendKey::new(format!("{}/{nonce}", sender.to_checksum(None)))
}

/// Interests in the bytes of a block: what identifiers are in hex, and for the chain's own coin none.
pub(super) mod bytes {
    use alloy_primitives::{Address, B256};

    pub const NATIVE: &[u8] = &[];
    /// Of a spend key, those that name the sender.
    pub const SENDER: usize = 20;

    pub fn spend(sender: Address, nonce: u64) -> [u8; 28] {
        let mut key = [0; 28];
        key[..SENDER].copy_from_slice(sender.as_slice());
        key[SENDER..].copy_from_slice(&nonce.to_be_bytes());
        key
    }

    pub fn authorization(token: Address, authorizer: Address, nonce: B256) -> [u8; 72] {
        let mut key = [0; 72];
        key[..20].copy_from_slice(token.as_slice());
        key[20..40].copy_from_slice(authorizer.as_slice());
        key[40..].copy_from_slice(nonce.as_slice());
        key
    }
}

fn spell(interest: &Interest) -> Option<Key> {
    // The checksum of what a request's family has spelled is right.
    let address = |text: &str| text.parse::<EvmAddress>().ok();
    Some(match interest {
        Interest::Tx(tx) => Key::Tx(tx.as_str().parse::<B256>().ok()?.to_vec()),
        Interest::Recipient { asset, address: to } => {
            let token = if asset.is_native() { bytes::NATIVE.to_vec() } else { address(asset.as_str())?.to_vec() };
            Key::Recipient { asset: token, address: address(to.as_str())?.to_vec() }
        }
        Interest::Authorization { asset, authorizer, nonce } => {
            let (token, authorizer) = (address(asset.as_str())?, address(authorizer.as_str())?);
            Key::Authorization(bytes::authorization(token, authorizer, nonce.parse().ok()?).to_vec())
        }
        Interest::Spend(key) => {
            let (sender, nonce) = key.as_str().split_once('/')?;
            Key::Spend { key: bytes::spend(address(sender)?, nonce.parse().ok()?).to_vec(), holder: bytes::SENDER }
        }
        // Transactions don't expire.
        Interest::Expiry { .. } => return None,
        Interest::Proofs => Key::Proofs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKSUMMED: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    #[test]
    fn an_address_is_spelled_with_its_checksum() {
        for text in
            [CHECKSUMMED, &CHECKSUMMED.to_ascii_lowercase(), &format!("0x{}", CHECKSUMMED[2..].to_ascii_uppercase())]
        {
            assert_eq!((FAMILY.address)(text).as_ref().map(Address::as_str), Ok(CHECKSUMMED));
        }
    }

    #[test]
    fn a_wrong_checksum_or_shape_is_refused() {
        let wrong = CHECKSUMMED.replace('A', "a").replacen('b', "B", 1);
        for text in [wrong.as_str(), "0x12", "", &CHECKSUMMED[2..], "0xzzAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"] {
            assert!((FAMILY.address)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn interests_are_spelled_in_the_bytes_of_a_block() {
        let (sender, token) = (EvmAddress::repeat_byte(0xab), EvmAddress::repeat_byte(0xcd));
        let hash = B256::repeat_byte(0xef);
        assert_eq!(spell(&Interest::Tx(tx(hash))), Some(Key::Tx(hash.to_vec())));
        let recipient = |asset| Interest::Recipient { asset, address: address(sender) };
        let in_token = Key::Recipient { asset: token.to_vec(), address: sender.to_vec() };
        assert_eq!(spell(&recipient(asset(token))), Some(in_token));
        let in_coin = Key::Recipient { asset: Vec::new(), address: sender.to_vec() };
        assert_eq!(spell(&recipient(AssetId::native())), Some(in_coin));
        let used = Interest::Authorization { asset: asset(token), authorizer: address(sender), nonce: word(hash) };
        assert_eq!(spell(&used), Some(Key::Authorization(bytes::authorization(token, sender, hash).to_vec())));
        for nonce in [0, 7, u64::MAX] {
            let key = Key::Spend { key: bytes::spend(sender, nonce).to_vec(), holder: 20 };
            assert_eq!(spell(&Interest::Spend(spend(sender, nonce))), Some(key));
        }
        for odd in [Interest::Tx("0x12".into()), Interest::Spend("0x12".into()), recipient("0x12".into())] {
            assert_eq!(spell(&odd), None, "{odd:?}");
        }
    }

    #[test]
    fn words_are_spelled_in_lower_case() {
        let upper = format!("0x{}", "AB".repeat(32));
        assert_eq!(parse_word(&upper).map(word), Ok(format!("0x{}", "ab".repeat(32))));
        assert!(parse_word("0xab").is_err());
        assert!(parse_word(&"ab".repeat(32)).is_err());
    }
}
