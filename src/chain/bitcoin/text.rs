//! How Bitcoin networks spell their identifiers: hashes in display order, addresses as wallets show them, outputs as
//! `txid:index`. A script that has no address is spelled `script:` and its bytes in hex.

use std::str::FromStr;

use bitcoin::address::NetworkUnchecked;
use bitcoin::hashes::Hash as _;
use bitcoin::{Address as Spelled, BlockHash as Hash, Network, OutPoint, Script, ScriptBuf, Txid};
use h402_watch_engine::changes::Interest;
use h402_watch_engine::id::{Address, AssetId, BlockHash, SpendKey, TxId};
use h402_watch_engine::request::{Subject, WatchRequest};

use super::descriptor;
use crate::chain::{BadField, Family, Key, mirror, without_marks};

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

/// The namespace of CAIP-2 that names a network by the first 16 bytes of its genesis hash.
pub const NAMESPACE: &str = "bip122";

/// The network that a reference of that namespace names.
///
/// # Errors
/// If it is none that is known.
pub fn network(reference: &str) -> Result<Network, String> {
    let known = [Network::Bitcoin, Network::Testnet4, Network::Signet, Network::Regtest];
    let found = known.into_iter().find(|network| self::reference(*network) == reference);
    found.ok_or_else(|| {
        let all: Vec<_> =
            known.iter().map(|network| format!("{NAMESPACE}:{} ({network})", self::reference(*network))).collect();
        format!("one of {}", all.join(", "))
    })
}

fn reference(network: Network) -> String {
    genesis(network).to_string()[..32].to_owned()
}

/// The hash of a network's first block.
pub fn genesis(network: Network) -> Hash {
    bitcoin::constants::genesis_block(network).block_hash()
}

macro_rules! family {
    ($network:expr) => {
        Family {
            request: |request| spell_request(request, $network),
            address: |text| parse_address(text, $network).map(|script| address(&script, $network)),
            asset,
            spell: |interest| spell(interest, $network),
            searches_below: true,
            tags: &[],
            derive: Some(descriptor::derive_for($network)),
        }
    };
}

/// What the networks have in common but their addresses.
pub fn family(network: Network) -> Family {
    match network {
        Network::Bitcoin => family!(Network::Bitcoin),
        Network::Testnet4 => family!(Network::Testnet4),
        Network::Signet => family!(Network::Signet),
        _ => family!(Network::Regtest),
    }
}

fn spell_request(request: &mut WatchRequest, network: Network) -> Result<(), BadField> {
    let bad = |field: &'static str| move |expected| BadField { field: field.to_owned(), expected };
    without_marks(request, "Bitcoin")?;
    let terms = &mut request.terms;
    if let Subject::Descriptor { descriptor, .. } = &mut request.subject {
        *descriptor = descriptor::canonical(descriptor, network).map_err(bad("output_descriptor.text"))?;
        terms.pay_to = Address::new(descriptor.as_str());
    } else {
        let script = parse_address(terms.pay_to.as_str(), network).map_err(bad("terms.pay_to"))?;
        terms.pay_to = address(&script, network);
    }
    terms.asset = asset(terms.asset.as_str()).map_err(bad("terms.asset"))?;
    if terms.payer.is_some() {
        return Err(bad("terms.payer")("nothing: inputs don't say who pays".into()));
    }
    match &mut request.subject {
        Subject::Transaction { tx, .. } => {
            let parsed = parse_txid(tx.as_str());
            *tx = self::tx(parsed.ok_or_else(|| bad("transaction.tx")("a txid, 64 hex digits".into()))?);
            Ok(())
        }
        Subject::Address | Subject::Descriptor { .. } => Ok(()),
        Subject::Authorization { .. } => {
            Err(bad("authorization")("a transaction or an address: Bitcoin has no authorizations".into()))
        }
    }
}

