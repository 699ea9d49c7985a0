//! The harness does on the node what it says.

use serde_json::{Value, json};
use solana_address::Address;
use solana_keypair::Keypair;
use solana_signer::Signer as _;

use crate::support::solana::draft::{Draft, Mint};
use crate::support::solana::{FEE, FINAL_SLOTS, SOL, Solnode, shop};

/// All accounts of a transaction, in the order of its balances.
fn keys(transaction: &Value) -> Vec<&str> {
    let meta = &transaction["meta"]["loadedAddresses"];
    let lists = [&transaction["transaction"]["message"]["accountKeys"], &meta["writable"], &meta["readonly"]];
    lists.into_iter().flat_map(|list| list.as_array().expect("keys")).map(|key| key.as_str().expect("a key")).collect()
}

/// Lamports that an account got.
fn received(transaction: &Value, account: &Address) -> i64 {
    let account = account.to_string();
    let index = keys(transaction).iter().position(|key| *key == account).expect("it has a part in it");
    let [before, after] = ["preBalances", "postBalances"].map(|list| transaction["meta"][list][index].as_i64());
    after.expect("a balance") - before.expect("a balance")
}

/// Tokens that an owner got, over all accounts.
fn received_tokens(transaction: &Value, mint: &Mint, owner: &Address) -> i64 {
    let sum = |list: &str| -> i64 {
        let entries = transaction["meta"][list].as_array().expect("balances");
        let of = |entry: &&Value| {
            entry["mint"] == mint.address.to_string()
                && entry["owner"] == owner.to_string()
                && entry["programId"] == mint.program.to_string()
        };
        let amount = |entry: &Value| entry["uiTokenAmount"]["amount"].as_str().expect("an amount").parse::<i64>();
        entries.iter().filter(of).map(|entry| amount(entry).expect("a number")).sum()
    };
    sum("postTokenBalances") - sum("preTokenBalances")
}

