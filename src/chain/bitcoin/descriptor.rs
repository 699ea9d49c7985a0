//! Output descriptors (BIP 380 to 389): their canonical spelling, and the addresses that they derive.
//!
//! What is refused is told by what is expected and never repeated: somebody may have pasted a private key.

use std::cell::RefCell;
use std::str::FromStr as _;
use std::sync::LazyLock;

use bitcoin::bip32::Xpub;
use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{Network, NetworkKind, PrivateKey, base58};
use h402_watch_engine::descriptor::Derive;
use h402_watch_engine::id::Address;
use miniscript::descriptor::checksum::verify_checksum;
use miniscript::descriptor::{DescriptorPublicKey, Wildcard, XKeyNetwork};
use miniscript::{Descriptor, ForEachKey as _};

/// The longest descriptor, bytes: a multisig of 20 keys, each with its origin, is 3,000.
const LENGTH_MAX: usize = 4096;

/// Descriptors that a thread keeps parsed. A window derives 20 addresses of one after the other.
const PARSED_MAX: usize = 64;

/// To receive, and for change.
const BRANCHES_MAX: usize = 2;

const EXPECTED: &str = "an output descriptor with a wildcard, such as wpkh(xpub…/<0;1>/*), or an extended public key";
const PRIVATE: &str = "a public descriptor; this one holds a private key";
const DEFINITE: &str = "a descriptor with a wildcard, /* behind its keys; for a single address use an address watch";
const HARDENED: &str = "a descriptor without hardened steps behind its public keys: those need a private key";
const MULTISIG: &str = "a descriptor around it: an extended key of a multisig says nothing of the other keys";

/// Extended public keys by their version bytes (SLIP 132): what the key is meant for, and how BIP 32 spells it.
const VERSIONS: [([u8; 4], NetworkKind, Script); 6] = [
    ([0x04, 0x88, 0xb2, 0x1e], NetworkKind::Main, Script::Wpkh), // xpub
    ([0x04, 0x9d, 0x7c, 0xb2], NetworkKind::Main, Script::ShWpkh), // ypub
    ([0x04, 0xb2, 0x47, 0x46], NetworkKind::Main, Script::Wpkh), // zpub
    ([0x04, 0x35, 0x87, 0xcf], NetworkKind::Test, Script::Wpkh), // tpub
    ([0x04, 0x4a, 0x52, 0x62], NetworkKind::Test, Script::ShWpkh), // upub
    ([0x04, 0x5f, 0x1c, 0xf6], NetworkKind::Test, Script::Wpkh), // vpub
];

#[derive(Clone, Copy)]
enum Script {
    Wpkh,
    ShWpkh,
}

/// The canonical spelling of a descriptor of a network, with its checksum: what is meant alike is spelled alike. An extended
/// public key alone means receive and change, in the script that its prefix names; `xpub` and `tpub` mean native SegWit.
///
/// # Errors
/// Says what is expected, and repeats nothing of the text.
pub fn canonical(text: &str, network: Network) -> Result<String, String> {
    let text = text.trim();
    if text.len() > LENGTH_MAX {
        return Err(format!("at most {LENGTH_MAX} bytes"));
    }
    if holds_private_key(text) {
        return Err(PRIVATE.into());
    }
    let expanded = if text.contains('(') { None } else { Some(expand(text)?) };
    let text = expanded.as_deref().unwrap_or(text);
    if text.contains('#') && verify_checksum(text).is_err() {
        return Err("a descriptor with the checksum of its text, or with none".into());
    }
    let descriptor = Descriptor::<DescriptorPublicKey>::from_str(text).map_err(|_| EXPECTED.to_owned())?;
    check_keys(&descriptor, network)?;
    descriptor.sanity_check().map_err(|_| {
        "a sane script: each way to spend needs a signature, no key twice, no mixed time locks".to_owned()
    })?;
    let spelled = descriptor.to_string();
    let branches = branches(descriptor).ok_or(EXPECTED)?;
    if branches.len() > BRANCHES_MAX {
        return Err("at most two branches, to receive and for change: <0;1>".into());
    }
    let first: Option<Vec<_>> = branches.iter().map(|branch| address(branch, 0, network)).collect();
    let first = first.ok_or("a descriptor whose scripts have addresses: pkh, wpkh, sh, wsh or tr")?;
    if first.len() == BRANCHES_MAX && first[0] == first[1] {
        return Err("two different branches: <0;1>".into());
    }
    Ok(spelled)
}

