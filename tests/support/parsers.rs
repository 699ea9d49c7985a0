//! Each parser that takes bytes from outside, as a function that must not panic whatever it is given. Fuzz targets and tests
//! share these.

use std::collections::HashMap;

use bitcoin::Network;
use h402_watch::api::request_of;
use h402_watch::chain::bitcoin::block::decode;
use h402_watch::chain::bitcoin::descriptor::{canonical, derive_for};
use h402_watch::chain::bitcoin::family;
use h402_watch::chain::bitcoin::wake::hint;
use h402_watch::chain::evm::wire::{FlatTrace, RpcBlock, RpcLog, RpcReceipt, RpcTx, TxTrace};
use h402_watch::chain::evm::{FAMILY, Fetched, check_receipts, from_flat, from_frames};
use h402_watch::config::Config;
use h402_watch_proto::v1;
use prost::Message as _;

/// A request from a caller: protobuf, then the schema's rules, then the chain's.
pub fn watch_spec(bytes: &[u8]) {
    let Ok(spec) = v1::WatchSpec::decode(bytes) else { return };
    let Ok(mut request) = request_of(spec) else { return };
    if (FAMILY.request)(&mut request).is_ok() {
        // What was spelled once is spelled the same again.
        let once = request.clone();
        assert!((FAMILY.request)(&mut request).is_ok());
        assert_eq!(once, request);
        let _ = h402_watch_engine::watch_id(&request);
    }
}

/// What is handed to an auditor: an artefact, evidence lines, a signature, a set of keys.
pub fn evidence(bytes: &[u8]) {
    use h402_watch_verify::evidence::{Evidence, lines};
    use h402_watch_verify::{audit, jwks, jws, verify};
    let alone = Evidence { artefact: bytes.to_vec(), signature: None };
    if let Ok(report) = verify(&alone, None) {
        // What is in order has one spelling, and is said without line breaks.
        assert!(!report.to_string().contains(['\n', '\u{1b}']));
        let line = alone.to_line().expect("an artefact");
        assert_eq!(Evidence::from_line(line.as_bytes()), Ok(alone.clone()));
    }
    let several: Vec<_> = lines(bytes).flatten().chain([alone]).collect();
    let _ = audit(&several, None);
    let _ = jwks::Keys::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = jws::Detached::parse(text);
    }
}

/// Texts that name things.
pub fn texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(amount) = text.parse::<h402_watch_engine::amount::Amount>() {
        assert_eq!(amount.to_string(), text, "an amount has one spelling");
    }
    descriptor(bytes);
    let _ = (FAMILY.asset)(text);
    let solana = h402_watch::chain::solana::FAMILY;
    if let Ok(address) = (solana.address)(text) {
        assert_eq!((solana.address)(address.as_str()), Ok(address.clone()));
    }
    let bitcoin = family(Network::Bitcoin);
    if let Ok(address) = (bitcoin.address)(text) {
        assert_eq!((bitcoin.address)(address.as_str()), Ok(address.clone()));
    }
    if let Ok(address) = (FAMILY.address)(text) {
        assert_eq!((FAMILY.address)(address.as_str()), Ok(address.clone()));
    }
}

/// A descriptor from a caller.
pub fn descriptor(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for network in [Network::Bitcoin, Network::Regtest] {
        let Ok(spelled) = canonical(text, network) else { continue };
        assert_eq!(canonical(&spelled, network).as_ref(), Ok(&spelled));
        assert!(derive_for(network)(&spelled, 0, u32::MAX >> 1).is_some());
    }
}

/// What nodes answer: a block, its receipts and its traces, separated by zero bytes.
pub fn node_answers(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (block, receipts, flat, frames) = (next(), next(), next(), next());
    let _ = serde_json::from_slice::<RpcTx>(block);
    let _ = serde_json::from_slice::<RpcReceipt>(block);
    let _ = serde_json::from_slice::<Vec<RpcLog>>(block);
    let Ok(raw) = serde_json::from_slice::<Box<serde_json::value::RawValue>>(block) else { return };
    let Ok(block) = serde_json::from_str::<RpcBlock>(raw.get()) else { return };
    let block = Fetched { block, header: [].into() };
    if let Ok(receipts) = serde_json::from_slice::<Box<serde_json::value::RawValue>>(receipts) {
        let _ = check_receipts(&receipts, &block);
    }
    if let Ok(traces) = serde_json::from_slice::<Vec<FlatTrace>>(flat) {
        let _ = from_flat(&block, traces);
    }
    if let Ok(traces) = serde_json::from_slice::<Vec<TxTrace>>(frames) {
        let _ = from_frames(&block, traces);
    }
}

/// What a bitcoind sends: a block in hex, and a notification of topic, body and counter; separated by zero bytes.
pub fn bitcoind_says(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (block, topic, counter) = (next(), next(), next());
    if let Ok(hex) = std::str::from_utf8(block) {
        let _ = decode(hex, hash_of(hex), 1);
    }
    let _ = hint(topic, bytes, counter, &mut HashMap::new());
}

/// What a Solana node answers: a block with its accounts, or a transaction.
pub fn solana_says(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = h402_watch::chain::solana::read(text);
    }
}

/// The hash that a block in hex has, so that more of it is looked at than that.
fn hash_of(hex: &str) -> bitcoin::BlockHash {
    let header = hex.get(..160).and_then(|header| bitcoin::consensus::encode::deserialize_hex(header).ok());
    let genesis = bitcoin::constants::genesis_block(Network::Regtest).header;
    header.unwrap_or(genesis).block_hash()
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Config::parse(text, "fuzz", &[]);
}
