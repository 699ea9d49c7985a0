//! The Electrum servers of a network: asked in turn for headers, which are recomputed, linked and counted.

use std::sync::Arc;

use bitcoin::{BlockHash, Network};
use h402_watch_engine::id::BlockRef;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;

use super::super::header::Placed;
use super::super::text::{self, Link};
use super::server::{Call, Server, header_call, headers_call};
use crate::chain::pool::Answer;
use crate::chain::walk::{At, Chain};
use crate::chain::{EndpointHealth, EndpointSettings};

/// The largest height that is believed.
const HEIGHT_MAX: u64 = 1 << 32;

/// A server's answer to `blockchain.headers.subscribe`.
#[derive(Debug, Deserialize)]
struct RpcTip {
    height: u64,
    hex: String,
}

/// A server's answer to `blockchain.block.headers`: one text until version 1.4 of the protocol, a list from 1.6 on.
#[derive(Debug, Deserialize)]
struct RpcHeaders {
    #[serde(default)]
    hex: String,
    #[serde(default)]
    headers: Vec<String>,
}

impl RpcHeaders {
    fn placed(&self, from: u64) -> Result<Vec<Placed>, String> {
        let cut = |start: usize| self.hex.get(start..start + 160).unwrap_or_default();
        let whole = (0..self.hex.len()).step_by(160).map(cut);
        let all = whole.chain(self.headers.iter().map(String::as_str));
        all.zip(from..).map(|(hex, height)| Placed::read(hex, height)).collect()
    }
}

/// The servers, the preferred one first.
pub struct Servers {
    all: Vec<Server>,
    network: Network,
    genesis: BlockHash,
}

impl Servers {
    /// `wake` is told of announcements.
    pub fn new(network: Network, settings: &[EndpointSettings], wake: &Arc<Notify>) -> Self {
        let all = settings.iter().map(|one| Server::new(one.clone(), Arc::clone(wake))).collect();
        Self { all, network, genesis: text::genesis(network) }
    }

    pub fn network(&self) -> Network {
        self.network
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn at(&self, index: usize) -> &Server {
        &self.all[index]
    }

    pub fn health(&self) -> Vec<EndpointHealth> {
        self.all.iter().map(Server::health).collect()
    }

    /// The highest block that a server claims.
    pub fn tip_claimed(&self) -> Option<BlockRef> {
        self.all.iter().filter_map(Server::tip).max_by_key(|tip| tip.height)
    }

    /// Whether a server may be asked: not resting, and of the right chain. That is asked for on each connection.
    pub async fn is_usable(&self, index: usize) -> bool {
        let server = &self.all[index];
        if !server.is_up() {
            return false;
        }
        if server.is_checked() {
            return true;
        }
        let Ok(said) = server.ask(vec![header_call(0)]).await else { return false };
        match first_header(&said, 0) {
            Ok(Some(placed)) if placed.link.hash == self.genesis => {
                server.set_checked();
                true
            }
            Ok(_) => {
                server.quarantine(format!("a chain that does not begin as {} does", self.network));
                false
            }
            Err(why) => {
                server.blame(&why);
                false
            }
        }
    }

    /// The tip of one server, which announces the next one from then on.
    pub async fn tip_of(&self, index: usize) -> Result<Placed, String> {
        let server = &self.all[index];
        let mut said = server.ask(vec![("blockchain.headers.subscribe", Vec::new())]).await?;
        let tip = said.pop().and_then(Result::ok).and_then(|value| serde_json::from_value::<RpcTip>(value).ok());
        let tip = tip.filter(|tip| tip.height <= HEIGHT_MAX).ok_or_else(|| server.blame("no tip"))?;
        let placed = Placed::read(&tip.hex, tip.height).map_err(|why| server.blame(&why))?;
        server.set_tip(placed.link.block_ref());
        Ok(placed)
    }

    /// The tip of the first server that can be asked, from `start` on.
    pub async fn tip(&self, start: usize) -> Answer<Placed> {
        let mut failure = String::from("no endpoint is up");
        for offset in 0..self.len() {
            let index = (start + offset) % self.len();
            if !self.is_usable(index).await {
                continue;
            }
            match self.tip_of(index).await {
                Ok(tip) => return Answer::Found(index, tip),
                Err(error) => failure = error,
            }
        }
        Answer::Failed(failure)
    }

    /// The header that one server has at a height, if it has one.
    pub async fn header_of(&self, index: usize, height: u64) -> Result<Option<Placed>, String> {
        let said = self.all[index].ask(vec![header_call(height)]).await?;
        first_header(&said, height).map_err(|why| self.all[index].blame(&why))
    }

    /// A server's answers to calls, those from `start` on asked until `read` finds something.
    async fn first<T>(&self, start: usize, call: Call, read: impl Fn(Value) -> Result<Option<T>, String>) -> Answer<T> {
        let (mut absent, mut failure) = (false, String::from("no endpoint is up"));
        for offset in 0..self.len() {
            let index = (start + offset) % self.len();
            if !self.is_usable(index).await {
                continue;
            }
            let server = &self.all[index];
            match server.ask(vec![call.clone()]).await.map(|mut said| said.pop()) {
                Ok(Some(Ok(value))) => match read(value) {
                    Ok(Some(found)) => return Answer::Found(index, found),
                    Ok(None) => absent = true,
                    Err(why) => failure = server.blame(&why),
                },
                Ok(_) => absent = true,
                Err(error) => failure = error,
            }
        }
        if absent { Answer::Absent } else { Answer::Failed(failure) }
    }

    /// How many of these blocks, from the lowest on, a server has in its chain.
    async fn has(&self, index: usize, blocks: &[Placed]) -> usize {
        let Some(lowest) = blocks.first() else { return 0 };
        if !self.is_usable(index).await {
            return 0;
        }
        let from = lowest.link.height;
        let count = u64::try_from(blocks.len()).unwrap_or(u64::MAX);
        let Ok(mut said) = self.all[index].ask(vec![headers_call(from, count)]).await else { return 0 };
        let Some(Ok(value)) = said.pop() else { return 0 };
        let Ok(theirs) = read_headers(value, from) else { return 0 };
        blocks.iter().zip(theirs).take_while(|(ours, theirs)| ours.link == theirs.link).count()
    }
}

/// The header that was asked for, if there is one.
fn first_header(said: &[Result<Value, String>], height: u64) -> Result<Option<Placed>, String> {
    let Some(Ok(value)) = said.first() else { return Ok(None) };
    // With a checkpoint the header is in an object; none is asked for.
    let hex = value.as_str().ok_or("a header that can't be read")?;
    Placed::read(hex, height).map(Some)
}

fn read_headers(value: Value, from: u64) -> Result<Vec<Placed>, String> {
    let headers: RpcHeaders = serde_json::from_value(value).map_err(|_| "headers that can't be read".to_owned())?;
    headers.placed(from)
}

impl Chain for Servers {
    type Hash = BlockHash;
    type Block = Placed;

