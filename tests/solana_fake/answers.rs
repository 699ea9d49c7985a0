//! True answers, in the shapes of Agave.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::agave::account::{ATA, Account, MEMO, Mint, RENT, SYSTEM, TOKEN, TOKEN_2022, ata, key};
use crate::agave::faults::Level;
use crate::agave::tx::Tx;
use crate::agave::{Agave, CACHE};
use crate::{answer, at, call, code, detail, post, read, reading, slots, status};

#[tokio::test]
async fn slots_heights_and_levels_follow_the_chain() {
    let node = Agave::start().await;
    assert_eq!(slots(&node).await, [0, 0, 0]);
    assert_eq!(node.produce(40), 40);
    node.skip(3);
    assert_eq!(slots(&node).await, [40, 39, 9], "a skipped slot is no tip");
    node.produce(1);
    assert_eq!(slots(&node).await, [44, 40, 13], "nor is it confirmed");
    assert_eq!(call(&node, "getBlockHeight", json!([at("processed")])).await, 41);
    assert_eq!(call(&node, "getSlot", json!([])).await, 13, "finalized unless said otherwise");
    node.levels(0, 0);
    assert_eq!(slots(&node).await, [44, 44, 44]);
    node.levels(1, 31);
    node.hold(Level::Finalized);
    node.produce(5);
    assert_eq!(slots(&node).await, [49, 48, 13]);
    node.let_go(Level::Finalized);
    node.hold(Level::Confirmed);
    node.produce(60);
    assert_eq!(slots(&node).await, [109, 48, 48], "finalized is confirmed too");
    node.hold(Level::Processed);
    node.produce(1);
    assert_eq!(slots(&node).await, [109, 48, 48]);
    let refused = answer(&node, "getSlot", json!([{ "minContextSlot": 100 }])).await;
    assert_eq!(refused["error"]["code"], -32016);
    assert_eq!(refused["error"]["data"]["contextSlot"], 48);
}

#[tokio::test]
async fn small_answers() {
    let node = Agave::start().await;
    node.chain().time(Some(1_700_000_000));
    node.produce(40);
    let hash = node.chain().blockhash();
    let latest = call(&node, "getLatestBlockhash", json!([at("processed")])).await;
    assert_eq!(latest["value"], json!({ "blockhash": hash, "lastValidBlockHeight": 190 }));
    assert_eq!(latest["context"]["slot"], 40);
    let epoch = call(&node, "getEpochInfo", json!([at("confirmed")])).await;
    assert_eq!(epoch["absoluteSlot"], 39);
    assert_eq!(epoch["slotIndex"], 39);
    assert_eq!(call(&node, "getBlockTime", json!([40])).await, 1_700_000_000);
    assert_eq!(code(&node, "getBlockTime", json!([41])).await, -32004);
    assert_eq!(call(&node, "getHealth", json!([])).await, "ok");
    assert_eq!(call(&node, "getVersion", json!([])).await["solana-core"], "4.2.2");
    assert_eq!(call(&node, "getFirstAvailableBlock", json!([])).await, 0);
    let genesis = call(&node, "getGenesisHash", json!([])).await;
    assert_eq!(genesis, call(&node, "getBlock", json!([0])).await["blockhash"]);
    node.genesis(Some(SYSTEM));
    assert_eq!(call(&node, "getGenesisHash", json!([])).await, SYSTEM);
    assert_eq!(code(&node, "getNothing", json!([])).await, -32601);
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "getHealth" },
        { "jsonrpc": "2.0", "id": 2, "method": "getSlot", "params": [at("processed")] },
    ]);
    let answers = read(post(&node, &batch).await).await;
    assert_eq!(answers[0]["id"], 1);
    assert_eq!(answers[1]["result"], 40);
    for nonsense in [json!([]), json!("nonsense")] {
        assert_eq!(read(post(&node, &nonsense).await).await["error"]["code"], -32600);
    }
    assert_eq!(post(&node, &json!(vec!["much"; 10_000])).await.status(), 413);
}

