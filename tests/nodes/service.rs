//! The service as its callers and its operator meet it.

use std::collections::BTreeSet;
use std::time::Duration;

use h402_watch_proto::v1;
use h402_watch_proto::v1::watch_service_client::WatchServiceClient;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::support::anvil::{Anvil, shop};
use crate::support::client::{Client, PATIENCE, Seen, address, now_ms, spec, tx, with};
use crate::support::service::{Service, Setup};
use crate::{BINARY, world, world_with};

#[tokio::test]
async fn the_same_request_twice_is_the_same_watch() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let asked = spec(tx(&hash), &shop(1), 100, 1);
    let first = client.try_create(asked.clone()).await.expect("is made");
    // Spelled otherwise, it is the same request.
    let mut again = asked.clone();
    again.network = "eip155:31337".into();
    again.terms.as_mut().expect("terms").pay_to = shop(1).to_lowercase();
    let second = client.try_create(again).await.expect("is found");
    assert!(first.created && !second.created);
    assert_eq!(first.watch.expect("a watch").id, second.watch.expect("a watch").id);
}

#[tokio::test]
async fn the_same_key_with_other_content_is_refused_naming_the_first() {
    let (anvil, mut service, mut client) = world_with(|setup| {
        setup.horizon_blocks = 4;
        setup.late_window_ms = 1;
    })
    .await;
    let hash = anvil.pay(&shop(1), 100).await;
    let mut asked = spec(tx(&hash), &shop(1), 100, 1);
    asked.binding = Some(v1::Binding { quote_hash: "q1".into(), ..Default::default() });
    let first = client.create(asked.clone()).await;
    let other = with(asked.clone(), |terms| terms.amount = "99".into());
    let check = async |client: &mut Client| {
        let refused = client.try_create(other.clone()).await.expect_err("is refused");
        assert_eq!(refused.code(), Code::AlreadyExists);
        let named = refused.get_details_resource_info().expect("details").resource_name;
        assert_eq!(named, first);
    };
    check(&mut client).await;
    // The same holds for one that is archived, over a restart.
    anvil.mine(8).await;
    client.until(&first, "finalized").await;
    assert!(client.get(&first).await.archived);
    assert!(service.stop().await);
    service.restart().await;
    let mut client = service.client().await;
    check(&mut client).await;
    let same = client.try_create(asked).await.expect("is found");
    assert!(!same.created);
}