    fn link(block: &Placed) -> Link {
        block.link
    }

    async fn parent(&self, of: &Placed) -> Answer<Placed> {
        let of = &of.link;
        let Some(height) = of.height.checked_sub(1) else { return Answer::Absent };
        // Another server may be on another branch: that is no fault of its.
        let ours = |value: Value| {
            let placed = first_header(&[Ok(value)], height)?;
            Ok(placed.filter(|placed| placed.link.hash == of.parent))
        };
        self.first(0, header_call(height), ours).await
    }

    async fn range(&self, start: usize, from: At, count: u64) -> Answer<Vec<Placed>> {
        let most = usize::try_from(count).unwrap_or(usize::MAX);
        let linked = |value: Value| {
            let mut placed = read_headers(value, from.height)?;
            placed.truncate(most);
            // A reorg while it was answering.
            let breaks = placed.windows(2).position(|pair| pair[1].link.parent != pair[0].link.hash);
            placed.truncate(breaks.map_or(placed.len(), |at| at + 1));
            Ok((!placed.is_empty()).then_some(placed))
        };
        self.first(start, headers_call(from.height, count), linked).await
    }

    async fn agreeing(&self, beside: usize, link: &Link) -> usize {
        let mut agreeing = 0;
        for index in (0..self.len()).filter(|index| *index != beside) {
            if !self.is_usable(index).await {
                continue;
            }
            let theirs = self.header_of(index, link.height).await;
            agreeing += usize::from(theirs.is_ok_and(|theirs| theirs.is_some_and(|theirs| theirs.link == *link)));
        }
        agreeing
    }

    async fn agreed_prefix(&self, supplier: Option<usize>, blocks: &[Placed], quorum: usize) -> usize {
        let mut prefixes = Vec::new();
        for index in 0..self.len() {
            prefixes.push(if supplier == Some(index) { blocks.len() } else { self.has(index, blocks).await });
        }
        prefixes.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        prefixes.get(quorum.saturating_sub(1)).copied().unwrap_or(0)
    }
}
