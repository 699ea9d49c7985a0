//! What a transaction means for what is watched.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash as _;
use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::{Instruction, PushBytes};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::taproot::ControlBlock;
use bitcoin::{
    Network, PubkeyHash, Script, ScriptBuf, ScriptHash, TapNodeHash, Transaction, TxIn, Txid, WPubkeyHash, WScriptHash,
};
use h402_watch_engine::amount::Amount;
use h402_watch_engine::id::{Address, AssetId};
use h402_watch_engine::input::{Execution, Place, Transfer, TxFact, Verification, Via};

use super::text::{self, Link, bytes};
use crate::chain::Interests;

/// The depth at which the outputs of a coinbase can be spent (consensus: `COINBASE_MATURITY`).
const COINBASE_MATURITY: u32 = 100;
/// Inputs of one transaction that are followed. One that is double-spent through a later input only is not told to be so, and
/// waits for its deadline.
const SPENDS_MAX: usize = 1024;

/// Why a transaction is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// It is watched itself, or uses what a watched one uses: all of it matters.
    Whole,
    /// It pays somebody who is watched.
    Recipient,
}

/// Whether a transaction is of interest.
pub fn hit(interests: &Interests, txid: &Txid, tx: &Transaction) -> Option<Hit> {
    if interests.txs.contains(txid.as_byte_array()) {
        return Some(Hit::Whole);
    }
    let spends = |input: &TxIn| interests.spends.contains(&bytes::spend(&input.previous_output));
    if !interests.spends.is_empty() && tx.input.iter().any(spends) {
        return Some(Hit::Whole);
    }
    let pays = |output: &bitcoin::TxOut| bytes::pays_watched(interests, &output.script_pubkey);
    tx.output.iter().any(pays).then_some(Hit::Recipient)
}

/// What inputs are known to spend from.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// These, and what inputs show: of a block whose witnesses are those that were mined, or of one's own mempool.
    Beside(&'a [ScriptBuf]),
    /// These are all.
    All(&'a [ScriptBuf]),
}

/// The fact about a transaction.
pub fn fact(
    (txid, tx): (&Txid, &Transaction),
    hit: Hit,
    place: Place,
    interests: &Interests,
    network: Network,
    known: Known<'_>,
) -> TxFact {
    let mut transfers = Vec::new();
    for (index, output) in tx.output.iter().enumerate() {
        let script = &output.script_pubkey;
        if !bytes::pays_watched(interests, script) && (hit != Hit::Whole || script.is_op_return()) {
            continue;
        }
        transfers.push(Transfer {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            asset: AssetId::native(),
            from: None,
            to: text::address(script, network),
            amount: Amount::from(output.value.to_sat()),
            via: Via::Value,
        });
    }
    let coinbase = tx.is_coinbase();
    let in_block = matches!(place, Place::Block { .. });
    TxFact {
        tx: text::tx(*txid),
        place,
        sender: None,
        execution: if in_block { Execution::Succeeded } else { Execution::Unknown },
        spends: if coinbase { Vec::new() } else { outpoints(tx).map(text::spend).collect() },
        funded_by: if coinbase { Vec::new() } else { funded_by(tx, known, &transfers, interests, network) },
        transfers,
        transfers_known: true,
        authorizations: Vec::new(),
        replaceable: tx.is_explicitly_rbf(),
        matures: if coinbase { COINBASE_MATURITY } else { 0 },
        memos: Vec::new(),
        references: Vec::new(),
        notes: notes(txid, tx, coinbase),
        verification: if in_block { Verification::Trie } else { Verification::Endpoint },
        proof: None,
    }
}

/// What a transaction uses up, as far as it is followed.
pub fn outpoints(tx: &Transaction) -> impl Iterator<Item = &bitcoin::OutPoint> {
    tx.input.iter().take(SPENDS_MAX).map(|input| &input.previous_output)
}

/// A transaction of a block.
pub(super) fn in_block(link: &Link) -> Place {
    Place::Block { block: link.block_ref(), time: link.timestamp() }
}

fn notes(txid: &Txid, tx: &Transaction, coinbase: bool) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::new();
    let wtxid = tx.compute_wtxid();
    if wtxid.to_raw_hash() != txid.to_raw_hash() {
        notes.insert("wtxid".into(), wtxid.to_string());
    }
    if coinbase {
        notes.insert("coinbase".into(), "true".into());
    }
    notes
}

