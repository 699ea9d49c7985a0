//! A table that moves.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::bail;
use h402_watch_proto::v1;

use crate::say;
use crate::support::client::{Client, Seen};

/// One payment and what should become of it.
pub struct Scene {
    pub title: &'static str,
    pub asks: &'static str,
    pub expected: &'static [&'static str],
    pub id: String,
    pub story: Vec<String>,
}

impl Scene {
    /// Settled, with all that should have happened.
    fn is_over(&self) -> bool {
        let is_settled = self.story.iter().any(|step| step.starts_with("settled"));
        is_settled && self.expected.iter().all(|step| self.story.iter().any(|it| it == step))
    }
}

/// What is on the screen.
pub struct Show {
    pub scenes: Vec<Scene>,
    drawn: usize,
    live: bool,
}

impl Show {
    /// On a terminal the table is drawn anew with each event.
    pub fn new() -> Self {
        Self { scenes: Vec::new(), drawn: 0, live: std::io::stdout().is_terminal() }
    }

    pub async fn open(
        &mut self,
        client: &mut Client,
        (title, asks): (&'static str, &'static str),
        expected: &'static [&'static str],
        asked: v1::WatchSpec,
    ) {
        let id = client.create(asked).await;
        self.scenes.push(Scene { title, asks, expected, id, story: Vec::new() });
    }

    fn is_over(&self) -> bool {
        self.scenes.iter().all(Scene::is_over)
    }

    /// Shows events as they come, for a while, or until all is over.
    pub async fn watch(
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
