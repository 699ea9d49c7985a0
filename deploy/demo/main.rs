//! The demo: a merchant's script against the real service on real nodes. Exits 0 only if each payment came out as it should.
//!
//! `make demo` installs the nodes, builds, and runs it.

#[path = "../../tests/support/mod.rs"]
mod support;

mod bitcoin;
mod evm;
mod show;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bitcoin::Bitcoin;
use evm::Evm;
use h402_watch::cli::artefact_name;
use h402_watch_proto::v1;
use sha2::{Digest as _, Sha256};
use show::{Scene, Show};
use support::client::{Client, Seen};
use support::service::{Service, Setup};

const DEPTH: u32 = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::var("H402_DEMO").unwrap_or_else(|_| "target/demo".into()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let binary = std::env::current_exe()?.with_file_name("../h402-watch");
    ensure!(binary.exists(), "{} is missing: run `make demo`", binary.display());
    say("h402-watch demo: anvil and bitcoind mine a block a second, a merchant watches payments on both")?;
    let (mut evm, mut bitcoin) = (Evm::start().await, Bitcoin::start().await);
    let beside = Setup { alias: bitcoin::NAME, ..Setup::bitcoin(&bitcoin.node, Some(bitcoin.node.zmq())) };
    let setup = Setup { beside: vec![beside], ..Setup::of(&evm.anvil) };
    let mut service = Service::in_folder(binary, setup, folder.clone());
    service.spawn();
    service.wait_until_ready().await;
    let (anvil, bitcoind) = (evm.anvil.http(), bitcoin.node.http());
    say(&format!("anvil at {anvil}, bitcoind at {bitcoind}, the service at {}", service.grpc()))?;
    say(&format!("its store in {}\n", folder.display()))?;
    let mut client = service.client().await;
    let mut show = Show::new();
    play(&mut evm, &mut bitcoin, &mut client, &mut show).await?;
    let wrong = check(&mut client, &show.scenes, &folder.join("artefacts")).await?;
    ensure!(service.stop().await, "the service did not end well:\n{}", service.log());
    if !wrong.is_empty() {
        bail!("not as it should be: {}", wrong.join("; "));
    }
    let artefacts = folder.join("artefacts");
    say(&format!("\nall {} came out as they should; the artefacts lie in {}", show.scenes.len(), artefacts.display()))
}

/// The story, second by second.
async fn play(evm: &mut Evm, bitcoin: &mut Bitcoin, client: &mut Client, show: &mut Show) -> anyhow::Result<()> {
    evm.open(client, show).await;
    bitcoin.open(client, show).await;
    let request = v1::SubscribeRequest { after_sequence: Some(0), ..Default::default() };
    let mut events = client.subscribe(request).await;
    show.watch(&mut events, Duration::from_secs(2)).await?;
    evm.replace().await;
    for second in 1..=16 {
        evm.second(second, client, show).await;
        bitcoin.second(second, client, show).await;
        show.watch(&mut events, Duration::from_secs(1)).await?;
    }
    show.watch(&mut events, Duration::from_secs(10)).await
}

/// Writes the artefacts, and checks that each watch came out as expected and that its hash chain holds.
async fn check(client: &mut Client, scenes: &[Scene], folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut settled_by = BTreeMap::new();
    for scene in scenes {
        let receipts = client.receipts(&scene.id).await;
        let place = folder.join(scene.title.replace([' ', ','], "-"));
        std::fs::create_dir_all(&place)?;
        let mut previous: Option<String> = None;
        for receipt in &receipts {
            std::fs::write(place.join(artefact_name(&receipt.kind, receipt.index)), &receipt.bytes)?;
            let hash = hex::encode(Sha256::digest(&receipt.bytes));
            let linked = receipt.artefact["previous"].as_str().map(str::to_owned) == previous;
            if hash != receipt.receipt_hash || !linked {
                wrong.push(format!("{}: its hash chain is broken", scene.title));
            }
            previous = Some(hash);
        }
        let story: Vec<_> = receipts.iter().map(Seen::short).collect();
        let as_expected = scene.expected.iter().all(|step| story.contains(&(*step).to_owned()));
        let last = receipts.last().context("no receipt at all")?;
        if !as_expected || !last.kind.starts_with("settled") {
            wrong.push(format!("{}: {}", scene.title, story.join(", ")));
        }
        *settled_by.entry(last.short()).or_insert(0) += 1;
    }
    say("")?;
    for (outcome, count) in settled_by {
        say(&format!("{count} × {outcome}"))?;
    }
    Ok(wrong)
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
