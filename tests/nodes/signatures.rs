//! Signatures, from the key to whoever verifies them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use h402_watch_proto::v1;
use h402_watch_verify::jwks::Keys;
use h402_watch_verify::jws::Detached;
use serde_json::Value;

use crate::support::anvil::shop;
use crate::support::client::{Client, Seen, spec, tx};
use crate::support::service::Service;
use crate::{BINARY, world};

async fn keys(service: &Service) -> Keys {
    Keys::parse(service.key_set().await.as_bytes()).expect("a set of keys")
}

fn kids(keys: &Keys) -> Vec<&str> {
    keys.iter().map(|key| key.kid()).collect()
}

/// The key that signed these bytes.
fn signed_by(keys: &Keys, artefact: &[u8], signature: &str) -> String {
    let signature = Detached::parse(signature).expect("a signature");
    signature.verify(artefact, keys).expect("is verified");
    signature.kid
}

fn signers(keys: &Keys, receipts: &[Seen]) -> Vec<String> {
    receipts.iter().map(|receipt| signed_by(keys, &receipt.bytes, &receipt.signature)).collect()
}

/// Runs the program and returns what it printed.
fn h402_watch(arguments: &[&str]) -> String {
    let ended = Command::new(BINARY).args(arguments).output().expect("it runs");
    assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("UTF-8")
}

async fn log(client: &mut Client, count: usize) -> Vec<Seen> {
    let request = v1::SubscribeRequest { after_sequence: Some(0), ..Default::default() };
    let mut events = client.subscribe(request).await;
    let mut seen = Vec::new();
    while seen.len() < count {
        let response = events.message().await.expect("goes on").expect("no end");
        seen.extend(response.event.map(Seen::from));
    }
    seen
}

/// What the README points at, for those who verify.
#[tokio::test]
async fn the_schemas_of_artefacts_are_published() {
    let (_anvil, service, _client) = world().await;
    for (path, file) in [("/schemas/receipt.v1.json", "receipt"), ("/schemas/settled.v1.json", "settled")] {
        let response = service.http(path).await;
        assert_eq!(response.headers()["content-type"], "application/schema+json");
        let schema: Value = serde_json::from_str(&response.text().await.expect("text")).expect("JSON");
        assert!(schema["$id"].as_str().is_some_and(|id| id.ends_with(path)), "{}", schema["$id"]);
        let text = std::fs::read_to_string(format!("proto/artefacts/{file}.schema.json")).expect("is there");
        assert_eq!(schema, serde_json::from_str::<Value>(&text).expect("JSON"));
    }
}

#[tokio::test]
async fn every_artefact_is_signed_with_the_published_key() {
    let (anvil, service, mut client) = world().await;
    let response = service.http("/.well-known/jwks.json").await;
    assert_eq!(response.headers()["content-type"], "application/jwk-set+json");
    assert_eq!(response.headers()["cache-control"], "max-age=300");
    let keys = keys(&service).await;
    assert_eq!(kids(&keys).len(), 1);

    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    anvil.mine(2).await;
    let story = client.until(&id, "settled:success").await;
    let receipts = client.receipts(&id).await;
    assert_eq!(receipts.len(), story.len());
    assert!(signers(&keys, &receipts).iter().all(|kid| kid == kids(&keys)[0]));
    let streamed = log(&mut client, receipts.len()).await;
    let signatures = |seen: &[Seen]| seen.iter().map(|seen| seen.signature.clone()).collect::<Vec<_>>();
    assert_eq!(signatures(&streamed), signatures(&receipts));

    let settled = receipts.last().expect("settled");
    let request = v1::GetWatchRequest { watch_id: id.clone() };
    let got = client.inner.get_watch(request).await.expect("is there").into_inner();
    let request = v1::WaitRequest { watch_id: id, ..Default::default() };
    let waited = client.inner.wait(request).await.expect("is settled").into_inner();
    assert_eq!((&got.settlement, &got.settlement_signature), (&settled.bytes, &settled.signature));
    assert_eq!((&waited.settlement, &waited.settlement_signature), (&settled.bytes, &settled.signature));

    let mut other = settled.bytes.clone();
    other.push(b'\n');
    let signature = Detached::parse(&settled.signature).expect("a signature");
    signature.verify(&other, &keys).expect_err("one byte more");
}