/// How addresses of a network are derived from canonical descriptors. Branch 0 is the first path of `<…>`, 1 the second; a
/// descriptor without has branch 0 alone.
pub fn derive_for(network: Network) -> Derive {
    // Test networks but regtest share their spelling of addresses.
    match network {
        Network::Bitcoin => |text, branch, index| derive(text, branch, index, Network::Bitcoin),
        Network::Regtest => |text, branch, index| derive(text, branch, index, Network::Regtest),
        _ => |text, branch, index| derive(text, branch, index, Network::Testnet),
    }
}

type Branch = Descriptor<DescriptorPublicKey>;

fn derive(text: &str, branch: u32, index: u32, network: Network) -> Option<Address> {
    thread_local! {
        /// The branches of descriptors by their text, the one used last at the end.
        static PARSED: RefCell<Vec<(String, Vec<Branch>)>> = const { RefCell::new(Vec::new()) };
    }
    PARSED.with_borrow_mut(|parsed| {
        let known = match parsed.iter().rposition(|(known, _)| known == text) {
            Some(at) => parsed.remove(at),
            None => (text.to_owned(), branches(Branch::from_str(text).ok()?)?),
        };
        if parsed.len() == PARSED_MAX {
            parsed.remove(0);
        }
        parsed.push(known);
        let (_, branches) = parsed.last()?;
        address(branches.get(usize::try_from(branch).ok()?)?, index, network)
    })
}

/// One descriptor for each path of a multipath descriptor.
fn branches(descriptor: Branch) -> Option<Vec<Branch>> {
    descriptor.into_single_descriptors().ok()
}

fn address(branch: &Branch, index: u32, network: Network) -> Option<Address> {
    static SECP: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);
    let derived = branch.derived_descriptor(&SECP, index).ok()?;
    derived.address(network).ok().map(|address| Address::new(address.to_string()))
}

fn check_keys(descriptor: &Branch, network: Network) -> Result<(), String> {
    let hardened = |key: &DescriptorPublicKey| key.has_hardened_step() || key.wildcard() == Some(Wildcard::Hardened);
    if descriptor.for_any_key(hardened) {
        return Err(HARDENED.into());
    }
    if !descriptor.has_wildcard() {
        return Err(DEFINITE.into());
    }
    let prefix = if network == Network::Bitcoin { "xpub, ypub or zpub" } else { "tpub, upub or vpub" };
    match descriptor.xkey_network() {
        XKeyNetwork::Single(kind) if kind == NetworkKind::from(network) => Ok(()),
        _ => Err(format!("keys of this network: {prefix}")),
    }
}

/// Whether a text holds a private key in any spelling, complete or not: extended (`xprv` and its like, SLIP 132) or WIF.
fn holds_private_key(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| word.get(1..4) == Some("prv") || PrivateKey::from_wif(word).is_ok())
}

