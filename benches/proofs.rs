//! What a proof takes, per chain and block size: its bytes, the time to make one and a hundred, beside what checking the block
//! costs anyway, and the time to verify a settlement with it. Medians of one run, taken in turn. `cargo bench --bench proofs`

#[path = "../tests/verify/support/mod.rs"]
#[allow(dead_code, reason = "tests need more of it")]
mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_eips::eip2718::Encodable2718 as _;
use alloy_trie::root::ordered_trie_root_encoded;
use bitcoin::consensus::encode::serialize_hex;
use ed25519_dalek::{Signer as _, SigningKey};
use h402_watch::chain::bitcoin::block::decode;
use h402_watch::chain::bitcoin::proof::Tree;
use h402_watch::chain::evm::proof::{Leaves, prove};
use h402_watch_verify::evidence::Evidence;
use h402_watch_verify::jwks::{Jwk, Keys};
use h402_watch_verify::{Inclusion, jws, verify};
use serde_json::Value;

const ROUNDS: usize = 11;
const MANY: usize = 100;

/// One line of the table.
struct Line {
    chain: &'static str,
    txs: usize,
    check: Duration,
    one: Duration,
    many: Duration,
    settlement: Value,
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\nproofs: of the last transaction of a block; a hundred of one block in one pass; medians of {ROUNDS}"
    )?;
    writeln!(
        out,
        "{:>8} {:>6} {:>11} {:>12} {:>11} {:>11} {:>6} {:>11} {:>11}",
        "chain", "txs", "proof bytes", "settled.json", "check block", "one proof", "ratio", "100 proofs", "verify"
    )?;
    let lines = [1, 100, 300, 1_000, 10_000].map(evm).into_iter().chain([2, 100, 1_000, 4_000].map(bitcoin));
    for line in lines {
        let (artefact, verification) = verified(&line.settlement);
        writeln!(
            out,
            "{:>8} {:>6} {:>11} {:>12} {:>11.1?} {:>11.1?} {:>6.2} {:>11.1?} {:>11.1?}",
            line.chain,
            line.txs,
            proof_bytes(&line.settlement["proofs"][0]),
            artefact,
            line.check,
            line.one,
            line.one.as_secs_f64() / line.check.as_secs_f64(),
            line.many,
            verification
        )?;
    }
    writeln!(out, "Solana has no proof; verifying its settlement is verifying the signature.")?;
    Ok(())
}

fn places(txs: usize) -> Vec<usize> {
    (0..txs).step_by((txs / MANY).max(1)).take(MANY).collect()
}

fn evm(txs: usize) -> Line {
    let block = support::ethereum::Block::new(txs);
    let encoded: Vec<_> = block.txs.iter().map(|tx| tx.encoded_2718()).collect();
    let header = alloy_rlp::encode(&block.header);
    let leaves =
        Leaves { receipts: Some(Arc::new(block.receipts.clone())), transactions: Some(Arc::new(encoded.clone())) };
    let many = places(txs);
    Line {
        chain: "EVM",
        txs,
        check: median(|| (ordered_trie_root_encoded(&block.receipts), ordered_trie_root_encoded(&encoded))),
        one: median(|| prove(&header, &leaves, &[txs - 1])),
        many: median(|| prove(&header, &leaves, &many)),
        settlement: block.settled(txs - 1),
    }
}

fn bitcoin(txs: usize) -> Line {
    let mined = support::bitcoin::Block::new(txs, 1_000);
    let mut block = bitcoin::Block { header: mined.header, txdata: mined.txs.clone() };
    // These blocks don't commit to witnesses.
    block.txdata.iter_mut().flat_map(|tx| &mut tx.input).for_each(|input| input.witness.clear());
    let (hex, hash) = (serialize_hex(&block), block.block_hash());
    let decoded = decode(&hex, hash, mined.height).expect("a good block");
    let many = places(txs);
    Line {
        chain: "Bitcoin",
        txs,
        check: median(|| decode(&hex, hash, mined.height)),
        one: median(|| Tree::of(&decoded).prove(txs - 1)),
        many: median(|| {
            let tree = Tree::of(&decoded);
            many.iter().map(|place| tree.prove(*place)).collect::<Vec<_>>()
        }),
        settlement: mined.settled(txs - 1),
    }
}

/// The bytes of a settlement, and the time to verify it with its signature. It has to be proven.
fn verified(settlement: &Value) -> (usize, Duration) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = Jwk::from_ed25519(&key.verifying_key().to_bytes());
    let artefact = support::canonical(settlement).into_bytes();
    let signature = key.sign(jws::signing_input(public.kid(), &artefact).as_bytes());
    let signature = jws::detached(public.kid(), &signature.to_bytes());
    let (evidence, keys) = (Evidence { artefact, signature: Some(signature) }, Keys::new([public]));
    let report = verify(&evidence, Some(&keys)).expect("in order");
    assert!(matches!(report.inclusion, Inclusion::Proven { .. }), "{report}");
    (evidence.artefact.len(), median(|| verify(&evidence, Some(&keys))))
}

/// The bytes that a proof's hex stands for.
fn proof_bytes(proof: &Value) -> usize {
    let hex = |value: &Value| value.as_str().map_or(0, |text| text.len() / 2);
    let members = proof.as_object().expect("a proof").iter();
    let members = members.filter(|(name, _)| !matches!(name.as_str(), "headers" | "kind" | "tx"));
    members.map(|(_, value)| value.as_array().map_or_else(|| hex(value), |list| list.iter().map(hex).sum())).sum()
}

fn median<T>(run: impl Fn() -> T) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(run());
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
