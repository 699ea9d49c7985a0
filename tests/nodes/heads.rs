//! Heads that a WebSocket announces: what is asked for with them is a guess, and nothing is believed that only a hint says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::BINARY;
use crate::support::anvil::{Anvil, shop};
use crate::support::client::{Client, address, spec, tx, with};
use crate::support::proxy::{Proxy, Reply};
use crate::support::service::{Service, Setup};

/// A WebSocket that announces what it is told to.
struct Announcer {
    port: u16,
    heads: broadcast::Sender<Value>,
    task: JoinHandle<()>,
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Announcer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (heads, _) = broadcast::channel(64);
        let announced = heads.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut announced = announced.subscribe();
                tokio::spawn(async move {
                    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                    loop {
                        let said = tokio::select! {
                            asked = socket.next() => {
                                let Some(Ok(asked)) = asked else { return };
                                let Ok(asked) = serde_json::from_str::<Value>(asked.to_text().unwrap_or("")) else { continue };
                                let id = if asked["params"][0] == "newHeads" { "0x1" } else { "0x2" };
                                json!({ "jsonrpc": "2.0", "id": asked["id"], "result": id })
                            }
                            head = announced.recv() => {
                                let Ok(head) = head else { return };
                                let params = json!({ "subscription": "0x1", "result": head });
                                json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": params })
                            }
                        };
                        if socket.send(Message::text(said.to_string())).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, heads, task }
    }

    fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    fn announce(&self, head: Value) {
        // Nobody may be connected just now.
        let _ = self.heads.send(head);
    }
}

/// A node behind a proxy, and heads announced at this URL, or by the node itself.
async fn announced(ws: Option<String>) -> (Anvil, Proxy, Service, Client) {
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let proxy = Proxy::before(&anvil.http()).await;
    let ws = ws.unwrap_or_else(|| anvil.ws());
    let endpoints = vec![("anvil".into(), proxy.http(), Some(ws))];
    let service = Service::start(BINARY, Setup { endpoints, ..Setup::default() }).await;
    let client = service.client().await;
    (anvil, proxy, service, client)
}

/// The n-th payments: in native coin and in a token, each to a watch on the transaction, which the mempool has, and to one on
/// the address.
async fn pay(anvil: &Anvil, client: &mut Client, token: &str, n: u64) -> Vec<String> {
    let mut ids = Vec::new();
    let shops = [4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3].map(shop);
    let in_token = |id: h402_watch_proto::v1::WatchSpec| with(id, |terms| terms.asset = token.into());
    ids.push(client.create(spec(address(), &shops[0], 7, 1)).await);
    ids.push(client.create(in_token(spec(address(), &shops[1], 7, 1))).await);
    anvil.pay(&shops[0], 7).await;
    anvil.pay_token(token, &shops[1], 7).await;
    let native = anvil.pay(&shops[2], 7).await;
    let paid = anvil.pay_token(token, &shops[3], 7).await;
    ids.push(client.create(spec(tx(&native), &shops[2], 7, 1)).await);
    ids.push(client.create(in_token(spec(tx(&paid), &shops[3], 7, 1))).await);
    for id in &ids[2..] {
        client.until(id, "seen").await;
    }
    ids
}

async fn settled(client: &mut Client, ids: &[String]) {
    for id in ids {
        client.until(id, "settled:success").await;
        assert_eq!(client.get(id).await.received, "7");
    }
}

/// Pays, mines and waits until all of it is settled.
async fn pay_and_settle(anvil: &Anvil, client: &mut Client, token: &str, n: u64) {
    let ids = pay(anvil, client, token, n).await;
    anvil.mine(1).await;
    settled(client, &ids).await;
}

/// Tip, receipts and traces travel in one request once the roots are known to match; nothing is asked for beside it while no
/// transaction is expected.
#[tokio::test]
async fn a_block_that_was_announced_costs_one_request() {
    const BLOCKS: u64 = 10;
    let anvil = Anvil::manual().await;
    let token = anvil.token("TestERC20").await;
    let proxy = Proxy::before(&anvil.http()).await;
    let endpoints = vec![("anvil".into(), proxy.http(), Some(anvil.ws()))];
    // A real chain's pace: polling beneath the WebSocket does not fire while heads are announced.
    let setup = Setup { endpoints, block_time_ms: 5_000, ..Setup::default() };
    let service = Service::start(BINARY, setup).await;
    let mut client = service.client().await;
    client.create(spec(address(), &shop(1_000), 7, 1)).await;
    // No transaction is expected any more after that, and no finality.
    for n in 0..6 {
        anvil.pay(&shop(2_000), 1).await;
        anvil.pay_token(&token, &shop(2_001), n + 1).await;
        anvil.mine(1).await;
        client.head(anvil.height().await).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = (proxy.requests(), proxy.calls());
    for _ in 0..BLOCKS {
        anvil.pay(&shop(2_000), 1).await;
        anvil.pay_token(&token, &shop(2_001), 1).await;
        anvil.mine(1).await;
        client.head(anvil.height().await).await;
    }
    let calls = |method: &str| proxy.calls()[method] - before.1[method];
    assert_eq!(["eth_getBlockByNumber", "eth_getBlockReceipts", "trace_block"].map(calls), [BLOCKS; 3]);
    assert_eq!(proxy.requests() - before.0, BLOCKS, "{:?}", proxy.calls());
}

/// A hint with another block's hash, a height that nobody has, or nothing that can be read: it wakes, and no more.
#[tokio::test]
async fn a_false_hint_changes_nothing() {
    let announcer = Announcer::start().await;
    let (anvil, _proxy, _service, mut client) = announced(Some(announcer.ws())).await;
    let token = anvil.token("TestERC20").await;
    client.head(anvil.height().await).await;
    let of_another_block = |block: &Value| json!({ "hash": block["parentHash"], "number": block["number"] });
    let of_no_block = |block: &Value| json!({ "hash": format!("0x{}", "77".repeat(32)), "number": block["number"] });
    let of_a_height_to_come = |block: &Value| json!({ "hash": block["hash"], "number": "0x1fffffffffffff" });
    let beyond_all_numbers = |block: &Value| json!({ "hash": block["hash"], "number": "0xffffffffffffffff" });
    let unreadable = |_: &Value| json!({ "hash": 7 });
    let true_one = |block: &Value| block.clone();
    let hints: [fn(&Value) -> Value; 7] =
        [true_one, of_another_block, of_no_block, of_a_height_to_come, beyond_all_numbers, unreadable, true_one];
    for (n, hint) in (0..).zip(hints) {
        let ids = pay(&anvil, &mut client, &token, n).await;
        anvil.mine(1).await;
        announcer.announce(hint(&anvil.block("latest").await));
        settled(&mut client, &ids).await;
    }
}

/// Where several nodes share a URL, one announces a block that another does not have yet: it is told once it is there.
#[tokio::test]
async fn a_head_that_is_announced_too_early_is_asked_for_again() {
    let announcer = Announcer::start().await;
    let (anvil, proxy, _service, mut client) = announced(Some(announcer.ws())).await;
    let token = anvil.token("TestERC20").await;
    client.head(anvil.height().await).await;
    for n in 0..3 {
        let ids = pay(&anvil, &mut client, &token, n).await;
        let behind = anvil.block("latest").await;
        let polls = Arc::new(AtomicU64::new(0));
        let asked = Arc::clone(&polls);
        proxy.behave(move |method, params, result| match method {
            "eth_getBlockByNumber" if params[0] == "latest" && asked.fetch_add(1, Ordering::SeqCst) < 2 => {
                Reply::Result(behind.clone())
            }
            "eth_getBlockReceipts" | "trace_block" if asked.load(Ordering::SeqCst) <= 2 => Reply::Result(Value::Null),
            "eth_getBlockByHash" if asked.load(Ordering::SeqCst) <= 2 => Reply::Result(Value::Null),
            _ => Reply::Result(result),
        });
        anvil.mine(1).await;
        announcer.announce(anvil.block("latest").await);
        settled(&mut client, &ids).await;
        assert!(polls.load(Ordering::SeqCst) > 2, "it was behind at first");
    }
}

/// A node that answers some of what is asked for at once, or none of it, or offers less than others: what is missing is asked for
/// by itself.
#[tokio::test]
async fn what_does_not_come_with_a_head_is_asked_for_by_itself() {
    type Rule = fn(&str, u64) -> bool;
    type Instead = fn() -> Reply;
    // Whether an answer is withheld: by its method, and how many such questions there were.
    let withheld: [(Rule, Instead); 6] = [
        (|method, n| method == "eth_getBlockReceipts" && n % 2 == 0, || Reply::Result(Value::Null)),
        (|method, n| method == "eth_getBlockReceipts" && n % 2 == 0, || Reply::Error(-32000, "header not found")),
        (|method, n| method == "eth_getBlockByHash" && n % 2 == 0, || Reply::Error(-32003, "response too large")),
        (|method, n| method == "trace_block" && n % 2 == 0, || Reply::Error(-32000, "missing trie node")),
        (|method, _| method == "trace_block", || Reply::Error(-32601, "the method trace_block does not exist")),
        (|method, _| method == "eth_getBlockReceipts", || Reply::Error(-32601, "the method does not exist")),
    ];
    for (withholds, instead) in withheld {
        let (anvil, proxy, _service, mut client) = announced(None).await;
        let token = anvil.token("TestERC20").await;
        client.head(anvil.height().await).await;
        pay_and_settle(&anvil, &mut client, &token, 0).await;
        let asked = AtomicU64::new(0);
        proxy.behave(move |method, _, result| {
            let withheld = withholds(method, 0) && withholds(method, asked.fetch_add(1, Ordering::SeqCst));
            if withheld { instead() } else { Reply::Result(result) }
        });
        for n in 1..4 {
            pay_and_settle(&anvil, &mut client, &token, n).await;
        }
    }
}

/// What comes with a head is held against its roots and signatures like all else.
#[tokio::test]
async fn falsehoods_that_come_with_a_head_are_refused() {
    type Falsehood = (&'static str, fn(&mut Value));
    let falsify: [Falsehood; 3] = [
        ("eth_getBlockReceipts", |receipts| receipts[0]["status"] = json!("0x0")),
        ("eth_getBlockReceipts", |receipts| receipts[1]["logs"][0]["data"] = json!(format!("0x{:064x}", 1_000))),
        ("eth_getBlockByHash", |block| {
            if block["transactions"][0].is_object() {
                block["transactions"][0]["value"] = json!("0x1");
            }
        }),
    ];
    for (falsified, change) in falsify {
        let anvil = Anvil::manual().await;
        let token = anvil.token("TestERC20").await;
        let proxy = Proxy::before(&anvil.http()).await;
        let endpoints =
            vec![("bad".into(), proxy.http(), Some(anvil.ws())), ("good".into(), anvil.http(), Some(anvil.ws()))];
        let service = Service::start(BINARY, Setup { endpoints, ..Setup::default() }).await;
        let mut client = service.client().await;
        pay_and_settle(&anvil, &mut client, &token, 0).await;
        proxy.behave(move |method, _, mut result| {
            if method == falsified && (result.is_object() || !result[0].is_null()) {
                change(&mut result);
            }
            Reply::Result(result)
        });
        for n in 1..4 {
            pay_and_settle(&anvil, &mut client, &token, n).await;
        }
    }
}

/// A batch that takes long, and one that is refused, hold back neither the tip nor the outcome.
#[tokio::test]
async fn what_is_asked_for_at_once_may_fail_as_a_whole() {
    let (anvil, proxy, _service, mut client) = announced(None).await;
    let token = anvil.token("TestERC20").await;
    client.head(anvil.height().await).await;
    pay_and_settle(&anvil, &mut client, &token, 0).await;
    proxy.behave(|method, _, result| match method {
        "trace_block" => Reply::Later(Duration::from_secs(3), Box::new(Reply::Result(result))),
        _ => Reply::Result(result),
    });
    pay_and_settle(&anvil, &mut client, &token, 1).await;
    proxy.behave(|method, _, result| match method {
        "trace_block" => Reply::Http(403, None, ""),
        _ => Reply::Result(result),
    });
    pay_and_settle(&anvil, &mut client, &token, 2).await;
}
