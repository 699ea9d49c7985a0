//! `h402-watch verify`, over what a service on a real node wrote.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::anvil::{Anvil, shop};
use crate::support::client::{address, spec, tx};
use crate::support::service::Service;
use crate::{BINARY, world_with};

/// What `verify` says of something, and whether it is content.
fn verify(arguments: &[&str]) -> (bool, String) {
    let ended = Command::new(BINARY).arg("verify").args(arguments).output().expect("it runs");
    let said = String::from_utf8([ended.stdout, ended.stderr].concat()).expect("UTF-8");
    assert!(ended.status.code().is_some_and(|code| code <= 2), "{said}");
    (ended.status.success(), said)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A service with a payment that was settled, one that came to nothing, and the folder that their artefacts are in.
async fn evidence() -> (Anvil, Service, String, String) {
    let (anvil, service, mut client) = world_with(|setup| setup.network = "proofs = true\n".into()).await;
    let hash = anvil.pay(&shop(1), 100).await;
    let paid = client.create(spec(tx(&hash), &shop(1), 100, 2)).await;
    let again = client.create(spec(tx(&hash), &shop(1), 90, 2)).await;
    anvil.mine(2).await;
    client.until(&paid, "settled:success").await;
    client.until(&again, "settled:failed:already_claimed").await;
    let folder = service.folder.join("evidence");
    for id in [&paid, &again] {
        let out = text(&folder.join(id));
        let written = Command::new(BINARY).args(["receipts", id, "--server", &service.grpc(), "--out", &out]).output();
        assert!(written.expect("it runs").status.success());
    }
    let keys = service.folder.join("jwks.json");
    std::fs::write(&keys, service.key_set().await).expect("writes");
    (anvil, service, text(&folder), text(&keys))
}

#[tokio::test]
async fn a_folder_is_verified_and_each_change_of_it_is_named() {
    let (_anvil, service, folder, keys) = evidence().await;
    let (good, said) = verify(&["--jwks", &keys, &folder]);
    assert!(good, "{said}");
    assert!(said.contains("proven in block") && said.contains("2 watches, all in order"), "{said}");
    let (good, said) = verify(&["--jwks", &keys, "--require-complete", &folder]);
    assert!(good, "{said}");
    // Whose transfer it was first stands in no block.
    let (good, said) = verify(&["--jwks", &keys, "--require-proof", &folder]);
    assert!(!good && said.contains("WRONG unproven: ok settled.json failed (already_claimed)"), "{said}");
    assert_eq!(said.matches("WRONG").count(), 1, "{said}");
    let paid = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut settled = paid.map(|watch| watch.join("settled.json"));
    let is_paid = |path: &PathBuf| std::fs::read_to_string(path).expect("reads").contains("success");
    let settled = settled.find(is_paid).expect("the one that was paid");
    let (bytes, jws) = (std::fs::read(&settled).expect("reads"), settled.with_added_extension("jws"));
    let signature = std::fs::read(&jws).expect("reads");
    let restore = || {
        std::fs::write(&settled, &bytes).expect("writes");
        std::fs::write(&jws, &signature).expect("writes");
    };
    let refused = |code: &str| {
        let (good, said) = verify(&["--jwks", &keys, &folder]);
        assert!(!good && said.contains(&format!("WRONG {code}:")), "expected {code}: {said}");
        restore();
    };
    let changed = |from: &str, to: &str| {
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        assert!(text.contains(from), "{text}");
        std::fs::write(&settled, text.replacen(from, to, 1)).expect("writes");
    };
    changed("\"received\":\"100\"", "\"received\":\"101\"");
    refused("signature");
    changed("{", "{ ");
    refused("not_canonical");
    std::fs::remove_file(&jws).expect("is there");
    refused("unsigned");
    std::fs::remove_file(&settled).expect("is there");
    refused("shape");
    let (good, said) = verify(&["--jwks", &keys, &folder]);
    assert!(good, "{said}");
    // Without the receipt before it the settlement is in order, and said to be only the end.
    let first = settled.with_file_name("receipt-001-seen.json");
    for path in [first.clone(), first.with_added_extension("jws")] {
        std::fs::remove_file(path).expect("is there");
    }
    assert!(verify(&["--jwks", &keys, &folder]).0);
    let (good, said) = verify(&["--jwks", &keys, "--require-complete", &folder]);
    assert!(!good && said.contains("WRONG incomplete"), "{said}");
    drop(service);
}

#[tokio::test]
async fn keys_come_from_a_file_or_a_url_and_are_needed() {
    let (_anvil, service, folder, keys) = evidence().await;
    let url = service.url("/.well-known/jwks.json");
    let (good, said) = verify(&["--jwks", &url, &folder]);
    assert!(good, "{said}");
    let (good, said) = verify(&[&folder]);
    assert!(!good && said.contains("--jwks"), "{said}");
    let (good, said) = verify(&["--without-signature", &folder]);
    assert!(good && said.contains("not checked"), "{said}");
    let other = service.folder.join("other.pem");
    let made = Command::new(BINARY).args(["key", "new", &text(&other)]).output().expect("it runs");
    assert!(made.status.success());
    let shown = Command::new(BINARY).args(["key", "show", &text(&other)]).output().expect("it runs");
    std::fs::write(service.folder.join("other.json"), shown.stdout).expect("writes");
    let (good, said) = verify(&["--jwks", &text(&service.folder.join("other.json")), &folder]);
    assert!(!good && said.contains("WRONG unknown_key"), "{said}");
    for nothing in ["missing.json", "/dev/null"] {
        let (good, said) = verify(&["--jwks", nothing, &folder]);
        assert!(!good && said.contains("--jwks"), "{said}");
    }
    let (good, said) = verify(&["--jwks", &keys, &text(&service.folder.join("nowhere"))]);
    assert!(!good && said.contains("nowhere"), "{said}");
}

/// `receipts` prints what `verify` reads; as a program reads it too.
#[tokio::test]
async fn lines_are_verified_as_they_come() {
    let (anvil, service, _folder, keys) = evidence().await;
    let mut client = service.client().await;
    let id = client.create(spec(address(), &shop(2), 70, 1)).await;
    anvil.pay(&shop(2), 70).await;
    anvil.mine(1).await;
    client.until(&id, "settled:success").await;
    let printed = Command::new(BINARY).args(["receipts", &id, "--server", &service.grpc()]).output().expect("it runs");
    let verified = |lines: &[u8]| {
        let mut child = Command::new(BINARY)
            .args(["verify", "--jwks", &keys, "--json", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        child.stdin.take().expect("a pipe").write_all(lines).expect("writes");
        let ended = child.wait_with_output().expect("ends");
        let said: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
        assert_eq!(said["ok"], ended.status.success(), "{said}");
        said
    };
    let said = verified(&printed.stdout);
    assert_eq!((&said["ok"], said["artefacts"].as_array().map(Vec::len)), (&Value::Bool(true), Some(2)), "{said}");
    assert_eq!(said["artefacts"][1]["report"]["inclusion"]["kind"], "proven", "{said}");
    let cut = verified(&printed.stdout[..printed.stdout.len() - 1]);
    assert_eq!(cut["artefacts"][1]["wrong"]["code"], "evidence_line", "{cut}");
    // One line that is wrong does not hide the other.
    assert_eq!(cut["artefacts"][0]["ok"], true, "{cut}");
}
