//! Parsers of bytes from outside: they never panic, and read what nodes really send. The same functions are fuzzed (fuzz/).

#[path = "support/parsers.rs"]
mod parsers;

use h402_watch::chain::evm::wire::{Quantity, RpcBlock, RpcReceipt, RpcTx, Wei};
use h402_watch_proto::v1;
use proptest::prelude::*;
use prost::Message as _;

const BLOCK: &str = r#"{"hash":"0x1111111111111111111111111111111111111111111111111111111111111111","parentHash":"0x2222222222222222222222222222222222222222222222222222222222222222","number":"0x10","timestamp":"0x65","transactions":["0x3333333333333333333333333333333333333333333333333333333333333333"]}"#;
const RECEIPTS: &str = r#"[{"transactionHash":"0x3333333333333333333333333333333333333333333333333333333333333333","transactionIndex":"0x0","blockHash":"0x1111111111111111111111111111111111111111111111111111111111111111","from":"0x00000000000000000000000000000000000000aa","to":null,"status":"0x1","logs":[]}]"#;
const FLAT: &str = r#"[{"type":"call","action":{"callType":"call","from":"0x00000000000000000000000000000000000000aa","to":"0x00000000000000000000000000000000000000bb","value":"0x5"},"traceAddress":[0],"transactionHash":"0x3333333333333333333333333333333333333333333333333333333333333333"}]"#;
const FRAMES: &str = r#"[{"result":{"type":"CALL","from":"0x00000000000000000000000000000000000000aa","calls":[{"type":"CALL","from":"0x00000000000000000000000000000000000000aa","to":"0x00000000000000000000000000000000000000bb","value":"0x5"}]}}]"#;