#[tokio::test]
async fn blocks_are_linked_and_slots_are_skipped() {
    let node = Agave::start().await;
    node.produce(2);
    node.skip(2);
    let slot = node.produce(1);
    let blocks = |config: Value| json!([0, 100, config]);
    assert_eq!(call(&node, "getBlocks", blocks(at("confirmed"))).await, json!([0, 1, 2]));
    node.produce(1);
    assert_eq!(call(&node, "getBlocks", blocks(at("confirmed"))).await, json!([0, 1, 2, 5]));
    assert_eq!(call(&node, "getBlocks", json!([2])).await, json!([]), "of what is finalized");
    assert_eq!(code(&node, "getBlocks", json!([0, 10, at("processed")])).await, -32602);
    let block = call(&node, "getBlock", json!([slot, detail("none")])).await;
    let parent = call(&node, "getBlock", json!([2, detail("none")])).await;
    assert_eq!(block["parentSlot"], 2);
    assert_eq!(block["previousBlockhash"], parent["blockhash"]);
    assert_eq!(block["blockHeight"], 3);
    assert!(block["transactions"].is_null() && block["signatures"].is_null() && block["rewards"].is_null());
    assert_eq!(
        code(&node, "getBlock", json!([3, reading()])).await,
        -32004,
        "not said to be skipped before it is final"
    );
    assert_eq!(code(&node, "getBlock", json!([6, reading()])).await, -32004, "not confirmed");
    assert_eq!(code(&node, "getBlock", json!([slot])).await, -32004, "not finalized");
    node.produce(40);
    assert_eq!(code(&node, "getBlock", json!([3, reading()])).await, -32007);
    assert_eq!(call(&node, "getBlock", json!([slot])).await["rewards"], json!([]));
    node.prune_below(5);
    assert_eq!(code(&node, "getBlock", json!([2])).await, -32001);
    assert_eq!(call(&node, "getFirstAvailableBlock", json!([])).await, 5);
    assert_eq!(call(&node, "getBlocks", json!([0, 7])).await, json!([5, 6, 7]));
}

#[tokio::test]
async fn a_payment_in_sol_is_told_alike_everywhere() {
    let node = Agave::start().await;
    let (payer, shop) = (key("payer"), key("shop"));
    node.produce(1);
    let signature = node.pay_sol(&payer, &shop, 100);
    assert_eq!(bs58::decode(&signature).into_vec().expect("base58").len(), 64);
    assert_eq!(node.landed(&signature), Some(2));
    let seen = status(&node, &signature).await;
    assert_eq!(seen["confirmationStatus"], "processed");
    assert_eq!(seen["confirmations"], 0);
    let asked = json!([signature, reading()]);
    assert_eq!(call(&node, "getTransaction", asked.clone()).await, Value::Null, "not confirmed");
    node.produce(1);
    assert_eq!(status(&node, &signature).await["confirmationStatus"], "confirmed");
    let tx = call(&node, "getTransaction", asked.clone()).await;
    assert_eq!(tx["slot"], 2);
    assert_eq!(tx["transactionIndex"], 0);
    assert_eq!(tx["version"], "legacy");
    assert_eq!(tx["transaction"]["signatures"], json!([signature]));
    let message = &tx["transaction"]["message"];
    assert_eq!(message["accountKeys"], json!([payer, shop, SYSTEM]));
    assert_eq!(message["header"]["numRequiredSignatures"], 1);
    assert_eq!(message["header"]["numReadonlyUnsignedAccounts"], 1);
    assert_eq!(message["instructions"][0]["programIdIndex"], 2);
    let meta = &tx["meta"];
    assert_eq!(meta["preBalances"], json!([1_000_005_100_u64, 0, 0]));
    assert_eq!(meta["postBalances"], json!([1_000_000_000, 100, 0]));
    assert_eq!((&meta["fee"], &meta["err"]), (&json!(5000), &Value::Null));
    assert_eq!(meta["status"], json!({ "Ok": null }));
    assert_eq!(meta["preTokenBalances"], json!([]));
    let full = call(&node, "getBlock", json!([2, detail("full")])).await["transactions"][0].clone();
    assert_eq!((&full["meta"], &full["transaction"]), (meta, &tx["transaction"]));
    let accounts = call(&node, "getBlock", json!([2, detail("accounts")])).await["transactions"][0].clone();
    assert_eq!(accounts["meta"]["postBalances"], meta["postBalances"]);
    assert!(accounts["meta"]["innerInstructions"].is_null() && accounts["transaction"]["message"].is_null());
    assert_eq!(
        accounts["transaction"]["accountKeys"][1],
        json!({ "pubkey": shop, "signer": false, "source": "transaction", "writable": true })
    );
    let signatures = call(&node, "getBlock", json!([2, detail("signatures")])).await["signatures"].clone();
    assert_eq!(signatures, json!([signature]));
    assert_eq!(call(&node, "getTransaction", json!([signature])).await, Value::Null, "not finalized");
    node.produce(40);
    let last = status(&node, &signature).await;
    assert_eq!(last["confirmationStatus"], "finalized");
    assert_eq!(last["confirmations"], Value::Null);
    assert_eq!(last["slot"], 2);
    assert!(call(&node, "getTransaction", json!([signature])).await["version"].is_null(), "as clients of old expect");
    let balance = call(&node, "getAccountInfo", json!([shop])).await;
    assert_eq!((&balance["value"]["lamports"], &balance["context"]["slot"]), (&json!(100), &json!(12)));
}

