//! How names are spelled: of watches, of networks, and of transactions and blocks on the networks that are known here. The same
//! as the JSON Schemas beside the format say.

use crate::artefact::Artefact;
use crate::wrong::{Code, Wrong, ensure};

use h402_watch_engine::receipt::Evidence;
use h402_watch_engine::request::Subject;
use h402_watch_engine::watch::{Outcome, Reason};

/// Whether a text is the name of a watch.
pub(crate) fn is_watch(text: &str) -> bool {
    text.strip_prefix('w').is_some_and(|digits| is_hex(digits, 32))
}

/// Whether a text names a network (CAIP-2).
pub(crate) fn is_network(text: &str) -> bool {
    let Some((space, reference)) = text.split_once(':') else { return false };
    let in_space = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let in_reference = |byte: u8| byte == b'-' || byte == b'_' || byte.is_ascii_alphanumeric();
    (3..=8).contains(&space.len())
        && space.bytes().all(in_space)
        && (1..=32).contains(&reference.len())
        && reference.bytes().all(in_reference)
}

/// Whether a text is the hash of a block of Solana.
pub(crate) fn is_solana_hash(text: &str) -> bool {
    is_base58(text, 32, 44)
}

/// Whether a text is spelled as a name is.
type Spelled = fn(&str) -> bool;

/// Checks the transactions and blocks of an artefact. Those of other networks have no spelling that is known here.
pub(crate) fn check(artefact: &Artefact) -> Result<(), Wrong> {
    let (tx, block): (Spelled, Spelled) = match artefact.network.split_once(':') {
        Some(("eip155", _)) => (is_evm_tx, is_evm_hash),
        Some(("bip122", _)) => (is_bitcoin_hash, is_bitcoin_hash),
        Some(("solana", _)) => (|text| is_base58(text, 64, 88), is_solana_hash),
        _ => return Ok(()),
    };
    for name in txs(artefact) {
        ensure(tx(name), Code::Shape, || format!("{name} names no transaction of {}", artefact.network))?;
    }
    for name in blocks(artefact) {
        ensure(block(name), Code::Shape, || format!("{name} names no block of {}", artefact.network))?;
    }
    Ok(())
}

fn txs(artefact: &Artefact) -> Vec<&str> {
    let mut all = Vec::new();
    if let Subject::Transaction { tx, .. } = &artefact.subject {
        all.push(tx.as_str());
    }
    all.extend(artefact.transaction().map(|tx| tx.tx.as_str()));
    all.extend(artefact.proofs.iter().flatten().map(|proof| proof.tx.as_str()));
    all.extend(artefact.replaces());
    let Some(settlement) = artefact.settlement() else { return all };
    all.extend(settlement.transfers.iter().map(|counted| counted.tx.as_str()));
    if let Outcome::Failed(Reason::Replaced { by } | Reason::Conflicted { by }) = &settlement.outcome {
        all.push(by.as_str());
    }
    all
}

fn blocks(artefact: &Artefact) -> Vec<&str> {
    let mut all: Vec<_> = artefact.transaction().and_then(|tx| tx.block.as_ref()).into_iter().collect();
    all.extend(artefact.left_block());
    if let Some(settlement) = artefact.settlement() {
        all.extend(settlement.transfers.iter().map(|counted| &counted.block));
        match &settlement.evidence {
            Evidence::BlockTime { block, .. } | Evidence::Expired { block } => all.push(block),
            Evidence::Transaction | Evidence::Deadline | Evidence::Request => {}
        }
    }
    all.into_iter().map(|block| block.hash.as_str()).collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_bitcoin_hash(text: &str) -> bool {
    is_hex(text, 64)
}

fn is_evm_hash(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| is_hex(digits, 64))
}

/// A hash; or the block and the address of a difference of balances.
fn is_evm_tx(text: &str) -> bool {
    let is_address =
        |text: &str| text.strip_prefix("0x").is_some_and(|digits| is_hex(&digits.to_ascii_lowercase(), 40));
    let difference = text.strip_prefix("balance:").and_then(|rest| rest.split_once(':'));
    is_evm_hash(text) || difference.is_some_and(|(block, address)| is_evm_hash(block) && is_address(address))
}

fn is_base58(text: &str, least: usize, most: usize) -> bool {
    let of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() && !matches!(byte, b'0' | b'O' | b'I' | b'l');
    (least..=most).contains(&text.len()) && text.bytes().all(of_alphabet)
}