#[tokio::test]
async fn one_transfer_presented_by_50_concurrent_watches_pays_exactly_one() {
    let (anvil, _service, client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let creates = (0..50).map(|n| {
        let (mut client, hash) = (client.clone(), hash.clone());
        async move {
            let mut asked = spec(tx(&hash), &shop(1), 100, 1);
            asked.idempotency_key = format!("watch {n}");
            client.create(asked).await
        }
    });
    let ids = futures_util::future::join_all(creates).await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 50);
    anvil.mine(40).await;
    let mut client = client;
    let mut outcomes = Vec::new();
    for id in &ids {
        let started = tokio::time::Instant::now();
        let watch = loop {
            let watch = client.get(id).await;
            if watch.state() == v1::State::Settled {
                break watch;
            }
            assert!(started.elapsed() < PATIENCE, "{watch:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        outcomes.push((watch.outcome(), watch.reason, watch.reason_by, id.clone()));
    }
    let winners: Vec<_> = outcomes.iter().filter(|(outcome, ..)| *outcome == v1::Outcome::Success).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let winner = &winners[0].3;
    for (outcome, reason, by, _) in outcomes.iter().filter(|(.., id)| id != winner) {
        assert_eq!((*outcome, reason.as_str(), by), (v1::Outcome::Failed, "already_claimed", winner));
    }
}

#[tokio::test]
async fn bad_input_is_refused_naming_the_field() {
    let (_anvil, _service, mut client) = world().await;
    let hash = format!("0x{}", "ab".repeat(32));
    let good = || spec(tx(&hash), &shop(1), 100, 1);
    let terms = |change: fn(&mut v1::Terms)| with(good(), change);
    let mut cases: Vec<(v1::WatchSpec, &str)> = vec![
        (terms(|t| t.pay_to = "0x5aAeb6053f3E94C9b9A09f33669435E7Ef1BeAed".into()), "watch.terms.pay_to"),
        (terms(|t| t.pay_to = String::new()), "watch.terms.pay_to"),
        (terms(|t| t.asset = "USDC".into()), "watch.terms.asset"),
        (terms(|t| t.payer = "0x12".into()), "watch.terms.payer"),
        (terms(|t| t.amount = "1.5".into()), "watch.terms.amount"),
        (terms(|t| t.amount = "-1".into()), "watch.terms.amount"),
        (terms(|t| t.amount = "0".into()), "watch.terms.amount"),
        (terms(|t| t.amount = alloy_primitives::U256::MAX.to_string() + "0"), "watch.terms.amount"),
        (terms(|t| t.amount = two_to_the_256()), "watch.terms.amount"),
        (terms(|t| t.depth = Some(v1::terms::Depth::DepthBlocks(33))), "watch.terms.depth"),
        (terms(|t| t.depth = None), "watch.terms.depth"),
        (terms(|t| t.depth = Some(v1::terms::Depth::DepthTag(1))), "watch.terms.depth"),
        (terms(|t| t.depth = Some(v1::terms::Depth::DepthTag(9))), "watch.terms.depth_tag"),
        (terms(|t| t.deadline_ms = now_ms() - 1000), "watch.terms.deadline_ms"),
        (terms(|t| t.deadline_ms = 0), "watch.terms.deadline_ms"),
        (terms(|t| t.deadline_ms = u64::MAX), "watch.terms.deadline_ms"),
        (terms(|t| t.not_before_ms = t.deadline_ms), "watch.terms.not_before_ms"),
        (terms(|t| t.amount_rule = 77), "watch.terms.amount_rule"),
        (terms(|t| t.memo = "order 7".into()), "watch.terms.memo"),
        (terms(|t| t.memo = "m".repeat(567)), "watch.terms.memo"),
        (terms(|t| t.references = vec![shop(2)]), "watch.terms.references"),
        (terms(|t| t.references = vec![shop(2); 9]), "watch.terms.references"),
        (expiring(Some(7), "", ""), "watch.transaction.last_valid_height"),
        (expiring(Some(7), "account", "nonce"), "watch.transaction.last_valid_height"),
        (expiring(None, "account", "nonce"), "watch.transaction.nonce_account"),
        (expiring(None, "", "nonce"), "watch.transaction.nonce_account"),
        (expiring(None, "account", ""), "watch.transaction.nonce"),
        (spec(tx("0x1234"), &shop(1), 1, 1), "watch.transaction.tx"),
        (spec(descriptor(), "", 1, 1), "watch.output_descriptor"),
        (spec(descriptor(), &shop(1), 1, 1), "watch.terms.pay_to"),
        (v1::WatchSpec { terms: None, ..good() }, "watch.terms"),
        (v1::WatchSpec { subject: None, ..good() }, "watch.subject"),
        (v1::WatchSpec { network: "eip155:5".into(), ..good() }, "watch.network"),
        (v1::WatchSpec { network: "nowhere".into(), ..good() }, "watch.network"),
        (v1::WatchSpec { idempotency_key: "k".repeat(257), ..good() }, "watch.idempotency_key"),
    ];
    let resource = v1::Binding { resource: "r".repeat(2000), auth_hash: "a".repeat(200), ..Default::default() };
    let labels = (0..20).map(|n| (n.to_string(), "v".repeat(200))).collect();
    cases.push((v1::WatchSpec { binding: Some(v1::Binding { labels, ..resource }), ..good() }, "watch.binding"));
    let labels = (0..33).map(|n| (n.to_string(), String::new())).collect();
    let binding = v1::Binding { labels, ..Default::default() };
    cases.push((v1::WatchSpec { binding: Some(binding), ..good() }, "watch.binding.labels"));
    for (asked, field) in cases {
        let refused = client.try_create(asked).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused}");
        let details = refused.get_details_bad_request().expect(field);
        assert_eq!(details.field_violations[0].field, field);
        assert!(details.field_violations[0].description.starts_with("expected "), "{refused}");
    }
    let empty = client.inner.create_watch(v1::CreateWatchRequest { watch: None }).await.expect_err("no watch");
    assert_eq!(empty.get_details_bad_request().expect("details").field_violations[0].field, "watch");
    let listed = client.inner.list_watches(v1::ListWatchesRequest::default()).await.expect("lists").into_inner();
    assert!(listed.watches.is_empty(), "nothing of it was made");
}

/// A transaction that expires, which those of EVM chains don't.
fn expiring(last_valid_height: Option<u64>, nonce_account: &str, nonce: &str) -> v1::WatchSpec {
    let tx = format!("0x{}", "ab".repeat(32));
    let (nonce_account, nonce) = (nonce_account.into(), nonce.into());
    let subject = v1::TransactionSubject { tx, last_valid_height, nonce_account, nonce };
    spec(v1::watch_spec::Subject::Transaction(subject), &shop(1), 100, 1)
}

/// A subject that EVM chains don't have.
fn descriptor() -> v1::watch_spec::Subject {
    let text = "wpkh(xpub/<0;1>/*)".into();
    v1::watch_spec::Subject::OutputDescriptor(v1::DescriptorSubject { text, gap_limit: 0 })
}

fn two_to_the_256() -> String {
    "115792089237316195423570985008687907853269984665640564039457584007913129639936".into()
}

#[tokio::test]
async fn a_message_of_10_mb_is_refused_and_the_connection_lives() {
    let (_anvil, _service, mut client) = world().await;
    let mut asked = spec(address(), &shop(1), 1, 1);
    asked.binding = Some(v1::Binding { resource: "x".repeat(10_000_000), ..Default::default() });
    let refused = client.try_create(asked).await.expect_err("is refused");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(refused.get_details_bad_request().expect("details").field_violations[0].field, "message");
    client.create(spec(address(), &shop(1), 1, 1)).await;
}

#[tokio::test]
async fn many_watches_in_one_stream_answered_in_order() {
    let (_anvil, _service, mut client) = world().await;
    let requests: Vec<_> = (0..500_u64)
        .map(|n| {
            let amount = if n == 250 { "1.5".to_owned() } else { (n + 1).to_string() };
            v1::CreateWatchRequest { watch: Some(spec(address(), &shop(n), amount, 1)) }
        })
        .collect();
    let mut answers =
        client.inner.create_watches(futures_util::stream::iter(requests)).await.expect("streams").into_inner();
    let mut n = 0;
    while let Some(answer) = answers.message().await.expect("goes on") {
        match answer.result.expect("a result") {
            v1::create_watches_response::Result::Ok(ok) => {
                let terms = ok.watch.and_then(|watch| watch.spec).and_then(|spec| spec.terms).expect("terms");
                assert_eq!(terms.amount, (n + 1).to_string());
            }
            v1::create_watches_response::Result::Error(error) => {
                assert_eq!((n, error.field.as_str()), (250, "watch.terms.amount"));
                assert_eq!(error.code, i32::from(Code::InvalidArgument));
            }
        }
        n += 1;
    }
    assert_eq!(n, 500);
    let page = v1::ListWatchesRequest { page_size: 300, ..Default::default() };
    let first = client.inner.list_watches(page.clone()).await.expect("lists").into_inner();
    let rest = v1::ListWatchesRequest { page_token: first.next_page_token, ..page };
    let second = client.inner.list_watches(rest).await.expect("lists").into_inner();
    assert_eq!((first.watches.len(), second.watches.len(), second.next_page_token.as_str()), (300, 199, ""));
}

async fn read(events: &mut tonic::Streaming<v1::SubscribeResponse>, count: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let response = tokio::time::timeout(PATIENCE, events.message()).await.expect("in time");
        if let Some(event) = response.expect("goes on").expect("no end").event {
            seen.push(Seen::from(event));
        }
    }
    seen
}