/// The descriptor that an extended public key alone means, with its origin if it has one: `[d34db33f/84h/0h/0h]xpub…`.
fn expand(text: &str) -> Result<String, String> {
    let (origin, key) = match text.rsplit_once(']') {
        Some((origin, key)) => (format!("{origin}]"), key),
        None => (String::new(), text),
    };
    let mut bytes = base58::decode_check(key).map_err(|_| EXPECTED.to_owned())?;
    if matches!(key.get(..4), Some("Ypub" | "Zpub" | "Upub" | "Vpub")) {
        return Err(MULTISIG.into());
    }
    let version = bytes.get(..4).and_then(|found| VERSIONS.iter().find(|(version, ..)| version == found));
    let Some((_, kind, script)) = version else { return Err(EXPECTED.into()) };
    let (plain, ..) = VERSIONS[if kind.is_mainnet() { 0 } else { 3 }];
    bytes[..4].copy_from_slice(&plain);
    let key = Xpub::decode(&bytes).map_err(|_| EXPECTED.to_owned())?;
    Ok(match script {
        Script::Wpkh => format!("wpkh({origin}{key}/<0;1>/*)"),
        Script::ShWpkh => format!("sh(wpkh({origin}{key}/<0;1>/*))"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // "abandon … about": BIP 84, BIP 49 and BIP 44 by SLIP 132's own vectors, and BIP 86.
    const ZPUB: &str = "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgDKf31mGDtKsAYz2oz2AGutZYs";
    const YPUB: &str = "ypub6Ww3ibxVfGzLrAH1PNcjyAWenMTbbAosGNB6VvmSEgytSER9azLDWCxoJwW7Ke7icmizBMXrzBx9979FfaHxHcrArf3zbeJJJUZPf663zsP";
    const XPUB: &str = "xpub6BosfCnifzxcFwrSzQiqu2DBVTshkCXacvNsWGYJVVhhawA7d4R5WSWGFNbi8Aw6ZRc1brxMyWMzG3DSSSSoekkudhUd9yLb6qx39T9nMdj";
    const BIP_86: &str = "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ";
    /// BIP 49's vector.
    const TPUB: &str = "tpubDD7tXK8KeQ3YY83yWq755fHY2JW8Ha8Q765tknUM5rSvjPcGWfUppDFMpQ1ScziKfW3ZNtZvAD7M3u7bSs7HofjTD3KP3YxPK7X6hwV8Rk2";
    const XPRV: &str = "xprv9xpXFhFpqdQK3TmytPBqXtGSwS3DLjojFhTGht8gwAAii8py5X6pxeBnQ6ehJiyJ6nDjWGJfZ95WxByFXVkDxHXrqu53WCRGypk2ttuqncb";
    const WIF: &str = "KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn";

    fn spelled(text: &str) -> String {
        canonical(text, Network::Bitcoin).expect("a good descriptor")
    }

    fn derived(text: &str, branch: u32, index: u32) -> Option<String> {
        derive_for(Network::Bitcoin)(text, branch, index).map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_those_of_the_standards() {
        let taproot = format!("tr({BIP_86}/<0;1>/*)");
        let legacy = format!("pkh({XPUB}/<0;1>/*)");
        let cases = [
            (ZPUB, 0, 0, "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"),
            (ZPUB, 0, 1, "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"),
            (ZPUB, 1, 0, "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el"),
            (YPUB, 0, 0, "37VucYSaXLCAsxYyAPfbSi9eh4iEcbShgf"),
            (&legacy, 0, 0, "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"),
            (&taproot, 0, 0, "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"),
            (&taproot, 0, 1, "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh"),
            (&taproot, 1, 0, "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"),
        ];
        for (text, branch, index, expected) in cases {
            assert_eq!(derived(&spelled(text), branch, index).as_deref(), Some(expected));
        }
    }

    #[test]
    fn test_networks_spell_their_own_addresses() {
        let text = format!("sh(wpkh({TPUB}/0/*))");
        for network in [Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest] {
            let spelled = canonical(&text, network).expect("a good descriptor");
            let first = derive_for(network)(&spelled, 0, 0).expect("an address");
            assert_eq!(first.as_str(), "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2");
        }
        let bare = canonical(TPUB, Network::Regtest).expect("a good key");
        let first = |network| derive_for(network)(&bare, 0, 0).expect("an address").to_string();
        assert!(first(Network::Regtest).starts_with("bcrt1q"));
        assert!(first(Network::Signet).starts_with("tb1q"));
    }

    #[test]
    fn what_is_meant_alike_is_spelled_alike() {
        let key = spelled(ZPUB);
        assert!(key.starts_with("wpkh(xpub") && key.contains("/<0;1>/*)#"), "{key}");
        let (bare, _) = key.split_once('#').expect("a checksum");
        for text in [&key, bare, &format!(" {bare}\n")] {
            assert_eq!(spelled(text), key);
        }
        let origins = ["[d34db33f/84h/0h/0h]", "[d34db33f/84'/0'/0']"];
        let [one, other] = origins.map(|origin| spelled(&format!("{origin}{ZPUB}")));
        assert_eq!(one, other);
        assert_eq!(derived(&one, 0, 0), derived(&key, 0, 0));
    }

    #[test]
    fn descriptor_without_paths_has_one_branch() {
        let single = spelled(&format!("wpkh({XPUB}/0/*)"));
        assert_eq!(derived(&single, 0, 7), derived(&spelled(XPUB), 0, 7));
        assert_eq!(derived(&single, 1, 0), None);
        assert_eq!(derived(&single, 0, 1 << 31), None, "hardened from there on");
        assert_eq!(derived("wpkh(", 0, 0), None);
    }

    #[test]
    fn multisig_and_scripts_are_accepted() {
        let [one, other] = [format!("{XPUB}/<0;1>/*"), format!("{BIP_86}/<0;1>/*")];
        for text in [
            format!("wsh(multi(2,{one},{other}))"),
            format!("wsh(sortedmulti(1,{one},{other}))"),
            format!("sh(wsh(sortedmulti(2,{one},{other})))"),
            format!("wsh(and_v(v:pk({one}),older(144)))"),
            format!("tr({one},pk({other}))"),
        ] {
            let spelled = spelled(&text);
            assert!(derived(&spelled, 1, 3).is_some(), "{spelled}");
        }
    }

    #[test]
    fn more_descriptors_than_are_kept_parsed() {
        let texts: Vec<_> = (0..2 * u32::try_from(PARSED_MAX).expect("small"))
            .map(|account| spelled(&format!("wpkh({XPUB}/{account}/*)")))
            .collect();
        let once: Vec<_> = texts.iter().map(|text| derived(text, 0, 0).expect("an address")).collect();
        let again: Vec<_> = texts.iter().map(|text| derived(text, 0, 0).expect("an address")).collect();
        assert_eq!(once, again);
    }

    #[test]
    fn what_is_refused_is_not_repeated() {
        let key = spelled(ZPUB);
        let wrong_checksum = format!("{}q", &key[..key.len() - 1]);
        let cases = [
            (String::new(), EXPECTED),
            ("legal winner thank year wave sausage worth useful legal winner thank yellow".into(), EXPECTED),
            (format!("wpkh({ZPUB}/0/*)"), EXPECTED),
            (format!("{XPUB}/0/*"), EXPECTED),
            (format!("combo({XPUB}/0/*)"), EXPECTED),
            (wrong_checksum, "checksum"),
            (XPRV.into(), PRIVATE),
            (XPRV[..60].into(), PRIVATE),
            (format!("wpkh({XPRV}/0/*)"), PRIVATE),
            (format!("wpkh([d34db33f/84h/0h/0h]{}/0/*)", XPRV.replacen('x', "z", 1)), PRIVATE),
            (format!("wpkh({WIF})"), PRIVATE),
            (format!("wsh(multi(1,{XPUB}/0/*,{WIF}))"), PRIVATE),
            (format!("wpkh({XPUB}/0/*h)"), HARDENED),
            (format!("wpkh({XPUB}/0'/*)"), HARDENED),
            (format!("wpkh({XPUB}/0/1)"), DEFINITE),
            (TPUB.into(), "keys of this network: xpub"),
            (format!("wsh(multi(1,{XPUB}/0/*,{TPUB}/0/*))"), "keys of this network"),
            (format!("wpkh({XPUB}/<0;1;2>/*)"), "at most two branches"),
            (format!("wsh(multi(2,{XPUB}/0/*,{XPUB}/0/*))"), "sane"),
            (format!("wsh(older(144))#{}", &key[key.len() - 8..]), "checksum"),
            (format!("pk({XPUB}/0/*)"), "addresses"),
            ("x".repeat(LENGTH_MAX + 1), "at most 4096 bytes"),
        ];
        for (text, expected) in cases {
            let refused = canonical(&text, Network::Bitcoin).expect_err(expected);
            assert!(refused.contains(expected), "{refused}, not {expected}");
            for secret in [XPRV, WIF, XPUB, TPUB, "sausage"] {
                assert!(!refused.contains(&secret[..7.min(secret.len())]), "{refused}");
            }
        }
        let mut of_multisig = base58::decode_check(XPUB).expect("a key");
        of_multisig[..4].copy_from_slice(&[0x02, 0xaa, 0x7e, 0xd3]);
        assert_eq!(canonical(&base58::encode_check(&of_multisig), Network::Bitcoin), Err(MULTISIG.into()));
        assert!(canonical(XPUB, Network::Regtest).expect_err("a key of another network").contains("tpub"));
    }
}
