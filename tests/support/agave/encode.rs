//! Blocks and transactions as JSON, in the shapes of Agave 4.2.

use serde_json::{Value, json};

use super::account::{Holding, base58, sha256, ui_amount};
use super::answers::Refusal;
use super::chain::Block;
use super::tx::{Instruction, Placed};

/// How much of a block is asked for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Detail {
    None,
    Signatures,
    Accounts,
    Full,
}

/// `getBlock`.
pub(super) fn block(block: &Block, detail: Detail, rewards: bool, ceiling: Option<u64>) -> Result<Value, Refusal> {
    let mut json = json!({
        "blockHeight": block.height,
        "blockTime": block.time,
        "blockhash": block.hash,
        "parentSlot": block.parent,
        "previousBlockhash": block.parent_hash,
    });
    if rewards {
        json["rewards"] = json!([]);
    }
    let transactions = block.transactions.iter();
    match detail {
        Detail::None => {}
        Detail::Signatures => json["signatures"] = transactions.map(|placed| json!(placed.tx.signature)).collect(),
        _ => {
            json["transactions"] =
                transactions.map(|placed| transaction(placed, detail, ceiling)).collect::<Result<_, _>>()?
        }
    }
    Ok(json)
}

/// A transaction, its meta, and its version where the client says which it can read.
pub(super) fn transaction(placed: &Placed, detail: Detail, ceiling: Option<u64>) -> Result<Value, Refusal> {
    let version = placed.tx.version.map(u64::from);
    if let Some(version) = version.filter(|version| ceiling.is_none_or(|ceiling| *version > ceiling)) {
        return Err(Refusal::new(
            -32015,
            format!(
                "Transaction version ({version}) is not supported by the requesting client. Please try the request \
                 again with the following configuration parameter: \"maxSupportedTransactionVersion\": {version}"
            ),
        ));
    }
    let signatures = signatures(placed);
    let (body, meta) = match detail {
        Detail::Accounts => (json!({ "accountKeys": keys(placed), "signatures": signatures }), short_meta(placed)),
        _ => (json!({ "message": message(placed), "signatures": signatures }), full_meta(placed)),
    };
    let mut json = json!({ "meta": meta, "transaction": body });
    if ceiling.is_some() {
        json["version"] = version.map_or(json!("legacy"), |version| json!(version));
    }
    Ok(json)
}

fn signatures(placed: &Placed) -> Vec<String> {
    let signers = placed.tx.entries.iter().filter(|entry| entry.signer).skip(1);
    let others = signers.map(|entry| {
        let half = |n: u8| sha256(&[placed.tx.signature.as_bytes(), entry.key.as_bytes(), &[n]]);
        base58(&[half(0), half(1)].concat())
    });
    std::iter::once(placed.tx.signature.clone()).chain(others).collect()
}

fn keys(placed: &Placed) -> Value {
    let key = |entry: &super::tx::Entry| {
        let source = if entry.loaded { "lookupTable" } else { "transaction" };
        json!({ "pubkey": entry.key, "signer": entry.signer, "source": source, "writable": entry.writable })
    };
    placed.tx.entries.iter().map(key).collect()
}

fn message(placed: &Placed) -> Value {
    let fixed = || placed.tx.entries.iter().filter(|entry| !entry.loaded);
    let count = |signer: bool, writable: bool| {
        fixed().filter(|entry| entry.signer == signer && entry.writable == writable).count()
    };
    let top = placed.tx.instructions.iter().filter(|instruction| !instruction.inner);
    let mut json = json!({
        "accountKeys": fixed().map(|entry| &entry.key).collect::<Vec<_>>(),
        "header": {
            "numReadonlySignedAccounts": count(true, false),
            "numReadonlyUnsignedAccounts": count(false, false),
            "numRequiredSignatures": count(true, true) + count(true, false),
        },
        "instructions": top.map(|top| instruction(placed, top)).collect::<Vec<_>>(),
        "recentBlockhash": placed.blockhash,
    });
    match placed.tx.version {
        None => {}
        Some(0) => json["addressTableLookups"] = lookups(placed),
        Some(_) => {
            json["transactionConfig"] = json!({
                "computeUnitLimit": null, "heapSize": null, "loadedAccountsDataSizeLimit": null, "priorityFee": null,
            });
        }
    }
    json
}

