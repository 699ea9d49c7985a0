//! Forks, several nodes, and what goes wrong over HTTP.

use serde_json::{Value, json};

use crate::agave::Agave;
use crate::agave::account::{SYSTEM, key};
use crate::agave::faults::Fail;
use crate::{QUIET, answer, at, call, code, detail, post, reading, slots, status};

#[tokio::test]
async fn a_fork_drops_what_was_above_it() {
    let node = Agave::start().await;
    let (payer, shop) = (key("payer"), key("shop"));
    node.produce(3);
    let tx = node.tx(&payer).sol(&payer, &shop, 5);
    let signature = node.land(tx.clone());
    node.produce(2);
    let dropped = call(&node, "getBlock", json!([4, detail("none")])).await;
    let left = node.fork_at(3);
    assert_eq!(slots(&node).await, [3, 2, 0]);
    assert_eq!(status(&node, &signature).await, Value::Null);
    {
        let mut chain = node.chain();
        chain.produce(1);
        chain.land(tx);
        chain.produce(1);
    }
    let block = call(&node, "getBlock", json!([4, detail("none")])).await;
    assert_ne!(block["blockhash"], dropped["blockhash"]);
    assert_eq!(block["previousBlockhash"], dropped["previousBlockhash"]);
    assert_eq!(status(&node, &signature).await["slot"], 5, "the same one, elsewhere");
    let tx = call(&node, "getTransaction", json!([signature, reading()])).await;
    assert_eq!(tx["meta"]["postBalances"][1], 5, "paid once");
    node.answer_from("getSignatureStatuses", left);
    assert_eq!(status(&node, &signature).await["slot"], 4, "as of the fork");
    node.answer_truly("getSignatureStatuses");
    assert_eq!(status(&node, &signature).await["slot"], 5);
}

#[tokio::test]
async fn nodes_share_a_chain_or_have_their_own() {
    let node = Agave::start().await;
    node.produce(5);
    let other = node.beside().await;
    let strange = Agave::over(node.branch()).await;
    let signature = node.pay_sol(&key("payer"), &key("shop"), 5);
    strange.produce(1);
    assert_eq!(slots(&other).await, [6, 5, 0]);
    assert_eq!(status(&other, &signature).await["slot"], 6);
    assert_eq!(status(&strange, &signature).await, Value::Null);
    assert_ne!(strange.chain().blockhash(), node.chain().blockhash());
    assert_ne!(strange.tx("payer").signature, node.tx("payer").signature);
    other.levels(0, 0);
    assert_eq!(slots(&other).await, [6, 6, 6]);
    assert_eq!(slots(&node).await, [6, 5, 0], "faults are of one node");
}

#[tokio::test]
async fn a_node_lags_and_stalls() {
    let node = Agave::start().await;
    node.produce(10);
    let signature = node.pay_sol(&key("payer"), &key("shop"), 5);
    node.lag(4);
    assert_eq!(slots(&node).await, [7, 6, 0]);
    assert_eq!(status(&node, &signature).await, Value::Null);
    node.lag(0);
    node.lag_on("getSlot", 2);
    assert_eq!(slots(&node).await, [9, 8, 0]);
    assert_eq!(status(&node, &signature).await["slot"], 11);
    node.recover();
    node.lag_every_second(5);
    assert_eq!(slots(&node).await, [6, 10, 0]);
    node.recover();
    node.stall();
    node.produce(5);
    assert_eq!(slots(&node).await, [11, 10, 0]);
    assert_eq!(code(&node, "getBlock", json!([13, reading()])).await, -32004);
    node.resume();
    assert_eq!(slots(&node).await, [16, 15, 0]);
}