/// Seals the slot of a transaction, which must have succeeded; the transaction.
async fn landed(node: &Solnode, signature: &str) -> Value {
    node.slot(1).await;
    let status = node.status(signature).await;
    assert_eq!((&status["err"], &status["confirmationStatus"]), (&Value::Null, &json!("confirmed")), "{status}");
    node.transaction(signature).await
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_sealed_on_demand_and_the_chain_holds_together() {
    let node = Solnode::manual().await;
    assert_eq!((node.open_slot().await, node.tip().await, node.finalized().await), (64, 63, 33));
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(node.open_slot().await, 64, "nobody seals but we");
    for n in 0..3 {
        node.pay(&shop(), SOL).await;
        node.slot(1 + n).await;
    }
    assert_eq!((node.open_slot().await, node.tip().await, node.height().await), (70, 69, 59));
    let mut parent = node.block(33).await;
    for slot in 34..=69 {
        let block = node.block(slot).await;
        assert_eq!(block["parentSlot"], slot - 1);
        assert_eq!(block["previousBlockhash"], parent["blockhash"], "slot {slot}");
        assert_eq!(block["blockHeight"].as_u64(), parent["blockHeight"].as_u64().map(|height| height + 1));
        assert!(block["blockTime"].as_i64() >= parent["blockTime"].as_i64());
        parent = block;
    }
    assert_eq!(node.block(70).await, Value::Null, "the open slot has no block");
    // Payments at the ends, and an empty slot between.
    for (slot, count) in [(62, 0), (64, 1), (65, 1), (66, 0), (67, 1), (68, 0)] {
        assert_eq!(node.block(slot).await["transactions"].as_array().expect("a list").len(), count, "slot {slot}");
    }
    let before = node.block(67).await;
    node.finalize().await;
    assert!(node.finalized().await >= 67);
    assert_eq!(node.block(67).await, before, "finality changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_seals_slots_until_it_is_stopped() {
    let node = Solnode::clock(50).await;
    let first = node.tip().await;
    let signature = node.pay(&shop(), SOL).await;
    node.slot(5).await;
    assert!(node.tip().await >= first + 4);
    assert_eq!(node.status(&signature).await["err"], Value::Null);
    node.pause().await;
    // The slot that was just being sealed still is.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let stopped = node.tip().await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(node.tip().await, stopped);
    node.resume().await;
    node.slot(3).await;
    node.mark().await;
    let gone = node.pay(&shop(), SOL).await;
    node.slot(3).await;
    assert_ne!(node.status(&gone).await, Value::Null);
    node.back().await;
    assert_eq!(node.status(&gone).await, Value::Null);
    node.slot(3).await;
    assert_eq!(node.status(&gone).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_confirmed_and_finalized() {
    let node = Solnode::manual().await;
    let to = shop();
    let slot = node.open_slot().await;
    let signature = node.pay(&to, 3 * SOL).await;
    assert_eq!(node.status(&signature).await, Value::Null, "its slot is open");
    let transaction = landed(&node, &signature).await;
    assert_eq!(transaction["slot"], slot);
    assert_eq!(received(&transaction, &to), 3_000_000_000);
    assert_eq!(node.balance(&to).await, 3 * SOL);
    node.slot(FINAL_SLOTS - 2).await;
    assert_eq!(node.status(&signature).await["confirmationStatus"], "confirmed");
    node.slot(1).await;
    let status = node.status(&signature).await;
    assert_eq!(status["confirmationStatus"], "finalized");
    assert_eq!((&status["confirmations"], &status["slot"]), (&Value::Null, &json!(slot)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_arrive_whole_or_less_a_fee() {
    let node = Solnode::manual().await;
    let plain = node.mint(6).await;
    let modern = node.mint_2022(9).await;
    let taxed = node.fee_mint(6, 100).await;
    for (mint, net) in [(plain, 2_000_000), (modern, 2_000_000), (taxed, 1_980_000)] {
        let to = shop();
        let first = landed(&node, &node.pay_token(&mint, &to, 2_000_000).await).await;
        assert_eq!(received_tokens(&first, &mint, &to), net);
        let before = &first["meta"]["preTokenBalances"];
        assert_eq!(before.as_array().expect("balances").len(), 1, "the account was made with it: {before}");
        let second = landed(&node, &node.pay_token(&mint, &to, 2_000_000).await).await;
        assert_eq!(received_tokens(&second, &mint, &to), net);
        assert_eq!(node.token_balance(&mint.account(&to)).await, u64::try_from(2 * net).expect("positive"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memos_and_references_are_in_the_transaction() {
    let node = Solnode::manual().await;
    let mint = node.mint(6).await;
    let (to, references) = (shop(), [shop(), shop()]);
    let draft = node.draft().token(&mint, &to, 5).references(&references).memo("order-1").memo("order-2");
    let signature = node.send(draft).await;
    let transaction = landed(&node, &signature).await;
    let message = &transaction["transaction"]["message"];
    let program = |instruction: &Value| {
        let index = usize::try_from(instruction["programIdIndex"].as_u64().expect("an index")).expect("few");
        message["accountKeys"][index].as_str().expect("a key").to_owned()
    };
    let memos =
        message["instructions"].as_array().expect("instructions").iter().filter(|i| program(i).starts_with("Memo"));
    assert_eq!(memos.count(), 2);
    for reference in &references {
        let found =
            node.call("getSignaturesForAddress", json!([reference.to_string(), { "commitment": "confirmed" }])).await;
        assert_eq!(found[0]["signature"], signature.as_str());
        assert_eq!(found[0]["memo"], "[7] order-1; [7] order-2");
    }
    let sol = node.send(node.draft().sol(&to, SOL).references(&references[..1])).await;
    assert_eq!(received(&landed(&node, &sol).await, &references[0]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_transfers_in_one_transaction() {
    let node = Solnode::manual().await;
    let mint = node.mint(6).await;
    let (to, other) = (shop(), shop());
    let twice = node.draft().token(&mint, &to, 5).token(&mint, &to, 7).sol(&to, SOL).sol(&to, SOL);
    let transaction = landed(&node, &node.send(twice).await).await;
    assert_eq!((received_tokens(&transaction, &mint, &to), received(&transaction, &to)), (12, 2_000_000_000));
    let both = node.draft().token(&mint, &to, 1).token(&mint, &other, 2).sol(&to, SOL).sol(&other, 2 * SOL);
    let transaction = landed(&node, &node.send(both).await).await;
    assert_eq!((received_tokens(&transaction, &mint, &to), received(&transaction, &to)), (1, 1_000_000_000));
    assert_eq!((received_tokens(&transaction, &mint, &other), received(&transaction, &other)), (2, 2_000_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_to_an_account_that_is_not_the_associated_one() {
    let node = Solnode::manual().await;
    for mint in [node.mint(6).await, node.fee_mint(6, 0).await] {
        let to = shop();
        let account = node.other_account(&mint, &to).await;
        assert_ne!(account, mint.account(&to));
        let transaction = landed(&node, &node.send(node.draft().token_to(&mint, &account, 9)).await).await;
        assert_eq!(received_tokens(&transaction, &mint, &to), 9);
        assert!(!keys(&transaction).contains(&to.to_string().as_str()), "the owner has no part in it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_received_can_be_sent_on_at_once() {
    let node = Solnode::manual().await;
    let mint = node.mint(6).await;
    let (through, end) = (Keypair::new(), shop());
    let draft = node.draft().token(&mint, &through.pubkey(), 10).sol(&through.pubkey(), SOL);
    let draft =
        draft.associated(&mint, &end).then_from(&through).token_to(&mint, &mint.account(&end), 10).sol(&end, SOL);
    let transaction = landed(&node, &node.send(draft).await).await;
    assert_eq!(received_tokens(&transaction, &mint, &through.pubkey()), 0);
    assert_eq!(received(&transaction, &through.pubkey()), 0);
    assert_eq!((received_tokens(&transaction, &mint, &end), received(&transaction, &end)), (10, 1_000_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrapped_sol_is_a_token_until_its_account_is_closed() {
    let node = Solnode::manual().await;
    let owner = Keypair::new();
    let wrapped = Mint::WRAPPED_SOL;
    node.send(node.draft().wrap(5 * SOL)).await;
    let paid = landed(&node, &node.pay_token(&wrapped, &owner.pubkey(), 2 * SOL).await).await;
    assert_eq!(received_tokens(&paid, &wrapped, &owner.pubkey()), 2_000_000_000);
    assert_eq!(received(&paid, &owner.pubkey()), 0);
    let closed = landed(&node, &node.send(node.draft().then_from(&owner).close(&wrapped)).await).await;
    assert_eq!(closed["meta"]["postTokenBalances"], json!([]));
    assert!(received(&closed, &owner.pubkey()) > 2_000_000_000, "with the account's rent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_transaction_lands() {
    let node = Solnode::manual().await;
    let mint = node.mint(6).await;
    let (poor, to) = (Keypair::new(), shop());
    node.pay(&poor.pubkey(), SOL).await;
    node.pay_token(&mint, &poor.pubkey(), 1).await;
    node.pay_token(&mint, &to, 1).await;
    node.slot(1).await;
    for draft in [
        Draft::by(&poor).token_to(&mint, &mint.account(&to), 2),
        Draft::by(&poor).sol(&to, 2 * SOL),
        // The first transfer is taken back with the second.
        Draft::by(&poor).sol(&to, SOL / 10).sol(&to, 2 * SOL),
    ] {
        let signature = node.send_unchecked(draft).await;
        node.slot(1).await;
        let status = node.status(&signature).await;
        assert_eq!(status["confirmationStatus"], "confirmed");
        assert!(status["err"]["InstructionError"].is_array(), "{status}");
        let transaction = node.transaction(&signature).await;
        assert_eq!(received_tokens(&transaction, &mint, &to), 0);
        assert_eq!(received(&transaction, &poor.pubkey()), -i64::try_from(FEE).expect("small"));
        let slot = transaction["slot"].as_u64().expect("a slot");
        assert_eq!(node.block(slot).await["transactions"][0]["meta"]["err"], status["err"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_transaction_waits_for_150_blocks() {
    let node = Solnode::manual().await;
    let to = shop();
    let sign = async |lamports| node.sign(&node.draft().sol(&to, lamports)).await;
    let [early, late, never] = [sign(SOL).await, sign(2 * SOL).await, sign(4 * SOL).await];
    assert_eq!(node.send_raw(&early).await.as_ref(), Ok(&early.signature));
    assert!(node.send_raw(&early).await.is_err(), "it is known");
    let last = late.last_valid_block_height.expect("no nonce");
    // The next block is the last but one that could hold it.
    node.slot(last - 2 - node.height().await).await;
    landed(&node, &node.send_raw(&late).await.expect("it is good")).await;
    assert!(node.send_raw(&never).await.is_err());
    assert_eq!(node.send_raw_unchecked(&never).await.as_ref(), Ok(&never.signature));
    node.slot(2).await;
    assert_eq!(
        (node.status(&never.signature).await, node.transaction(&never.signature).await),
        (Value::Null, Value::Null)
    );
    assert_eq!(node.balance(&to).await, 3 * SOL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_keeps_a_transaction_good_until_it_is_advanced() {
    let node = Solnode::manual().await;
    let nonce = node.nonce_account().await;
    let to = shop();
    node.slot(1).await;
    let patient = node.sign(&node.draft().sol(&to, SOL).with_nonce(&nonce)).await;
    assert_eq!(patient.last_valid_block_height, None);
    node.slot(320).await;
    landed(&node, &node.send_raw(&patient).await.expect("it is good")).await;
    let overtaken = node.sign(&node.draft().sol(&to, 2 * SOL).with_nonce(&nonce)).await;
    node.advance_nonce(&nonce).await;
    node.slot(1).await;
    assert!(node.send_raw(&overtaken).await.is_err());
    node.send_raw_unchecked(&overtaken).await.expect("it is taken");
    node.slot(1).await;
    assert_eq!(node.status(&overtaken.signature).await, Value::Null);
    assert_eq!(node.balance(&to).await, SOL);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_versions_of_transactions_land() {
    let node = Solnode::manual().await;
    let mint = node.mint(6).await;
    let to = shop();
    let table = node.table(&[to, mint.account(&to), mint.address]).await;
    let loaded = landed(&node, &node.send(node.draft().sol(&to, SOL).token(&mint, &to, 3).loading(&table)).await).await;
    assert_eq!(loaded["version"], 0);
    let message = &loaded["transaction"]["message"];
    assert!(
        !message["accountKeys"].as_array().expect("keys").contains(&json!(to.to_string())),
        "it is loaded: {message}"
    );
    assert_eq!((received(&loaded, &to), received_tokens(&loaded, &mint, &to)), (1_000_000_000, 3));
    let newest = landed(&node, &node.send(node.draft().sol(&to, SOL).token(&mint, &to, 3).v1()).await).await;
    assert_eq!(newest["version"], 1);
    assert_eq!((received(&newest, &to), received_tokens(&newest, &mint, &to)), (1_000_000_000, 3));
    for (ceiling, readable) in [(0, false), (1, true)] {
        let config = json!({
            "encoding": "json", "transactionDetails": "accounts", "maxSupportedTransactionVersion": ceiling,
            "commitment": "confirmed",
        });
        let block = node.try_call("getBlock", json!([newest["slot"], config])).await;
        assert_eq!(block.is_ok(), readable, "{block:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_can_make_the_transfer() {
    let node = Solnode::manual().await;
    let (outer, inner) = (node.mint(6).await, node.mint(6).await);
    let owner = Keypair::new();
    let middle = outer.account(&owner.pubkey());
    let draft = node.draft().associated(&outer, &owner.pubkey()).token(&inner, &middle, 8);
    node.send(draft.associated(&inner, &owner.pubkey())).await;
    let transaction = landed(&node, &node.send(node.draft().then_from(&owner).recover(&outer, &inner)).await).await;
    assert_eq!(received_tokens(&transaction, &inner, &owner.pubkey()), 8);
    let instructions = transaction["transaction"]["message"]["instructions"].as_array().expect("instructions");
    assert_eq!(instructions.len(), 2, "one beside the compute budget's");
    assert_eq!(transaction["meta"]["innerInstructions"][0]["index"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payee_can_pay_the_fee() {
    let node = Solnode::manual().await;
    let payee = Keypair::new();
    node.pay(&payee.pubkey(), SOL).await;
    node.slot(1).await;
    let draft = Draft::by(&payee).then_from(&node.payer).sol(&payee.pubkey(), SOL);
    let transaction = landed(&node, &node.send(draft).await).await;
    // It signs, and so does the payer.
    let fee = 2 * i64::try_from(FEE).expect("small");
    assert_eq!(transaction["meta"]["fee"], fee);
    assert_eq!(received(&transaction, &payee.pubkey()), 1_000_000_000 - fee);
    let itself = landed(&node, &node.send(Draft::by(&payee).sol(&payee.pubkey(), SOL)).await).await;
    assert_eq!(received(&itself, &payee.pubkey()), -fee / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_takes_payments_with_it() {
    let node = Solnode::manual().await;
    let to = shop();
    let kept = node.pay(&to, SOL).await;
    node.slot(1).await;
    node.mark().await;
    let fork = node.open_slot().await;
    let moved = node.sign(&node.draft().sol(&to, 2 * SOL)).await;
    node.send_raw(&moved).await.expect("it is good");
    let gone = node.pay(&to, 4 * SOL).await;
    node.slot(3).await;
    let old = [node.block(fork - 1).await, node.block(fork).await, node.block(fork + 1).await];
    for signature in [&kept, &moved.signature, &gone] {
        assert_eq!(node.status(signature).await["err"], Value::Null);
        assert_ne!(node.status(signature).await, Value::Null);
    }
    node.back().await;
    assert_eq!(node.open_slot().await, fork);
    node.slot(1).await;
    node.send_raw(&moved).await.expect("it is good again");
    node.slot(4).await;
    let new = [node.block(fork - 1).await, node.block(fork).await, node.block(fork + 1).await];
    assert_eq!(new[0], old[0], "what both branches share");
    assert_eq!(new[1]["previousBlockhash"], old[0]["blockhash"]);
    assert_eq!(new[2]["previousBlockhash"], new[1]["blockhash"]);
    assert_ne!(new[1]["blockhash"], old[1]["blockhash"]);
    assert_ne!(new[2]["blockhash"], old[2]["blockhash"]);
    assert_eq!(node.status(&moved.signature).await["slot"], fork + 1);
    assert_eq!(node.status(&gone).await, Value::Null);
    assert_eq!((node.status(&kept).await["slot"].as_u64(), node.balance(&to).await), (Some(fork - 1), 3 * SOL));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_stand_beside_each_other() {
    let (one, other) = tokio::join!(Solnode::manual(), Solnode::start());
    assert!(one.network().starts_with("solana:") && one.network().len() == 39, "{}", one.network());
    one.slot(40).await;
    let signature = one.pay(&shop(), SOL).await;
    landed(&one, &signature).await;
    assert_eq!(other.status(&signature).await, Value::Null);
}
