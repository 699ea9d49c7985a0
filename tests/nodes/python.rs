//! A client in another language, generated from proto/ alone.

use std::process::Command;

use crate::support::anvil::shop;
use crate::world;

#[tokio::test]
async fn a_python_client_follows_a_watch_to_its_settlement() {
    let python = crate::support::devnet().join("python/bin/python");
    assert!(python.exists(), "no Python environment in {}: run `make python` first", python.display());
    let (anvil, service, _client) = world().await;
    let hash = anvil.pay(&shop(1), 100).await;
    let root = env!("CARGO_MANIFEST_DIR");
    let server = service.grpc().trim_start_matches("http://").to_owned();
    let merchant = Command::new(python)
        .arg(format!("{root}/tests/python/merchant.py"))
        .args([&format!("{root}/proto"), &server, &hash, &shop(1), "100", "2"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mining = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            anvil.mine(1).await;
        }
    };
    let ended = tokio::task::spawn_blocking(move || merchant.wait_with_output());
    let output = tokio::select! {
        output = ended => output.expect("joins").expect("ends"),
        () = mining => unreachable!(),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[lines.len() - 3..lines.len() - 1], ["settled", "success 100"], "{said}");
    assert!(
        lines[lines.len() - 1].starts_with("INVALID_ARGUMENT watch.terms.amount: expected decimal digits"),
        "{said}"
    );
}