/// Makes watches on fresh addresses and pays them; three events each with depth 1.
async fn pay_many(anvil: &Anvil, client: &mut Client, count: u64, first: u64) {
    for n in first..first + count {
        client.create(spec(address(), &shop(n), 1, 1)).await;
    }
    for n in first..first + count {
        anvil.pay(&shop(n), 1).await;
    }
    anvil.mine(1).await;
}

#[tokio::test]
async fn a_subscriber_that_stops_reading_slows_nobody_and_loses_nothing() {
    let (anvil, service, mut client) = world().await;
    let all = v1::SubscribeRequest { after_sequence: Some(0), ..Default::default() };
    // One whose window is soon full: the server has to hold back.
    let channel = tonic::transport::Channel::from_shared(service.grpc()).expect("a URL");
    let channel = channel.initial_stream_window_size(16 * 1024).connect().await.expect("connects");
    let mut narrow = Client { inner: WatchServiceClient::new(channel) };
    let mut stuck = narrow.subscribe(all.clone()).await;
    let mut quick = client.subscribe(all).await;
    let mut expected = 0;
    for round in 0..10 {
        pay_many(&anvil, &mut client, 40, round * 40).await;
        expected += 80;
    }
    let told = read(&mut quick, expected).await;
    assert!(told.iter().zip(1..).all(|(event, sequence)| event.sequence == sequence));
    // It did not read a thing so far.
    let late = read(&mut stuck, expected).await;
    assert_eq!(late.iter().map(|e| &e.bytes).collect::<Vec<_>>(), told.iter().map(|e| &e.bytes).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_subscriber_that_reconnects_misses_and_repeats_nothing() {
    let (anvil, mut service, mut client) = world().await;
    pay_many(&anvil, &mut client, 10, 0).await;
    let after = |sequence| v1::SubscribeRequest { after_sequence: Some(sequence), ..Default::default() };
    let mut events = client.subscribe(after(0)).await;
    let first = read(&mut events, 7).await;
    drop(events);
    service.kill();
    service.restart().await;
    let mut client = service.client().await;
    pay_many(&anvil, &mut client, 10, 10).await;
    let acknowledged = first.last().expect("events").sequence;
    let mut events = client.subscribe(after(acknowledged)).await;
    let rest = read(&mut events, 33).await;
    let sequences: Vec<_> = first.iter().chain(&rest).map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=40).collect::<Vec<_>>());
    let beyond = client.inner.subscribe(after(1_000_000)).await.expect_err("there is no such event");
    assert_eq!(beyond.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn subscriptions_are_filtered() {
    let (anvil, _service, mut client) = world().await;
    let mut asked = spec(address(), &shop(1), 1, 1);
    let labels = [("shop".to_owned(), "one".to_owned())].into();
    asked.binding = Some(v1::Binding { labels, ..Default::default() });
    let labelled = client.create(asked).await;
    let other = client.create(spec(address(), &shop(2), 1, 1)).await;
    anvil.pay(&shop(1), 1).await;
    anvil.pay(&shop(2), 1).await;
    anvil.mine(1).await;
    let from_start = v1::SubscribeRequest { after_sequence: Some(0), ..Default::default() };
    let filters = [
        v1::SubscribeRequest { watch_ids: vec![labelled.clone()], ..from_start.clone() },
        v1::SubscribeRequest { pay_to: vec![shop(1).to_lowercase()], ..from_start.clone() },
        v1::SubscribeRequest { labels: [("shop".into(), "one".into())].into(), ..from_start.clone() },
    ];
    for filter in filters {
        let mut events = client.subscribe(filter).await;
        let seen = read(&mut events, 2).await;
        assert!(seen.iter().all(|event| event.watch == labelled), "{seen:?}");
    }
    let kinds = v1::SubscribeRequest { kinds: vec!["settled".into()], networks: vec!["dev".into()], ..from_start };
    let mut events = client.subscribe(kinds).await;
    let settled = read(&mut events, 2).await;
    assert_eq!(settled.iter().map(|e| &e.watch).collect::<BTreeSet<_>>(), [&labelled, &other].into());
}

#[tokio::test]
async fn wait_returns_at_the_state_or_at_the_time_limit() {
    let (anvil, _service, mut client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    let wait = |until: v1::State, timeout_ms| v1::WaitRequest { watch_id: id.clone(), until: until.into(), timeout_ms };
    let seen = client.inner.wait(wait(v1::State::Seen, 30_000)).await.expect("waits").into_inner();
    assert!(seen.reached);
    let not_yet = client.inner.wait(wait(v1::State::Settled, 200)).await.expect("waits").into_inner();
    assert!(!not_yet.reached && not_yet.settlement.is_empty());
    let mut other = client.clone();
    let request = wait(v1::State::Settled, 30_000);
    let (settled, ()) = tokio::join!(other.inner.wait(request), anvil.mine(2));
    let settled = settled.expect("waits").into_inner();
    let artefact: serde_json::Value = serde_json::from_slice(&settled.settlement).expect("settled.json");
    assert_eq!((settled.reached, artefact["outcome"].as_str()), (true, Some("success")));
    let named = |name: String| v1::WaitRequest { watch_id: name, ..Default::default() };
    let unknown = client.inner.wait(named(format!("w{}", "0".repeat(32)))).await.expect_err("no such watch");
    assert_eq!(unknown.code(), Code::NotFound);
    // A name of any length is a mistake, and nothing worse.
    for name in [String::new(), "w0".into(), format!("w{}", "0".repeat(100_000))] {
        let refused = client.inner.wait(named(name.clone())).await.expect_err("no name");
        assert_eq!(refused.code(), Code::InvalidArgument);
        let cancel = v1::CancelWatchRequest { watch_id: name.clone() };
        assert_eq!(client.inner.cancel_watch(cancel).await.expect_err("no name").code(), Code::InvalidArgument);
        let page = v1::ListWatchesRequest { page_token: name.clone(), ..Default::default() };
        assert_eq!(client.inner.list_watches(page).await.is_err(), !name.is_empty());
    }
    client.get(&id).await;
}

#[tokio::test]
async fn callers_without_a_token_are_refused_and_no_token_is_logged() {
    const TOKEN: &str = "a-token-of-this-test-only";
    let (_anvil, service, mut client) = world_with(|setup| setup.grpc = format!("tokens = [\"{TOKEN}\"]")).await;
    let networks = v1::ListNetworksRequest {};
    let refused = client.inner.list_networks(networks).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = Request::new(networks);
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}x").parse().expect("ASCII"));
    assert_eq!(client.inner.list_networks(request).await.expect_err("a wrong one").code(), Code::Unauthenticated);
    let mut request = Request::new(networks);
    request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().expect("ASCII"));
    client.inner.list_networks(request).await.expect("the right one");
    assert!(!service.log().contains(TOKEN));
    // Probes need none.
    let channel =
        tonic::transport::Channel::from_shared(service.grpc()).expect("a URL").connect().await.expect("connects");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: "h402.watch.v1.WatchService".into() };
    assert_eq!(health.check(request).await.expect("answers").into_inner().status, 1);
}

