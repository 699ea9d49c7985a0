//! The demo: a merchant's script against the real service on a real node. Exits 0 only if each payment came out as it should.
//!
//! `make demo` installs anvil, builds, and runs it.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use h402_watch::cli::artefact_name;
use h402_watch_proto::v1;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use support::anvil::{Anvil, OTHER, PAYER, THIRD, shop};
use support::client::{Client, Seen, address, now_ms, spec, tx, with};
use support::service::{Service, Setup};

/// One payment and what should become of it.
struct Scene {
    title: &'static str,
    asks: &'static str,
    expected: &'static [&'static str],
    id: String,
    story: Vec<String>,
}

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
    say("h402-watch demo: anvil mines a block a second, a merchant watches eight payments")?;
    let anvil = Anvil::manual().await;
    let token = anvil.token("TestERC20").await;
    let mut service = Service::in_folder(binary, Setup::of(&anvil), folder.clone());
    service.spawn();
    service.wait_until_ready().await;
    say(&format!("anvil at {}, the service at {}, its store in {}\n", anvil.http(), service.grpc(), folder.display()))?;
    let mut client = service.client().await;
    let mut show = Show { scenes: Vec::new(), drawn: 0, live: std::io::stdout().is_terminal() };
    play(&anvil, &mut client, &token, &mut show).await?;
    let wrong = check(&mut client, &show.scenes, &folder.join("artefacts")).await?;
    ensure!(service.stop().await, "the service did not end well:\n{}", service.log());
    if !wrong.is_empty() {
        bail!("not as it should be: {}", wrong.join("; "));
    }
    say(&format!("\nall eight came out as they should; the artefacts lie in {}", folder.join("artefacts").display()))
}

/// The story, block by block.
async fn play(anvil: &Anvil, client: &mut Client, token: &str, show: &mut Show) -> anyhow::Result<()> {
    let native = anvil.pay(&shop(1), 1_000).await;
    let erc20 = anvil.pay_token(token, &shop(2), 2_500_000).await;
    let short = anvil.pay(&shop(4), 900).await;
    let twice = anvil.pay(&shop(5), 500).await;
    let slow = anvil.send(json!({ "from": OTHER, "to": shop(6), "value": "0x258", "gas": "0x5208" })).await;
    let never = format!("0x{}", "e1".repeat(32));
    let in_token = with(spec(tx(&erc20), &shop(2), 2_500_000, DEPTH), |terms| terms.asset = token.into());
    let soon = with(spec(tx(&never), &shop(8), 800, DEPTH), |terms| terms.deadline_ms = now_ms() + 9_000);
    let paid: &[&str] = &["settled:success"];
    let watches = [
        ("native payment", "1000 wei by hash", paid, spec(tx(&native), &shop(1), 1_000, DEPTH)),
        ("ERC-20 payment", "2.5 TST by hash", paid, in_token),
        ("to an address only", "300 wei to a fresh address", paid, spec(address(), &shop(3), 300, DEPTH)),
        ("underpaid", "1000 wei, 900 sent", &["settled:partial:underpaid"], spec(tx(&short), &shop(4), 1_000, DEPTH)),
        ("one hash, first use", "500 wei by hash", paid, spec(tx(&twice), &shop(5), 500, DEPTH)),
        (
            "one hash, second use",
            "the same transfer",
            &["settled:failed:already_claimed"],
            spec(tx(&twice), &shop(5), 499, DEPTH),
        ),
        (
            "replaced",
            "600 wei, then sent elsewhere",
            &["settled:failed:replaced"],
            spec(tx(&slow), &shop(6), 600, DEPTH),
        ),
        ("never comes", "800 wei within 9 s", &["settled:failed:deadline_passed"], soon),
    ];
    for (title, asks, expected, asked) in watches {
        show.open(client, title, asks, expected, asked).await;
    }
    let request = v1::SubscribeRequest { after_sequence: Some(0), ..Default::default() };
    let mut events = client.subscribe(request).await;
    show.watch(&mut events, Duration::from_secs(2)).await?;
    // The sender changes its mind.
    anvil.replace(&slow, THIRD, 600).await;
    let mut lost = (String::new(), String::new());
    for block in 1..=16 {
        match block {
            2 => drop(anvil.pay(&shop(3), 100).await),
            3 => drop(anvil.pay(&shop(3), 200).await),
            6 => {
                let hash = anvil.send(json!({ "from": PAYER, "to": shop(7), "value": "0x2bc", "gas": "0x5208" })).await;
                lost = (hash.clone(), anvil.raw(&hash).await);
                let asked = spec(tx(&hash), &shop(7), 700, DEPTH);
                show.open(client, "reorged out and back", "700 wei by hash", &["orphaned", "settled:success"], asked)
                    .await;
            }
            // The last two blocks are mined anew, without the payment; it comes back two blocks later.
            8 => drop(anvil.call("anvil_reorg", json!([2, []])).await),
            10 => drop(anvil.call("eth_sendRawTransaction", json!([lost.1])).await),
            _ => {}
        }
        anvil.mine(1).await;
        show.watch(&mut events, Duration::from_secs(1)).await?;
    }
    show.watch(&mut events, Duration::from_secs(10)).await
}

/// What is on the screen.
struct Show {
    scenes: Vec<Scene>,
    drawn: usize,
    live: bool,
}

impl Show {
    async fn open(
        &mut self,
        client: &mut Client,
        title: &'static str,
        asks: &'static str,
        expected: &'static [&'static str],
        asked: v1::WatchSpec,
    ) {
        let id = client.create(asked).await;
        self.scenes.push(Scene { title, asks, expected, id, story: Vec::new() });
    }

    fn is_over(&self) -> bool {
        self.scenes.iter().all(|scene| scene.story.last().is_some_and(|last| last.starts_with("settled")))
    }

    /// Shows events as they come, for a while, or until all is over.
    async fn watch(
        &mut self,
        events: &mut tonic::Streaming<v1::SubscribeResponse>,
        time: Duration,
    ) -> anyhow::Result<()> {
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        self.draw()?;
        while !self.is_over() {
            tokio::select! {
                () = &mut end => return Ok(()),
                response = events.message() => {
                    let Some(response) = response? else { bail!("the service ended the stream") };
                    let Some(event) = response.event.map(Seen::from) else { continue };
                    self.note(&event)?;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, event: &Seen) -> anyhow::Result<()> {
        let Some(scene) = self.scenes.iter_mut().find(|scene| scene.id == event.watch) else { return Ok(()) };
        scene.story.push(event.short());
        if self.live {
            return self.draw();
        }
        say(&format!("{:<22} {}", scene.title, event.short()))
    }

    /// The table, over the one before.
    fn draw(&mut self) -> anyhow::Result<()> {
        if !self.live {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        writeln!(out, "\x1b[2K\x1b[1m{:<22} {:<30} how it moves\x1b[0m", "payment", "asked")?;
        for scene in &self.scenes {
            let steps: Vec<_> = scene.story.iter().map(|step| colour(step)).collect();
            writeln!(out, "\x1b[2K{:<22} {:<30} {}", scene.title, scene.asks, steps.join(" → "))?;
        }
        self.drawn = self.scenes.len() + 1;
        Ok(out.flush()?)
    }
}

fn colour(step: &str) -> String {
    let code = match step {
        "settled:success" => "32;1",
        step if step.starts_with("settled:partial") => "33;1",
        step if step.starts_with("settled") => "31;1",
        "orphaned" | "evicted" | "replaced" => "35",
        _ => "36",
    };
    format!("\x1b[{code}m{}\x1b[0m", step.trim_start_matches("settled:"))
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
