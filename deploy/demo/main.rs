//! The demo: a merchant's script against the real service on real nodes. Exits 0 only if each payment came out as it should.
//!
//! `make demo` installs the nodes, builds, and runs it.

#[path = "../../tests/support/mod.rs"]
mod support;

mod bitcoin;
mod evm;
mod show;
mod solana;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};
use bitcoin::Bitcoin;
use evm::Evm;
use h402_watch::cli::{artefact_name, signature_name};
use h402_watch_proto::v1;
use h402_watch_verify::evidence::Evidence;
use h402_watch_verify::jwks::Keys;
use show::{Scene, Show};
use solana::{SLOTS, Solana};
use support::client::{Client, Seen};
use support::proofs;
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
    say("h402-watch demo: a merchant watches payments on an EVM chain, on Bitcoin and on Solana")?;
    say(&format!("anvil and bitcoind mine a block a second, Solana's node seals {SLOTS} slots"))?;
    let mut chains = Chains { evm: Evm::start().await, bitcoin: Bitcoin::start().await, solana: Solana::start().await };
    let mut service = Service::in_folder(&binary, chains.setup(), folder.clone());
    service.spawn();
    service.wait_until_ready().await;
    let nodes = [chains.evm.anvil.http(), chains.bitcoin.node.http(), chains.solana.node.http()];
    say(&format!("the nodes at {}, the service at {}", nodes.join(", "), service.grpc()))?;
    say(&format!("its store in {}\n", folder.display()))?;
    let mut client = service.client().await;
    let mut show = Show::new();
    chains.play(&mut client, &mut show).await?;
    let artefacts = folder.join("artefacts");
    std::fs::create_dir_all(&artefacts)?;
    let key_set = service.key_set().await;
    std::fs::write(artefacts.join("jwks.json"), &key_set)?;
    let (wrong, evidence) = check(&mut client, &show.scenes, &artefacts).await?;
    let keys = Keys::parse(key_set.as_bytes())?;
    ensure!(service.stop().await, "the service did not end well:\n{}", service.log());
    if !wrong.is_empty() {
        bail!("not as it should be: {}", wrong.join("; "));
    }
    verify(&binary, &artefacts)?;
    spoil(&evidence, &keys)?;
    let (count, artefacts) = (show.scenes.len(), artefacts.display());
    say(&format!(
        "\nall {count} came out as they should; the artefacts, their signatures and jwks.json lie in {artefacts}"
    ))
}

/// What an auditor does with what is left when nodes and service are gone.
fn verify(binary: &Path, artefacts: &Path) -> anyhow::Result<()> {
    let keys = artefacts.join("jwks.json");
    say(&format!("\nh402-watch verify --jwks {} {}", keys.display(), artefacts.display()))?;
    let verified = Command::new(binary).arg("verify").arg("--jwks").arg(keys).arg(artefacts).output()?;
    let lines = String::from_utf8_lossy(&verified.stdout).replace(&format!("{}/", artefacts.display()), "");
    for line in lines
        .lines()
        .filter(|line| line.contains("settled.json") || !(line.contains(": ok") || line.starts_with("complete")))
    {
        say(line)?;
    }
    ensure!(verified.status.success(), "not all artefacts could be verified");
    Ok(())
}

/// What a forger does.
fn spoil(evidence: &[Evidence], keys: &Keys) -> anyhow::Result<()> {
    let (changes, codes) = proofs::tamper(evidence, keys);
    let codes: Vec<_> = codes.into_iter().map(|(code, count)| format!("{count} × {code}")).collect();
    say(&format!("changed each byte of them, {changes} changes, one at a time: all refused ({})", codes.join(", ")))
}

/// What is paid on.
struct Chains {
    evm: Evm,
    bitcoin: Bitcoin,
    solana: Solana,
}

impl Chains {
    /// One service for all of them.
    fn setup(&self) -> Setup {
        let (bitcoind, solnode) = (&self.bitcoin.node, &self.solana.node);
        let proving = || "proofs = true".to_owned();
        let bitcoin =
            Setup { alias: bitcoin::NAME, network: proving(), ..Setup::bitcoin(bitcoind, Some(bitcoind.zmq())) };
        let endpoint = (solnode.http(), Some(solnode.ws()));
        let solana =
            Setup { alias: solana::NAME, network: proving(), ..Setup::solana(&solnode.network(), &[endpoint]) };
        Setup { beside: vec![bitcoin, solana], network: proving(), ..Setup::of(&self.evm.anvil) }
    }

    /// The story, second by second.
    async fn play(&mut self, client: &mut Client, show: &mut Show) -> anyhow::Result<()> {
        self.evm.open(client, show).await;
        self.bitcoin.open(client, show).await;
        self.solana.open(client, show).await;
        let request = v1::SubscribeRequest { after_sequence: Some(0), ..Default::default() };
        let mut events = client.subscribe(request).await;
        show.watch(&mut events, Duration::from_secs(2)).await?;
        self.evm.replace().await;
        for second in 1..=16 {
            self.evm.second(second, client, show).await;
            self.bitcoin.second(second, client, show).await;
            self.solana.second(second, client, show).await;
            show.watch(&mut events, Duration::from_secs(1)).await?;
        }
        show.watch(&mut events, Duration::from_secs(10)).await
    }
}

/// Writes the artefacts and their signatures, and checks that each watch came out as expected.
async fn check(client: &mut Client, scenes: &[Scene], folder: &Path) -> anyhow::Result<(Vec<String>, Vec<Evidence>)> {
    let (mut wrong, mut evidence) = (Vec::new(), Vec::new());
    let mut settled_by = BTreeMap::new();
    for scene in scenes {
        let receipts = client.receipts(&scene.id).await;
        let place = folder.join(scene.title.replace([' ', ','], "-"));
        std::fs::create_dir_all(&place)?;
        for receipt in &receipts {
            let name = artefact_name(&receipt.kind, receipt.index);
            std::fs::write(place.join(&name), &receipt.bytes)?;
            std::fs::write(place.join(signature_name(&name)), &receipt.signature)?;
        }
        evidence.extend(proofs::evidence(&receipts));
        let story: Vec<_> = receipts.iter().map(Seen::short).collect();
        let as_expected = scene.expected.iter().all(|step| story.contains(&(*step).to_owned()));
        if !as_expected {
            wrong.push(format!("{}: {}", scene.title, story.join(", ")));
        }
        let outcome = story.into_iter().find(|step| step.starts_with("settled"));
        *settled_by.entry(outcome.unwrap_or_else(|| "not settled".into())).or_insert(0) += 1;
    }
    say("")?;
    for (outcome, count) in settled_by {
        say(&format!("{count} × {outcome}"))?;
    }
    Ok((wrong, evidence))
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