#[tokio::test]
async fn reflection_tells_the_schema() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};
    let (_anvil, service, _client) = world().await;
    let channel =
        tonic::transport::Channel::from_shared(service.grpc()).expect("a URL").connect().await.expect("connects");
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers =
        client.server_reflection_info(futures_util::stream::iter([request])).await.expect("answers").into_inner();
    let answer = answers.message().await.expect("answers").expect("one").message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    assert!(list.service.iter().any(|service| service.name == "h402.watch.v1.WatchService"));
}

#[tokio::test]
async fn tls_serves_those_who_trust_its_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let keys = format!("tls_cert = \"{}\"\ntls_key = \"{}\"", cert.display(), key.display());
    let anvil = Anvil::manual().await;
    anvil.mine(1).await;
    let service = Service::start(BINARY, Setup { grpc: keys, ..Setup::of(&anvil) }).await;
    let url = service.grpc().replace("http://127.0.0.1", "https://localhost");
    let trusted = tonic::transport::Certificate::from_pem(std::fs::read(&cert).expect("reads"));
    let tls = tonic::transport::ClientTlsConfig::new().ca_certificate(trusted);
    let endpoint = tonic::transport::Endpoint::from_shared(url).expect("a URL").tls_config(tls).expect("TLS");
    let mut client = WatchServiceClient::new(endpoint.connect().await.expect("connects"));
    client.list_networks(v1::ListNetworksRequest {}).await.expect("answers");
    assert!(
        WatchServiceClient::new(tonic::transport::Endpoint::from_shared(service.grpc()).expect("a URL").connect_lazy())
            .list_networks(v1::ListNetworksRequest {})
            .await
            .is_err()
    );
}