fn spec() -> v1::WatchSpec {
    v1::WatchSpec {
        network: "eip155:1".into(),
        subject: Some(v1::watch_spec::Subject::Address(v1::AddressSubject {})),
        terms: Some(v1::Terms {
            pay_to: "0x00000000000000000000000000000000000000aa".into(),
            amount: "1".into(),
            depth: Some(v1::terms::Depth::DepthBlocks(1)),
            deadline_ms: 1,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Descriptors of each shape, without the checksum that would refuse each change.
const DESCRIPTORS: [&str; 3] = [
    "wpkh([d34db33f/84h/0h/0h]xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ/<0;1>/*)",
    "wsh(or_d(pk(xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ/1/*),and_v(v:pk(xpub6BosfCnifzxcFwrSzQiqu2DBVTshkCXacvNsWGYJVVhhawA7d4R5WSWGFNbi8Aw6ZRc1brxMyWMzG3DSSSSoekkudhUd9yLb6qx39T9nMdj/0/*),older(10))))",
    "tr(xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ/0/*)",
];

#[test]
fn descriptors_are_good() {
    use h402_watch::chain::bitcoin::descriptor::canonical;
    for text in DESCRIPTORS {
        canonical(text, bitcoin::Network::Bitcoin).expect("a good descriptor");
        parsers::descriptor(text.as_bytes());
    }
}

/// The first block of regtest, and a notification.
fn genesis() -> String {
    let block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    format!("{}\0rawtx\0\x01\x01\x01\x01", bitcoin::consensus::encode::serialize_hex(&block))
}

#[test]
fn the_first_block_is_good() {
    use h402_watch::chain::bitcoin::block::decode;
    let block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    let hex = bitcoin::consensus::encode::serialize_hex(&block);
    let decoded = decode(&hex, block.block_hash(), 0).expect("a good block");
    assert_eq!(decoded.txids.len(), 1);
    let mut twice = block.clone();
    twice.txdata.push(block.txdata[0].clone());
    let hex = bitcoin::consensus::encode::serialize_hex(&twice);
    assert!(decode(&hex, block.block_hash(), 0).is_err(), "a list that repeats its end");
}

/// A block with a payment in tokens, as a node answers.
const SOLANA_BLOCK: &str = r#"{"blockhash":"b","previousBlockhash":"a","parentSlot":0,"blockHeight":1,"blockTime":1,"transactions":[{"meta":{"err":null,"fee":5000,"preBalances":[9000,1,0],"postBalances":[4000,1,0],"preTokenBalances":[{"accountIndex":1,"mint":"m","owner":"p","uiTokenAmount":{"amount":"18446744073709551615"}}],"postTokenBalances":[{"accountIndex":1,"mint":"m","owner":"p","uiTokenAmount":{"amount":"0"}},{"accountIndex":2,"mint":"m","owner":"q","uiTokenAmount":{"amount":"18446744073709551615"}}]},"transaction":{"accountKeys":[{"pubkey":"p"},{"pubkey":"s"},{"pubkey":"t"}],"signatures":["x"]}}]}"#;

#[test]
fn a_solana_block_is_good() {
    let facts = h402_watch::chain::solana::read(SOLANA_BLOCK).expect("it can be read");
    assert_eq!(facts[0].transfers[0].amount.to_string(), u64::MAX.to_string());
}

/// Good bytes, some of them changed.
fn mutated(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = good.len();
    let changes = prop::collection::vec((0..length, any::<u8>()), 0..6);
    (changes, 0..=length).prop_map(move |(changes, end)| {
        let mut bytes = good.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if end > length / 2 {
            bytes.truncate(end);
        }
        bytes
    })
}

/// Artefacts with proofs, some of whose hex digits are others: their form is good, and what they prove is not.
fn nearly_proven() -> impl Strategy<Value = Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/artefacts/vectors/accepted");
    let paths = std::fs::read_dir(folder).expect("vectors").map(|entry| entry.expect("an entry").path());
    let proofs = paths.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let has_proof = |bytes: &Vec<u8>| bytes.windows(8).any(|part| part == b"\"header\"");
    let proofs: Vec<_> = proofs.map(|path| std::fs::read(path).expect("reads")).filter(has_proof).collect();
    assert!(proofs.len() > 5, "{}", proofs.len());
    let changes = prop::collection::vec((any::<prop::sample::Index>(), "[0-9a-f]"), 1..4);
    (prop::sample::select(proofs), changes).prop_map(|(mut bytes, changes)| {
        let digits: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_hexdigit()).collect();
        for (at, digit) in changes {
            bytes[digits[at.index(digits.len())]] = digit.as_bytes()[0];
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parsers::watch_spec(&bytes);
        parsers::texts(&bytes);
        parsers::node_answers(&bytes);
        parsers::bitcoind_says(&bytes);
        parsers::solana_says(&bytes);
        parsers::config(&bytes);
        parsers::evidence(&bytes);
    }

    #[test]
    fn artefacts_that_are_nearly_good(bytes in nearly_proven()) {
        parsers::evidence(&bytes);
    }

    #[test]
    fn blocks_that_are_nearly_good(bytes in mutated(genesis().into_bytes())) {
        parsers::bitcoind_says(&bytes);
    }

    #[test]
    fn solana_blocks_that_are_nearly_good(bytes in mutated(SOLANA_BLOCK.as_bytes().to_vec())) {
        parsers::solana_says(&bytes);
    }

    #[test]
    fn descriptors_that_are_nearly_good(bytes in prop::sample::select(DESCRIPTORS.map(|it| it.as_bytes().to_vec()).to_vec()).prop_flat_map(mutated)) {
        parsers::descriptor(&bytes);
    }

    #[test]
    fn requests_that_are_nearly_good(bytes in mutated(spec().encode_to_vec())) {
        parsers::watch_spec(&bytes);
    }

    #[test]
    fn answers_that_are_nearly_good(bytes in mutated([BLOCK, RECEIPTS, FLAT, FRAMES].join("\0").into_bytes())) {
        parsers::node_answers(&bytes);
    }

    #[test]
    fn configurations_that_are_nearly_good(
        bytes in mutated(include_bytes!("../deploy/config.example.toml").to_vec())
    ) {
        parsers::config(&bytes);
    }

    #[test]
    fn texts_that_are_nearly_good(text in "(0x)?[0-9a-fA-F]{0,66}|[0-9]{1,90}|-?[0-9.]{1,5}") {
        parsers::texts(text.as_bytes());
    }
}

/// Edge case 38: numbers with leading zeros, numbers that are too large, fields that are missing or spelled as `0x`,
/// transactions of kinds that nobody has heard of.
#[test]
fn answers_are_read_tolerantly() {
    let quantity = |text: &str| serde_json::from_str::<Quantity>(&format!("\"{text}\"")).map(|quantity| quantity.0);
    assert_eq!(quantity("0x0010").expect("leading zeros"), 16);
    assert_eq!(quantity("0x").expect("Tron's zero"), 0);
    assert_eq!(quantity("0xffffffffffffffff").expect("the largest"), u64::MAX);
    for wrong in ["0x10000000000000000", "16", "0xzz", "-0x1"] {
        assert!(quantity(wrong).is_err(), "{wrong}");
    }
    assert!(serde_json::from_str::<Wei>(&format!("\"0x1{}\"", "0".repeat(64))).is_err(), "2^256");
    let block: RpcBlock =
        serde_json::from_str(&BLOCK.replace("{\"hash\"", "{\"stateRoot\":\"0x\",\"new\":1,\"hash\"")).expect("reads");
    assert_eq!(block.number.0, 16);
    // Tron: `0x` for what is not known yet.
    let pending = r#"{"hash":"0x3333333333333333333333333333333333333333333333333333333333333333","blockHash":"0x","blockNumber":"0x","from":"0x00000000000000000000000000000000000000aa","to":"0x","value":"0x0","nonce":"0x0000000000000000","type":"0x7e"}"#;
    let pending: RpcTx = serde_json::from_str(pending).expect("reads");
    assert!(pending.block_hash.is_none() && pending.block_number.is_none() && pending.to.is_none());
    let receipts: Vec<RpcReceipt> =
        serde_json::from_str(&RECEIPTS.replace("\"status\":\"0x1\",", "\"type\":\"0x6a\",")).expect("reads");
    assert!(receipts[0].status.is_none(), "no status is no success");
}