#[test]
fn associated_accounts_are_where_the_program_derives_them() {
    let mint =
        |address: &str, program: &str| Mint { address: address.into(), program: program.into(), ..Mint::token("") };
    let usdc = mint("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", TOKEN);
    let owner = "9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM";
    // With a bump of 254, and one of 255.
    assert_eq!(ata(owner, &usdc), "FGETo8T8wMcN2wCjav8VK6eh3dLk63evNDPxzLSJra8B");
    let pyusd = mint("2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo", TOKEN_2022);
    assert_eq!(ata(owner, &pyusd), "897krAvWH3RbymaCYE3o9emopUwocieHuKTUk9nySpq6");
}

#[tokio::test]
async fn tokens_have_accounts_balances_and_fees() {
    let node = Agave::start().await;
    node.levels(0, 0);
    let (payer, shop) = (key("payer"), key("shop"));
    let (coin, taxed) = (Mint::token("coin"), Mint::token_2022("taxed", 100));
    let first = node.pay_token(&coin, &payer, &shop, 1_500_000);
    let tx = call(&node, "getTransaction", json!([first, reading()])).await;
    let keys = tx["transaction"]["message"]["accountKeys"].as_array().expect("keys").clone();
    for present in [&ata(&payer, &coin), &ata(&shop, &coin), &coin.address, &shop, TOKEN, ATA] {
        assert!(keys.contains(&json!(present)), "{present}");
    }
    let place = |account: &str| keys.iter().position(|key| key == account).expect("a key");
    assert_eq!(tx["meta"]["preTokenBalances"].as_array().map(Vec::len), Some(1), "none of who had no account");
    let after = tx["meta"]["postTokenBalances"][1].clone();
    let amount = json!({ "amount": "1500000", "decimals": 6, "uiAmount": 1.5, "uiAmountString": "1.5" });
    let index = place(&ata(&shop, &coin));
    assert_eq!(
        after,
        json!({ "accountIndex": index, "mint": coin.address, "owner": shop, "programId": TOKEN, "uiTokenAmount": amount })
    );
    assert_eq!(tx["meta"]["postBalances"][index], RENT, "which the payer paid for");
    let second = node.pay_token(&coin, &payer, &shop, 1);
    let tx = call(&node, "getTransaction", json!([second, reading()])).await;
    assert_eq!(tx["meta"]["preTokenBalances"][1]["uiTokenAmount"]["amount"], "1500000");
    let keys = tx["transaction"]["message"]["accountKeys"].as_array().expect("keys");
    assert!(!keys.contains(&json!(shop)), "an owner is no part of a transfer to an account that exists");
    let fee = node.pay_token(&taxed, &payer, &shop, 2_000_000);
    let tx = call(&node, "getTransaction", json!([fee, reading()])).await;
    assert_eq!(tx["meta"]["postTokenBalances"][1]["uiTokenAmount"]["amount"], "1980000");
    assert_eq!(tx["meta"]["postTokenBalances"][1]["programId"], TOKEN_2022);
    let of = |filter: Value| json!([shop, filter, { "encoding": "jsonParsed", "commitment": "confirmed" }]);
    let held = call(&node, "getTokenAccountsByOwner", of(json!({ "mint": coin.address }))).await;
    assert_eq!(held["value"][0]["pubkey"], ata(&shop, &coin));
    let info = &held["value"][0]["account"]["data"]["parsed"]["info"];
    assert_eq!((&info["tokenAmount"]["amount"], &info["owner"]), (&json!("1500001"), &json!(shop)));
    let held = call(&node, "getTokenAccountsByOwner", of(json!({ "programId": TOKEN_2022 }))).await;
    assert_eq!(held["value"].as_array().map(Vec::len), Some(1));
    let raw = call(&node, "getAccountInfo", json!([ata(&shop, &coin), { "encoding": "base64" }])).await;
    let data = BASE64_STANDARD.decode(raw["value"]["data"][0].as_str().expect("data")).expect("base64");
    assert_eq!((data.len(), data[108]), (165, 1));
    assert_eq!(data[64..72], 1_500_001_u64.to_le_bytes());
}