#[tokio::test]
async fn metrics_tell_heads_watches_and_commits() {
    let (anvil, service, mut client) = world().await;
    pay_many(&anvil, &mut client, 1, 0).await;
    client.head(anvil.height().await).await;
    let metrics = service.metrics().await;
    for line in [
        "h402_watch_driver_watches_open 1",
        "h402_watch_driver_events_total{kind=\"settled\"} 1",
        "h402_watch_source_head_height{network=\"eip155:31337\"} 4",
        "h402_watch_endpoint_up{network=\"eip155:31337\",endpoint=\"anvil\"} 1",
        "h402_watch_driver_commit_seconds_count",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

/// The command line, word for word as in the README.
#[tokio::test]
async fn the_command_line_follows_a_payment_and_writes_its_artefacts() {
    let (anvil, service, mut client) = world().await;
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: Vec<String>| {
        let server = service.grpc();
        tokio::task::spawn_blocking(move || {
            std::process::Command::new(BINARY).args(arguments).args(["--server", &server]).output().expect("runs")
        })
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let watch = words(&format!("watch address --network dev --pay-to {} --amount 1.5 --decimals 2 --depth 2", shop(1)));
    let watching = run(watch);
    loop {
        let watches = client.inner.list_watches(v1::ListWatchesRequest::default()).await.expect("lists").into_inner();
        if !watches.watches.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anvil.pay(&shop(1), 150).await;
    anvil.mine(2).await;
    let output = watching.await.expect("joins");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let id = said.lines().next().and_then(|line| line.strip_prefix("watch ")).expect("its name").to_owned();
    let out = folder.path().display().to_string();
    let written = run(vec!["receipts".into(), id, "--out".into(), out]).await.expect("joins");
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let settled = std::fs::read(folder.path().join("settled.json")).expect("written");
    let settled: serde_json::Value = serde_json::from_slice(&settled).expect("JSON");
    assert_eq!((settled["outcome"].as_str(), settled["received"].as_str()), (Some("success"), Some("150")));
    let short = words(&format!("watch address --network dev --pay-to {} --amount 1 --deadline-s 1", shop(2)));
    assert_eq!(run(short).await.expect("joins").status.code(), Some(2), "another outcome than success");
    let wrong = words(&format!("watch address --network nowhere --pay-to {} --amount 1", shop(2)));
    let refused = run(wrong).await.expect("joins");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("watch.network: expected one of"));
}

/// Invariant 11: connections and those who wait have a bound, and a stated answer when it is reached.
#[tokio::test]
async fn connections_and_waits_are_bounded() {
    let (_anvil, service, mut client) =
        world_with(|setup| setup.grpc = "connections_max = 2\nwaiting_max = 1".into()).await;
    let id = client.create(spec(address(), &shop(1), 1, 1)).await;
    let waits = v1::WaitRequest { watch_id: id.clone(), timeout_ms: 10_000, until: 0 };
    let mut other = client.clone();
    let waiting = tokio::spawn({
        let waits = waits.clone();
        // The other may be faster to take the place, for a moment.
        async move { while other.inner.wait(waits.clone()).await.is_err() {} }
    });
    let started = tokio::time::Instant::now();
    let refused = loop {
        match client.inner.wait(v1::WaitRequest { timeout_ms: 1, ..waits.clone() }).await {
            Err(refused) => break refused,
            Ok(_) => assert!(started.elapsed() < PATIENCE, "the first wait holds the place"),
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    waiting.abort();
    let mut second = service.client().await;
    second.get(&id).await;
    let third = tonic::transport::Channel::from_shared(service.grpc()).expect("a URL").connect_lazy();
    let listed = WatchServiceClient::new(third).list_networks(v1::ListNetworksRequest {}).await;
    assert!(listed.is_err(), "the third connection is closed");
    client.get(&id).await;
    drop(second);
    let started = tokio::time::Instant::now();
    loop {
        let again = tonic::transport::Channel::from_shared(service.grpc()).expect("a URL").connect_lazy();
        if WatchServiceClient::new(again).list_networks(v1::ListNetworksRequest {}).await.is_ok() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the place is free again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