#[tokio::test]
async fn what_is_there_is_withheld() {
    let node = Agave::start().await;
    let signature = node.pay_sol(&key("payer"), &key("shop"), 5);
    node.produce(5);
    for known in [-32004, -32007, -32009, -32014, -32001] {
        node.withhold(1, Some(known));
        assert_eq!(code(&node, "getBlock", json!([1, reading()])).await, known);
    }
    node.withhold(1, None);
    assert_eq!(call(&node, "getBlock", json!([1, reading()])).await, Value::Null);
    node.give(1);
    assert!(call(&node, "getBlock", json!([1, reading()])).await.is_object());
    node.omit(2);
    assert_eq!(call(&node, "getBlocks", json!([1, 4, at("confirmed")])).await, json!([1, 3, 4]));
    node.list(2);
    assert_eq!(call(&node, "getBlocks", json!([1, 4, at("confirmed")])).await, json!([1, 2, 3, 4]));
    node.hide_transaction(&signature);
    assert_eq!(call(&node, "getTransaction", json!([signature, reading()])).await, Value::Null);
    assert_eq!(status(&node, &signature).await["slot"], 1);
    node.hide_status(&signature);
    assert_eq!(status(&node, &signature).await, Value::Null);
    node.show(&signature);
    assert_eq!(status(&node, &signature).await["slot"], 1);
    assert!(call(&node, "getTransaction", json!([signature, reading()])).await.is_object());
    node.falsify("getBlock", |params, block| {
        if params[0] == 3 {
            block["previousBlockhash"] = json!(SYSTEM);
        }
    });
    assert_eq!(call(&node, "getBlock", json!([3, reading()])).await["previousBlockhash"], SYSTEM);
    assert_ne!(call(&node, "getBlock", json!([2, reading()])).await["previousBlockhash"], SYSTEM);
    node.honest("getBlock");
    assert_ne!(call(&node, "getBlock", json!([3, reading()])).await["previousBlockhash"], SYSTEM);
}

#[tokio::test]
async fn requests_fail_as_they_are_told_to() {
    let node = Agave::start().await;
    let health = json!({ "jsonrpc": "2.0", "id": 1, "method": "getHealth" });
    node.fail_next(1, Fail::Limited(Some(3)));
    let limited = post(&node, &health).await;
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"3".parse().expect("a value")));
    assert_eq!(call(&node, "getHealth", json!([])).await, "ok", "once");
    node.fail(Fail::Limited(None));
    for _ in 0..3 {
        let limited = post(&node, &health).await;
        assert!(limited.status() == 429 && limited.headers().get("retry-after").is_none());
    }
    node.succeed();
    node.fail_on("getHealth", Fail::Status(503));
    assert_eq!(post(&node, &health).await.status(), 503);
    assert_eq!(call(&node, "getSlot", json!([])).await, 0);
    node.succeed();
    node.fail_next(1, Fail::Html(200));
    let page = post(&node, &health).await;
    assert!(page.status() == 200 && page.text().await.expect("a body").starts_with("<html>"));
    node.fail_next(1, Fail::Truncated);
    let half = post(&node, &health).await.text().await.expect("a body");
    assert!(half.starts_with('{') && serde_json::from_str::<Value>(&half).is_err());
    node.fail_next(1, Fail::Behind(5_000));
    let behind = answer(&node, "getHealth", json!([])).await;
    assert_eq!(behind["error"]["data"]["numSlotsBehind"], 5_000);
    assert_eq!(behind["error"]["code"], -32005);
    node.fail_on("getTransaction", Fail::Rpc(-32011, "Transaction history is not available from this node"));
    assert_eq!(code(&node, "getTransaction", json!([])).await, -32011);
    node.fail(Fail::Silence);
    assert!(tokio::time::timeout(QUIET, post(&node, &health)).await.is_err());
}

#[tokio::test]
async fn calls_are_counted() {
    let node = Agave::start().await;
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "getBlock", "params": [0] },
        { "jsonrpc": "2.0", "id": 2, "method": "getBlock", "params": [0, detail("accounts")] },
        { "jsonrpc": "2.0", "id": 3, "method": "getSignatureStatuses", "params": [["1", "2"]] },
    ]);
    post(&node, &batch).await;
    call(&node, "getSlot", json!([])).await;
    node.fail(Fail::Status(503));
    post(&node, &batch).await;
    assert_eq!(node.requests(), 3);
    let calls = node.calls();
    assert_eq!((calls["getBlock"], calls["getSlot"]), (4, 1), "also those that failed");
    assert_eq!(node.blocks_asked().into_iter().collect::<Vec<_>>(), [("accounts".into(), 2), ("full".into(), 2)]);
    assert_eq!(node.signatures_asked(), [2, 2]);
    let (waited, _) = tokio::join!(node.called("getSlot", 2), async {
        for _ in 0..2 {
            post(&node, &json!({ "jsonrpc": "2.0", "id": 1, "method": "getSlot" })).await;
        }
    });
    assert_eq!(waited, 3, "in all");
}