/// Those whose money a transaction uses, among its recipients and the watched.
fn funded_by(
    tx: &Transaction,
    known: Known<'_>,
    transfers: &[Transfer],
    interests: &Interests,
    network: Network,
) -> Vec<Address> {
    let (known, trusts) = match known {
        Known::Beside(known) => (known, true),
        Known::All(known) => (known, false),
    };
    let shown = tx.input.iter().filter(|_| trusts).flat_map(|input| match source(input) {
        Source::Scripts(scripts) => scripts,
        Source::Hidden => Vec::new(),
    });
    let mut payers: Vec<_> = Vec::new();
    for script in shown.chain(known.iter().cloned()) {
        let watched = bytes::pays_watched(interests, &script);
        let address = text::address(&script, network);
        if (watched || transfers.iter().any(|moved| moved.to == address)) && !payers.contains(&address) {
            payers.push(address);
        }
    }
    payers.sort();
    payers
}

/// The inputs whose scripts have to be asked for: they don't show what they spend from, and it may be from somebody whom the
/// transaction pays.
pub fn hidden_inputs(interests: &Interests, tx: &Transaction, hit: Hit) -> Vec<usize> {
    if tx.is_coinbase() {
        return Vec::new();
    }
    let may_be_own = |script: &Script| {
        let shows = script.is_p2pkh() || script.is_p2sh() || script.is_p2wpkh() || script.is_p2wsh();
        !shows && !script.is_op_return() && (hit == Hit::Whole || bytes::pays_watched(interests, script))
    };
    if !tx.output.iter().any(|output| may_be_own(&output.script_pubkey)) {
        return Vec::new();
    }
    let inputs = tx.input.iter().take(SPENDS_MAX).enumerate();
    inputs.filter(|(_, input)| matches!(source(input), Source::Hidden)).map(|(index, _)| index).collect()
}

/// What an input spends from, as far as it shows.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// One of these scripts: what unlocks one may look like what unlocks another.
    Scripts(Vec<ScriptBuf>),
    /// It does not show.
    Hidden,
}

/// Reads from what unlocks an output what locked it: a public key, a redeem script, a witness script. Taproot's key path shows
/// neither, nor do bare scripts.
fn source(input: &TxIn) -> Source {
    let pushes: Option<Vec<&PushBytes>> = input.script_sig.instructions().map(push).collect();
    let pushes = pushes.unwrap_or_default();
    if !input.script_sig.is_empty() {
        let Some(last) = pushes.last() else { return Source::Hidden };
        let mut scripts = vec![ScriptBuf::new_p2sh(&ScriptHash::hash(last.as_bytes()))];
        if input.witness.is_empty() && pushes.len() == 2 && is_key(last.as_bytes()) {
            scripts.push(ScriptBuf::new_p2pkh(&PubkeyHash::hash(last.as_bytes())));
        }
        let bare = input.witness.is_empty() && !is_key(last.as_bytes()) && !is_script(last.as_bytes());
        return if bare { Source::Hidden } else { Source::Scripts(scripts) };
    }
    let witness: Vec<&[u8]> = input.witness.iter().collect();
    // BIP 341: a last element that begins with 0x50 is an annex, and no part of what unlocks.
    let annexed = witness.len() > 1 && witness.last().is_some_and(|last| last.first() == Some(&0x50));
    let stack = if annexed { &witness[..witness.len() - 1] } else { &witness[..] };
    let Some((last, [.., below])) = stack.split_last() else { return Source::Hidden };
    let mut scripts = vec![ScriptBuf::new_p2wsh(&WScriptHash::hash(last))];
    if stack.len() == 2 && is_key(last) {
        scripts.push(ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(last)));
    }
    scripts.extend(taproot_script_path(last, below));
    Source::Scripts(scripts)
}

fn push<E>(instruction: Result<Instruction<'_>, E>) -> Option<&PushBytes> {
    match instruction.ok()? {
        Instruction::PushBytes(bytes) => Some(bytes),
        Instruction::Op(_) => Some(PushBytes::empty()),
    }
}

fn is_key(bytes: &[u8]) -> bool {
    matches!((bytes.len(), bytes.first()), (33, Some(2 | 3)) | (65, Some(4)))
}

/// Whether the last push of an input looks like a redeem script, and not like the signature of a bare one.
fn is_script(bytes: &[u8]) -> bool {
    let witness_program = Script::from_bytes(bytes).is_witness_program();
    let multisig = bytes.last() == Some(&OP_CHECKMULTISIG.to_u8());
    // DER signatures begin with 0x30, and end with how they sign.
    witness_program || multisig || bytes.first() != Some(&0x30)
}

fn taproot_script_path(control: &[u8], script: &[u8]) -> Option<ScriptBuf> {
    let control = ControlBlock::decode(control).ok()?;
    let leaf = TapNodeHash::from_script(Script::from_bytes(script), control.leaf_version);
    let root = control.merkle_branch.iter().fold(leaf, |node, sibling| TapNodeHash::from_node_hashes(node, *sibling));
    let secp = Secp256k1::verification_only();
    Some(ScriptBuf::new_p2tr(&secp, control.internal_key, Some(root)))
}