#[tokio::test]
async fn odd_transactions_are_described() {
    let node = Agave::start().await;
    node.levels(0, 0);
    let (payer, shop, coin) = (key("payer"), key("shop"), Mint::token("coin"));
    let err = json!({ "InstructionError": [0, { "Custom": 1 }] });
    let tx = |tx: Tx| {
        let signature = node.land(tx);
        let node = &node;
        async move { call(node, "getTransaction", json!([signature, reading()])).await }
    };
    let failed = tx(node.tx(&payer).sol(&payer, &shop, 9).fails(err.clone())).await;
    assert_eq!(failed["meta"]["err"], err);
    assert_eq!(failed["meta"]["status"], json!({ "Err": err }));
    assert_eq!(failed["meta"]["postBalances"][1], 0, "it moves nothing");
    let forged = tx(node.tx(&payer).sol(&payer, &shop, 9).forged(err.clone())).await;
    assert_eq!((&forged["meta"]["err"], &forged["meta"]["postBalances"][1]), (&err, &json!(9)));
    let huge = tx(node.tx(&payer).amounts(&coin, &shop, None, Some(u64::MAX))).await;
    let amount = &huge["meta"]["postTokenBalances"][0]["uiTokenAmount"];
    assert_eq!(
        (&amount["amount"], &amount["uiAmountString"]),
        (&json!("18446744073709551615"), &json!("18446744073709.551615"))
    );
    let closed = tx(node.tx(&payer).amounts(&coin, &shop, Some(5), None)).await;
    assert_eq!(closed["meta"]["postTokenBalances"], json!([]));
    let ownerless = tx(node.tx(&payer).token(&coin, &payer, &shop, 5).ownerless()).await;
    assert!(ownerless["meta"]["postTokenBalances"][1]["owner"].is_null());
    let unrecorded = tx(node.tx(&payer).token(&coin, &payer, &shop, 5).unrecorded()).await;
    assert!(unrecorded["meta"]["postTokenBalances"].is_null() && unrecorded["meta"]["innerInstructions"].is_null());
    let given = tx(node.tx(&payer).lamports(&shop, 3, 1)).await;
    assert_eq!((&given["meta"]["preBalances"][1], &given["meta"]["postBalances"][1]), (&json!(3), &json!(1)));
    let memo = tx(node.tx(&payer).sol(&payer, &shop, 1).memo("order 1").inner_memo("inside")).await;
    let keys = memo["transaction"]["message"]["accountKeys"].as_array().expect("keys");
    let program = keys.iter().position(|key| key == MEMO);
    let instruction = &memo["transaction"]["message"]["instructions"][1];
    assert_eq!(instruction["programIdIndex"], json!(program));
    assert_eq!(bs58::decode(instruction["data"].as_str().expect("data")).into_vec().expect("base58"), b"order 1");
    let inner = &memo["meta"]["innerInstructions"][0]["instructions"][0];
    assert_eq!((&inner["programIdIndex"], &inner["stackHeight"]), (&json!(program), &json!(2)));
    let both = tx(node.tx(&payer).sol(&payer, &shop, 1).sol(&payer, &shop, 2).signed_by(&shop)).await;
    assert_eq!(both["transaction"]["signatures"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn versions_above_the_ceiling_are_refused() {
    let node = Agave::start().await;
    node.levels(0, 0);
    let (payer, shop) = (key("payer"), key("shop"));
    let loaded = node.tx(&payer).sol(&payer, &shop, 7).load(&shop);
    let zero = loaded.signature.clone();
    let one = node.tx(&payer).sol(&payer, &shop, 7).version(1);
    let unknown = node.tx(&payer).sol(&payer, &shop, 7).version(2);
    let (second, third) = (one.signature.clone(), unknown.signature.clone());
    let slot = node.block(vec![loaded, one]);
    let block = call(&node, "getBlock", json!([slot, detail("accounts")])).await;
    let keys = block["transactions"][0]["transaction"]["accountKeys"].clone();
    let from_table = json!({ "pubkey": shop, "signer": false, "source": "lookupTable", "writable": true });
    assert_eq!(keys[2], from_table, "after the others");
    let tx = call(&node, "getTransaction", json!([zero, reading()])).await;
    assert_eq!(tx["version"], 0);
    assert_eq!(tx["meta"]["loadedAddresses"], json!({ "readonly": [], "writable": [shop] }));
    assert_eq!(tx["meta"]["postBalances"], json!([1_000_000_000, 0, 7]), "loaded ones last");
    assert_eq!(tx["transaction"]["message"]["addressTableLookups"][0]["writableIndexes"], json!([0]));
    let tx = call(&node, "getTransaction", json!([second, reading()])).await;
    assert_eq!(tx["version"], 1);
    assert!(tx["transaction"]["message"]["transactionConfig"].is_object());
    let old = json!({ "maxSupportedTransactionVersion": 0, "transactionDetails": "accounts" });
    assert_eq!(code(&node, "getBlock", json!([slot, old])).await, -32015);
    assert_eq!(code(&node, "getTransaction", json!([zero])).await, -32015, "nothing but legacy unless said otherwise");
    let slot = node.block(vec![unknown]);
    for detail_with_bodies in ["accounts", "full"] {
        assert_eq!(code(&node, "getBlock", json!([slot, detail(detail_with_bodies)])).await, -32015);
    }
    assert_eq!(call(&node, "getBlock", json!([slot, detail("signatures")])).await["signatures"], json!([third]));
    assert_eq!(status(&node, &third).await["err"], Value::Null);
}

#[tokio::test]
async fn statuses_are_remembered_for_a_while() {
    let node = Agave::start().await;
    let signature = node.pay_sol(&key("payer"), &key("shop"), 1);
    node.produce(CACHE);
    assert_eq!(status(&node, &signature).await, Value::Null);
    let history = json!([[signature], { "searchTransactionHistory": true }]);
    let found = call(&node, "getSignatureStatuses", history.clone()).await;
    assert_eq!((&found["value"][0]["slot"], &found["context"]["slot"]), (&json!(1), &json!(301)));
    node.prune_below(2);
    assert_eq!(call(&node, "getSignatureStatuses", history).await["value"], json!([null]));
    let many = vec![signature.clone(); 257];
    assert_eq!(code(&node, "getSignatureStatuses", json!([many])).await, -32602);
    assert_eq!(code(&node, "getSignatureStatuses", json!([[signature, "1111"]])).await, -32602);
    assert_eq!(
        call(&node, "getSignatureStatuses", json!([many[..256]])).await["value"].as_array().map(Vec::len),
        Some(256)
    );
}

#[tokio::test]
async fn signatures_of_an_address_come_in_pages() {
    let node = Agave::start().await;
    let (payer, shop) = (key("payer"), key("shop"));
    let reference = key("reference");
    let pay = |n: u64| node.tx(&payer).sol(&payer, &shop, n);
    let txs = vec![pay(1).memo("a").memo("b"), pay(2).load(&shop), pay(3).reference(&reference)];
    let mut all: Vec<_> = txs.iter().map(|tx| tx.signature.clone()).collect();
    node.block(txs);
    all.push(node.pay_sol(&payer, &shop, 4));
    node.produce(1);
    all.reverse();
    let listed = |config: Value| {
        let (node, shop) = (&node, &shop);
        async move {
            let mut config = config;
            config["commitment"] = json!("confirmed");
            call(node, "getSignaturesForAddress", json!([shop, config])).await
        }
    };
    let names = |list: &Value| -> Vec<String> {
        list.as_array().expect("a list").iter().map(|one| one["signature"].as_str().expect("text").into()).collect()
    };
    let whole = listed(json!({})).await;
    assert_eq!(names(&whole), all);
    assert_eq!((&whole[3]["memo"], &whole[3]["transactionIndex"]), (&json!("[1] a; [1] b"), &json!(0)));
    assert_eq!(names(&listed(json!({ "limit": 2, "before": all[0] })).await), all[1..3]);
    assert_eq!(names(&listed(json!({ "until": all[2] })).await), all[..2]);
    let of = call(&node, "getSignaturesForAddress", json!([reference, at("confirmed")])).await;
    assert_eq!(names(&of), all[1..2]);
    let strange = node.tx(&payer).signature;
    for bound in ["until", "before"] {
        let config = json!({ bound: strange, "commitment": "confirmed" });
        assert_eq!(code(&node, "getSignaturesForAddress", json!([shop, config])).await, -32020);
    }
    assert_eq!(code(&node, "getSignaturesForAddress", json!([shop, { "limit": 1001 }])).await, -32602);
    assert_eq!(call(&node, "getSignaturesForAddress", json!([shop])).await, json!([]), "of what is finalized");
}

#[tokio::test]
async fn nonces_and_other_accounts_are_read() {
    let node = Agave::start().await;
    node.levels(0, 0);
    let (payer, shop, account) = (key("payer"), key("shop"), key("nonce"));
    let mint = Mint::token("coin");
    node.put(&mint.address, Account::Mint(mint.clone()));
    let first = node.nonce(&account, &payer);
    let get = |encoding: &'static str| {
        let params = json!([[account, mint.address, shop], { "encoding": encoding }]);
        let node = &node;
        async move { call(node, "getMultipleAccounts", params).await["value"].clone() }
    };
    let parsed = get("jsonParsed").await;
    let info = &parsed[0]["data"]["parsed"]["info"];
    assert_eq!((&info["blockhash"], &info["authority"]), (&json!(first), &json!(payer)));
    assert_eq!(parsed[1]["data"]["parsed"]["info"]["decimals"], 6);
    assert_eq!(parsed[2], Value::Null);
    let raw = get("base64").await;
    let data = BASE64_STANDARD.decode(raw[0]["data"][0].as_str().expect("data")).expect("base64");
    assert_eq!((data.len(), &data[..8]), (80, &[1, 0, 0, 0, 1, 0, 0, 0][..]));
    assert_eq!(bs58::encode(&data[40..72]).into_string(), first);
    node.produce(200);
    let signature = node.land(node.tx(&payer).sol(&payer, &shop, 1).nonced(&account));
    let tx = call(&node, "getTransaction", json!([signature, reading()])).await;
    assert_eq!(tx["transaction"]["message"]["recentBlockhash"], first);
    let second = get("jsonParsed").await[0]["data"]["parsed"]["info"]["blockhash"].clone();
    assert_ne!(second, first, "it was advanced");
    node.fork_at(200);
    assert_eq!(get("jsonParsed").await[0]["data"]["parsed"]["info"]["blockhash"], first);
    node.produce(1);
    assert_ne!(node.nonce(&account, &payer), first, "advanced elsewhere");
}
