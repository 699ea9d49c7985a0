//! What it costs to match a block with what is watched, beside what it costs to decode it. Ratios from one run: the two are
//! measured in turn, and medians are compared. `cargo bench --bench bitcoin_block`

use std::io::Write as _;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, Block, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash, Witness,
    absolute, transaction,
};
use h402_watch::chain::Mailbox;
use h402_watch::chain::bitcoin::block::decode;
use h402_watch::chain::bitcoin::facts::hit;
use h402_watch::chain::bitcoin::family;
use h402_watch_engine::changes::{Ask, Interest};
use h402_watch_engine::id::{Address, AssetId};

const TXS: u64 = 2_000;
const ROUNDS: usize = 41;

fn main() -> std::io::Result<()> {
    let block = block();
    let hex = serialize_hex(&block);
    let hash = block.block_hash();
    let mut out = std::io::stdout().lock();
    writeln!(out, "a block of {TXS} transactions, {} bytes; medians of {ROUNDS}", hex.len() / 2)?;
    writeln!(
        out,
        "{:>10} {:>8} {:>8} {:>12} {:>12} {:>8}",
        "addresses", "txids", "matches", "decode", "match", "ratio"
    )?;
    for (addresses, txids) in [(1_000, 100), (100_000, 10_000), (1_000_000, 10_000)] {
        let mailbox = watching(addresses, txids);
        let (mut decoding, mut matching, mut matches) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let decoded = decode(&hex, hash, 1).expect("a good block");
            decoding.push(started.elapsed());
            let started = Instant::now();
            let wants = mailbox.interests();
            let txs = decoded.txids.iter().zip(&decoded.block.txdata);
            matches = txs.filter(|(txid, tx)| hit(&wants.interests, txid, tx).is_some()).count();
            matching.push(started.elapsed());
        }
        let (decode, matched) = (median(decoding), median(matching));
        let ratio = matched.as_secs_f64() / decode.as_secs_f64();
        writeln!(out, "{addresses:>10} {txids:>8} {matches:>8} {decode:>12?} {matched:>12?} {ratio:>8.2}")?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The script of the n-th address.
fn script(n: u64) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(&n.to_le_bytes()))
}

/// Each transaction has two inputs, two outputs and witnesses, as most have; every hundredth pays somebody who may be watched.
fn block() -> Block {
    let mut block = bitcoin::constants::genesis_block(Network::Regtest);
    let coinbase = block.txdata.remove(0);
    let input = |n: u64| TxIn {
        previous_output: OutPoint::new(Txid::hash(&n.to_le_bytes()), 0),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[&[7; 71][..], &[2; 33][..]]),
    };
    let output = |n: u64| TxOut { value: Amount::from_sat(1000 + n), script_pubkey: script(n) };
    let payment = |n: u64| Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![input(2 * n), input(2 * n + 1)],
        output: vec![output(if n.is_multiple_of(100) { n / 100 } else { 1 << 40 | n }), output(1 << 41 | n)],
    };
    let mut committed = coinbase;
    committed.input[0].witness = Witness::from_slice(&[[0; 32]]);
    block.txdata = std::iter::once(committed).chain((1..TXS).map(payment)).collect();
    let root = block.witness_root().expect("transactions");
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let mut magic = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    magic.extend_from_slice(commitment.as_byte_array());
    block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(magic) });
    block.header.merkle_root = block.compute_merkle_root().expect("transactions");
    // Regtest asks for next to no work.
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
    block
}

fn watching(addresses: u64, txids: u64) -> Mailbox {
    let family = family(Network::Regtest);
    let mailbox = Mailbox::new(&family);
    let address = |n: u64| {
        let spelled = bitcoin::Address::from_script(&script(n), Network::Regtest).expect("an address");
        Interest::Recipient { asset: AssetId::native(), address: Address::new(spelled.to_string()) }
    };
    let tx = |n: u64| Interest::Tx(Txid::hash(&(1 << 50 | n).to_le_bytes()).to_string().into());
    let spend = |n: u64| Interest::Spend(OutPoint::new(Txid::hash(&(1 << 51 | n).to_le_bytes()), 0).to_string().into());
    let all = (0..addresses).map(address).chain((0..txids).flat_map(|n| [tx(n), spend(n)]));
    mailbox.post(all.map(Ask::Open));
    mailbox
}