/// One watch, receipts by two keys; the first key is the one that the service made for itself.
#[tokio::test]
async fn after_a_rotation_old_artefacts_verify_and_new_ones_carry_the_new_kid() {
    let (anvil, mut service, mut client) = world().await;
    let made = service.store().join("signing-key.pem");
    let mode = std::fs::metadata(&made).expect("was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = keys(&service).await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    anvil.mine(1).await;
    client.has(&id, "included").await;
    let before = client.receipts(&id).await;

    // The key is used again, without the configuration naming it.
    assert!(service.stop().await);
    service.restart().await;
    assert_eq!(keys(&service).await, first);

    let new = service.folder.join("new.pem");
    let new_kid = h402_watch(&["key", "new", &new.display().to_string()]).trim().to_owned();
    assert!(service.stop().await);
    service.setup.more = format!("[signing]\nkeys = [{new:?}, {made:?}]\n");
    service.restart().await;
    let both = keys(&service).await;
    assert_eq!(kids(&both), [new_kid.as_str(), kids(&first)[0]]);
    let shown = h402_watch(&["key", "show", &new.display().to_string(), &made.display().to_string()]);
    assert_eq!(shown.trim(), service.key_set().await);

    let mut client = service.client().await;
    anvil.mine(1).await;
    client.until(&id, "settled:success").await;
    let after = client.receipts(&id).await;
    let by = signers(&both, &after);
    let (old, new) = by.split_at(before.len());
    assert!(old.iter().all(|kid| kid == kids(&first)[0]), "{by:?}");
    assert!(!new.is_empty() && new.iter().all(|kid| *kid == new_kid), "{by:?}");
    for (then, now) in before.iter().zip(&after) {
        assert_eq!((&then.bytes, &then.signature), (&now.bytes, &now.signature));
    }
}

#[tokio::test]
async fn receipts_are_printed_and_written_with_their_signatures() {
    let (anvil, service, mut client) = world().await;
    let keys = keys(&service).await;
    let hash = anvil.pay(&shop(1), 100).await;
    let id = client.create(spec(tx(&hash), &shop(1), 100, 1)).await;
    anvil.mine(1).await;
    client.until(&id, "settled:success").await;
    let receipts = client.receipts(&id).await;

    let server = service.grpc();
    let printed = h402_watch(&["receipts", &id, "--server", &server]);
    for (line, receipt) in printed.lines().zip(&receipts) {
        let artefact = String::from_utf8(receipt.bytes.clone()).expect("UTF-8");
        assert_eq!(line, format!("{{\"artefact\":{artefact},\"signature\":\"{}\"}}", receipt.signature));
        // It is canonical itself: reading and writing it again changes nothing.
        let read: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(read.to_string(), line);
    }
    assert_eq!(printed.lines().count(), receipts.len());

    let folder = service.folder.join("receipts");
    let printed = h402_watch(&["receipts", &id, "--server", &server, "--out", &folder.display().to_string()]);
    let written: Vec<_> = printed.lines().map(Path::new).collect();
    assert!(written.last().is_some_and(|last| last.ends_with("settled.json")), "{written:?}");
    assert_eq!(written.len(), receipts.len());
    for (path, receipt) in written.into_iter().zip(&receipts) {
        let artefact = std::fs::read(path).expect("was written");
        let signature = std::fs::read_to_string(format!("{}.jws", path.display())).expect("was written");
        assert_eq!((&artefact, &signature), (&receipt.bytes, &receipt.signature));
        signed_by(&keys, &artefact, &signature);
    }
}
