//! Reading what happened to the scripts that are followed.

use bitcoin::BlockHash;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::book::read_history;
use super::follow::Follower;
use super::server::{history_call, status_call};

/// How often all statuses are asked for though no block came: a server may have missed to announce something.
const COMPARE_PERIOD: Duration = Duration::from_secs(60);

/// Under what all statuses were asked for: the server, its connection and its tip; and when.
pub struct ReadAt {
    server: usize,
    connection: u64,
    tip: BlockHash,
    at: Instant,
}

impl Follower {
    /// Whether there is something that was not read yet.
    pub(super) fn collect_announced(&mut self) {
        for index in 0..self.servers.len() {
            let announced = self.servers.at(index).announced();
            if self.read_at.as_ref().is_some_and(|read| read.server == index) {
                announced.scripts.iter().for_each(|hash| self.book.announced(hash));
                if announced.overflow {
                    self.read_at = None;
                }
            }
        }
    }

    /// Brings the book up to date with a server whose tip this is, or was a moment ago: after it, all histories are at least as
    /// new as that tip.
    pub(super) async fn read(&mut self, server: usize, tip: BlockHash) -> Result<(), String> {
        self.collect_announced();
        let connection = self.servers.at(server).connection();
        let whole = self.read_at.as_ref().is_none_or(|read| {
            (read.server, read.connection, read.tip) != (server, connection, tip) || read.at.elapsed() >= COMPARE_PERIOD
        });
        if whole {
            self.book.forgive();
        }
        self.book.sync(&self.mailbox.interests().interests);
        self.resolve(server).await?;
        self.read_histories(server, whole).await?;
        if self.servers.at(server).connection() != connection {
            // What was asked before is not subscribed to any more.
            self.read_at = None;
            return Err("the connection was made anew".into());
        }
        if whole {
            self.read_at = Some(ReadAt { server, connection, tip, at: Instant::now() });
        }
        Ok(())
    }

    /// Finds the scripts by which transactions and outputs are followed.
    async fn resolve(&mut self, server: usize) -> Result<(), String> {
        let needs = self.book.needs();
        let txs = self.transactions(server, needs.iter().map(|(_, need)| need.txid())).await?;
        for (key, need) in needs {
            if let Some(script) = txs.get(&need.txid()).and_then(|tx| self.book.script_for(need, tx)) {
                self.book.attach(&key, script);
            }
        }
        Ok(())
    }

    async fn read_histories(&mut self, server: usize, whole: bool) -> Result<(), String> {
        let scripts = self.book.to_ask(whole);
        let said = self.servers.at(server).ask(scripts.iter().map(|(_, hash)| status_call(hash)).collect()).await?;
        let mut changed = Vec::new();
        for (said, (script, hash)) in said.into_iter().zip(scripts) {
            match said {
                Err(why) => self.book.refuse(&script, &why)?,
                Ok(Value::Null) => self.book.note(&script, None, Vec::new()),
                Ok(Value::String(status)) => {
                    let status = Some(status);
                    if self.book.is_news(&script, &status) {
                        changed.push((script, hash, status));
                    }
                }
                Ok(_) => return Err(self.servers.at(server).blame("a status that can't be read")),
            }
        }
        let said = self.servers.at(server).ask(changed.iter().map(|(_, hash, _)| history_call(hash)).collect()).await?;
        for (said, (script, _, status)) in said.into_iter().zip(changed) {
            match said.and_then(read_history) {
                Ok(history) => self.book.note(&script, status, history),
                Err(why) => self.book.refuse(&script, &why)?,
            }
        }
        Ok(())
    }
}
