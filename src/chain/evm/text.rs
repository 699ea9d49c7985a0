//! How EVM chains spell their identifiers: hashes in lower-case hex, addresses with the checksum of EIP-55.

use alloy_primitives::{Address as EvmAddress, B256};
use h402_watch_engine::id::{Address, AssetId, BlockHash, SpendKey, TxId};
use h402_watch_engine::request::{Subject, Tag, WatchRequest};

use super::wire::RpcBlock;
use crate::chain::{BadField, Family, mirror, without_marks};

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
    binary: |_| None,
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
    fn words_are_spelled_in_lower_case() {
        let upper = format!("0x{}", "AB".repeat(32));
        assert_eq!(parse_word(&upper).map(word), Ok(format!("0x{}", "ab".repeat(32))));
        assert!(parse_word("0xab").is_err());
        assert!(parse_word(&"ab".repeat(32)).is_err());
    }
}