fn asset(text: &str) -> Result<AssetId, String> {
    if text == AssetId::NATIVE { Ok(AssetId::native()) } else { Err("native, the only asset of Bitcoin".into()) }
}

/// Reads an address, or `script:` and hex: what an output must hold to pay it.
pub fn parse_address(text: &str, network: Network) -> Result<ScriptBuf, String> {
    let expected = || format!("an address of {network}, or script: and the hex of an output's script");
    if let Some(hex) = text.strip_prefix("script:") {
        let script = ScriptBuf::from_hex(hex).map_err(|_| expected())?;
        let usable = !script.is_empty() && script.len() <= SCRIPT_MAX && !script.is_op_return();
        return if usable { Ok(script) } else { Err(expected()) };
    }
    let parsed = Spelled::<NetworkUnchecked>::from_str(text).map_err(|_| expected())?;
    Ok(parsed.require_network(network).map_err(|_| expected())?.script_pubkey())
}

/// The longest script that is watched, bytes: its hex fits where an identifier does.
const SCRIPT_MAX: usize = 120;

/// The address of a script, or the script itself where it has none.
pub fn address(script: &Script, network: Network) -> Address {
    match Spelled::from_script(script, network) {
        Ok(address) => Address::new(address.to_string()),
        Err(_) => Address::new(format!("script:{script:x}")),
    }
}

pub fn parse_txid(text: &str) -> Option<Txid> {
    (text.len() == 64).then(|| text.parse().ok()).flatten()
}

pub fn tx(txid: Txid) -> TxId {
    TxId::new(txid.to_string())
}

pub fn spend(outpoint: &OutPoint) -> SpendKey {
    SpendKey::new(outpoint.to_string())
}

/// Interests in the bytes of a block: txids, outputs' scripts, outpoints, and nothing for the only asset.
pub mod bytes {
    use bitcoin::hashes::Hash as _;
    use bitcoin::{OutPoint, Script, Txid};

    use crate::chain::Interests;

    pub const NATIVE: &[u8] = &[];
    const TXID: usize = 32;

    pub fn spend(outpoint: &OutPoint) -> [u8; 36] {
        let mut key = [0; 36];
        key[..TXID].copy_from_slice(outpoint.txid.as_byte_array());
        key[TXID..].copy_from_slice(&outpoint.vout.to_le_bytes());
        key
    }

    /// The outpoint that a spend key is.
    pub fn outpoint(key: &[u8]) -> Option<OutPoint> {
        let (txid, vout) = (key.first_chunk::<TXID>()?, key.get(TXID..)?);
        Some(OutPoint { txid: Txid::from_byte_array(*txid), vout: u32::from_le_bytes(vout.try_into().ok()?) })
    }

    /// Whether somebody is watched whom an output with this script pays.
    pub fn pays_watched(interests: &Interests, script: &Script) -> bool {
        interests.recipients.contains(script.as_bytes())
    }
}

