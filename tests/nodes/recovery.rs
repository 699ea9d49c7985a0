//! Kill −9 at random points under load: nothing that was acknowledged is lost, the log has no gap, each outcome appears once,
//! and is the same as in a run that was never killed.

use std::collections::BTreeMap;
use std::time::Duration;

use h402_watch_proto::v1;
use serde_json::Value;

use crate::BINARY;
use crate::support::anvil::{Anvil, quantity, shop};
use crate::support::client::{Client, Seen, address, spec, tx, with};
use crate::support::random::Random;
use crate::support::service::{Service, Setup};

#[tokio::test]
async fn kill_9_thirty_times_under_load_fjall() {
    kill_under_load("fjall", 30).await;
}

#[tokio::test]
async fn kill_9_ten_times_under_load_sled() {
    kill_under_load("sled", 10).await;
}

async fn kill_under_load(engine: &'static str, rounds: u64) {
    let mut random = Random::fresh();
    let anvil = Anvil::manual().await;
    anvil.mine(3).await;
    let start_ms = quantity(&anvil.block("latest").await["timestamp"]) * 1000;
    let setup = Setup { engine, horizon_blocks: 600, network: "finality_tags = []".into(), ..Setup::of(&anvil) };
    let steady = Service::start(BINARY, setup.clone()).await;
    let mut killed = Service::start(BINARY, setup).await;
    let mut reference = steady.client().await;
    let mut watches = BTreeMap::new();
    for round in 0..rounds {
        let specs = load(&anvil, round, start_ms).await;
        let client = killed.client().await;
        let under_way = tokio::spawn(create_all(client, specs.clone()));
        tokio::time::sleep(Duration::from_millis(random.below(12))).await;
        anvil.mine(1).await;
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        killed.kill();
        let acknowledged = under_way.await.expect("joins");
        killed.restart().await;
        let mut client = killed.client().await;
        for id in &acknowledged {
            client.get(id).await;
        }
        // What was not acknowledged is asked for again, as a client would.
        for (spec, _) in specs.iter().zip(0..) {
            let id = client.create(spec.clone()).await;
            assert_eq!(id, reference.create(spec.clone()).await, "the same request has the same name everywhere");
            watches.insert(id, round);
        }
        anvil.mine(1).await;
    }
    anvil.mine(5).await;
    let mut client = killed.client().await;
    for client in [&mut client, &mut reference] {
        client.head(anvil.height().await).await;
        settle(client, watches.keys()).await;
    }
    let ours = outcomes(&mut client).await;
    let theirs = outcomes(&mut reference).await;
    assert_eq!(ours.len(), watches.len(), "an outcome for each watch");
    assert_eq!(ours, theirs);
}

/// Payments into the mempool, and watches on them: by hash and by address, enough and too little, one twice.
async fn load(anvil: &Anvil, round: u64, start_ms: u64) -> Vec<v1::WatchSpec> {
    let mut specs = Vec::new();
    for n in round * 10..round * 10 + 4 {
        let hash = anvil.pay(&shop(n), 100).await;
        specs.push(spec(tx(&hash), &shop(n), 100 + n % 2, 2));
        anvil.pay(&shop(n + 5), 50).await;
        let asked = spec(address(), &shop(n + 5), 50, 2);
        specs.push(with(asked, |terms| terms.not_before_ms = start_ms));
        if n % 10 == 0 {
            specs.push(spec(tx(&hash), &shop(n), 99, 2));
        }
    }
    // One deadline for both runs.
    let deadline = start_ms + 3_600_000;
    specs.into_iter().map(|spec| with(spec, |terms| terms.deadline_ms = deadline)).collect()
}

/// Those that were acknowledged before the service died.
async fn create_all(client: Client, specs: Vec<v1::WatchSpec>) -> Vec<String> {
    let creates = specs.into_iter().map(|spec| {
        let mut client = client.clone();
        async move { client.try_create(spec).await.ok().and_then(|made| made.watch).map(|watch| watch.id) }
    });
    futures_util::future::join_all(creates).await.into_iter().flatten().collect()
}

async fn settle(client: &mut Client, ids: impl Iterator<Item = &String>) {
    for id in ids {
        let wait = v1::WaitRequest { watch_id: id.clone(), timeout_ms: 60_000, until: 0 };
        let waited = client.inner.wait(wait).await.expect("waits").into_inner();
        assert!(waited.reached, "{:?}", waited.watch);
    }
}

/// Reads the whole log: no gap, one outcome for each watch. What each outcome says, but for its place in the hash chain
/// (whether a payment was seen in the mempool depends on when the service was up).
async fn outcomes(client: &mut Client) -> BTreeMap<String, Value> {
    let request = v1::SubscribeRequest { after_sequence: Some(0), ..Default::default() };
    let mut events = client.subscribe(request).await;
    let mut outcomes = BTreeMap::new();
    let mut last = 0;
    while let Ok(response) = tokio::time::timeout(Duration::from_secs(2), events.message()).await {
        let Some(event) = response.expect("goes on").expect("no end").event.map(Seen::from) else { continue };
        assert_eq!(event.sequence, last + 1, "no gap");
        last = event.sequence;
        if event.kind == "settled" {
            let artefact = &event.artefact;
            let told: Vec<_> =
                ["outcome", "reason", "by", "received", "transfers"].iter().map(|key| artefact[*key].clone()).collect();
            assert!(outcomes.insert(event.watch, Value::from(told)).is_none(), "one outcome each");
        }
    }
    outcomes
}