/// Loaded keys, all of one table.
fn lookups(placed: &Placed) -> Value {
    let loaded = |writable: bool| -> Vec<_> {
        let all = placed.tx.entries.iter().filter(|entry| entry.loaded).enumerate();
        all.filter(|(_, entry)| entry.writable == writable).map(|(n, _)| n).collect()
    };
    let (writable, readonly) = (loaded(true), loaded(false));
    if writable.is_empty() && readonly.is_empty() {
        return json!([]);
    }
    json!([{ "accountKey": super::account::key("table"), "readonlyIndexes": readonly, "writableIndexes": writable }])
}

fn instruction(placed: &Placed, instruction: &Instruction) -> Value {
    let index = |key: &String| placed.tx.entries.iter().position(|entry| entry.key == *key).expect("one of its keys");
    json!({
        "accounts": instruction.accounts.iter().map(index).collect::<Vec<_>>(),
        "data": base58(&instruction.data),
        "programIdIndex": index(&instruction.program),
        "stackHeight": if instruction.inner { 2 } else { 1 },
    })
}

/// What the detail "accounts" has.
fn short_meta(placed: &Placed) -> Value {
    let err = &placed.tx.err;
    let balances = |after: bool| if placed.tx.unrecorded { Value::Null } else { holdings(placed, after) };
    json!({
        "err": err,
        "fee": placed.tx.fee,
        "postBalances": placed.lamports.iter().map(|(_, after)| after).collect::<Vec<_>>(),
        "postTokenBalances": balances(true),
        "preBalances": placed.lamports.iter().map(|(before, _)| before).collect::<Vec<_>>(),
        "preTokenBalances": balances(false),
        "status": err.as_ref().map_or(json!({ "Ok": null }), |err| json!({ "Err": err })),
    })
}

fn full_meta(placed: &Placed) -> Value {
    let inner: Vec<_> = placed.tx.instructions.iter().filter(|instruction| instruction.inner).collect();
    let inner = match &inner[..] {
        _ if placed.tx.unrecorded => Value::Null,
        [] => json!([]),
        all => {
            let all: Vec<_> = all.iter().map(|inner| instruction(placed, inner)).collect();
            json!([{ "index": 0, "instructions": all }])
        }
    };
    let loaded = |writable: bool| -> Vec<_> {
        let entries = placed.tx.entries.iter().filter(|entry| entry.loaded && entry.writable == writable);
        entries.map(|entry| &entry.key).collect()
    };
    let mut json = short_meta(placed);
    json["computeUnitsConsumed"] = json!(150);
    json["costUnits"] = json!(1_481);
    json["innerInstructions"] = inner;
    json["loadedAddresses"] = json!({ "readonly": loaded(false), "writable": loaded(true) });
    json["logMessages"] = json!([]);
    json["rewards"] = json!([]);
    json
}

fn holdings(placed: &Placed, after: bool) -> Value {
    let balance = |(key, old, new): &(String, Option<Holding>, Option<Holding>)| {
        let Holding { owner, mint, amount } = if after { new } else { old }.as_ref()?;
        let index = placed.tx.entries.iter().position(|entry| entry.key == *key).expect("one of its keys");
        let mut json = json!({
            "accountIndex": index, "mint": mint.address, "uiTokenAmount": ui_amount(*amount, mint.decimals, true),
        });
        if !placed.tx.ownerless {
            json["owner"] = json!(owner);
            json["programId"] = json!(mint.program);
        }
        Some(json)
    };
    placed.holdings.iter().filter_map(balance).collect()
}