fn spell(interest: &Interest, network: Network) -> Option<Key> {
    Some(match interest {
        Interest::Tx(tx) => Key::Tx(parse_txid(tx.as_str())?.as_byte_array().to_vec()),
        Interest::Recipient { address, .. } => {
            let script = parse_address(address.as_str(), network).ok()?;
            Key::Recipient { asset: bytes::NATIVE.to_vec(), address: script.into_bytes() }
        }
        Interest::Spend(key) => Key::Spend { key: bytes::spend(&key.as_str().parse().ok()?).to_vec(), holder: 0 },
        // There are no authorizations, and transactions don't expire.
        Interest::Authorization { .. } | Interest::Expiry { .. } => return None,
        Interest::Proofs => Key::Proofs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu";

    fn spelled(text: &str, network: Network) -> Result<String, String> {
        (family(network).address)(text).map(|address| address.to_string())
    }

    #[test]
    fn networks_are_named_by_their_genesis() {
        assert_eq!(network("000000000019d6689c085ae165831e93"), Ok(Network::Bitcoin));
        assert_eq!(network("00000000da84f2bafbbc53dee25a72ae"), Ok(Network::Testnet4));
        assert_eq!(network("00000008819873e925422c1ff0f99f7c"), Ok(Network::Signet));
        assert_eq!(network("0f9188f13cb7b2c71f2a335e3a4fc328"), Ok(Network::Regtest));
        assert!(network("000000000933ea01ad0ee984209779ba").is_err(), "testnet3 is gone");
    }

    #[test]
    fn addresses_of_every_kind_have_one_spelling() {
        let taproot = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr";
        for text in [
            MAIN,
            taproot,
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
            "bc1pfeessrawgf",
        ] {
            assert_eq!(spelled(text, Network::Bitcoin), Ok(text.to_owned()));
        }
        assert_eq!(spelled(&MAIN.to_uppercase(), Network::Bitcoin), Ok(MAIN.to_owned()), "as QR codes carry it");
    }

    #[test]
    fn addresses_that_are_wrong_are_refused() {
        let mixed = MAIN.replace("qcr8", "qCr8");
        let damaged = MAIN.replace("fyu", "fyq");
        for text in [mixed.as_str(), damaged.as_str(), "", "bc1", "script:", "script:zz", "script:6a0141"] {
            assert!(spelled(text, Network::Bitcoin).is_err(), "{text}");
        }
        for network in [Network::Testnet4, Network::Signet, Network::Regtest] {
            assert!(spelled(MAIN, network).is_err(), "of another network");
        }
    }

    #[test]
    fn scripts_without_an_address_are_spelled_in_hex() {
        let key = "4104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac";
        let script = format!("script:{key}");
        assert_eq!(spelled(&script, Network::Bitcoin), Ok(script.clone()));
        let hash = format!("script:{:x}", parse_address(MAIN, Network::Bitcoin).expect("an address"));
        assert_eq!(spelled(&hash, Network::Bitcoin), Ok(MAIN.to_owned()), "one that has an address is spelled so");
    }

    #[test]
    fn interests_are_spelled_in_the_bytes_of_a_block() {
        let outpoint: OutPoint = format!("{}:7", "ab".repeat(32)).parse().expect("an outpoint");
        let key = bytes::spend(&outpoint);
        let spelled = spell(&Interest::Spend(spend(&outpoint)), Network::Regtest);
        assert_eq!(spelled, Some(Key::Spend { key: key.to_vec(), holder: 0 }));
        assert_eq!(bytes::outpoint(&key), Some(outpoint));
        assert_eq!(bytes::outpoint(&key[1..]), None);
        let spelled = spell(&Interest::Tx(tx(outpoint.txid)), Network::Regtest);
        assert_eq!(spelled, Some(Key::Tx(outpoint.txid.as_byte_array().to_vec())));
        for odd in [Interest::Tx("12".into()), Interest::Spend("12".into())] {
            assert_eq!(spell(&odd, Network::Regtest), None, "{odd:?}");
        }
    }

    #[test]
    fn recipients_of_every_kind_are_the_script_that_pays_them() {
        for text in [
            MAIN,
            "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3",
            "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
            "bc1pfeessrawgf",
            // A bare key, one of two keys, and a script that anybody can unlock.
            &format!("script:21{}ac", "02".repeat(33)),
            &format!("script:5121{}21{}52ae", "02".repeat(33), "03".repeat(33)),
            "script:51",
        ] {
            let recipient = Interest::Recipient { asset: AssetId::native(), address: Address::new(text) };
            let Some(Key::Recipient { asset, address: script }) = spell(&recipient, Network::Bitcoin) else {
                panic!("{text} is no recipient");
            };
            assert!(asset.is_empty());
            assert_eq!(address(&ScriptBuf::from_bytes(script), Network::Bitcoin).as_str(), text);
        }
    }
}
