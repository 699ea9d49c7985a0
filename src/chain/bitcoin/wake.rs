//! ZeroMQ notifications: hints that something is new, and raw transactions; never facts. bitcoind drops messages without a
//! word, skips blocks in a reorg, and loses subscribers when it restarts (research/bitcoin.md §2.2), so each hint leads to the
//! same reads that polling does beneath, and a gap in the counters to a comparison of the whole mempool.

use std::collections::HashMap;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Transaction, Txid};
use futures_util::stream::{BoxStream, StreamExt, select_all, unfold};
use zeromq::{Socket as _, SocketEvent, SocketRecv as _, SubSocket, ZmqMessage};

/// What is subscribed to.
const TOPICS: [&str; 3] = ["hashblock", "sequence", "rawtx"];
/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The pause after a failed connection, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a notification says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Connected anew, or messages were lost: everything has to be compared.
    Gap,
    /// Not connected any more.
    Down,
    /// A block joined the node's chain, or left it.
    Block,
    /// A transaction entered the mempool, or a block, or left one.
    Tx(Box<Transaction>),
    /// A transaction left the mempool, other than into a block.
    Removed(Txid),
}

type Events = futures_util::stream::Fuse<futures_channel::mpsc::Receiver<SocketEvent>>;

enum State {
    Apart { pauses: ExponentialBackoff },
    Together { socket: SubSocket, events: Events, counters: HashMap<Vec<u8>, u32> },
}

/// Hints from all of the URLs; without end, and none at all if there is no URL.
pub fn hints(urls: &[String]) -> BoxStream<'static, Hint> {
    if urls.is_empty() {
        return futures_util::stream::pending().boxed();
    }
    select_all(urls.iter().cloned().map(of_one)).boxed()
}

fn of_one(url: String) -> BoxStream<'static, Hint> {
    unfold(apart(), move |state| {
        let url = url.clone();
        async move {
            let mut state = state;
            loop {
                state = match state {
                    State::Together { mut socket, mut events, mut counters } => {
                        let hint = tokio::select! {
                            biased;
                            message = socket.recv() => message.map(|message| read(&message, &mut counters)),
                            event = events.select_next_some() => Ok(moved(&event)),
                        };
                        match hint {
                            Ok(Some(hint)) => return Some((hint, State::Together { socket, events, counters })),
                            Ok(None) => State::Together { socket, events, counters },
                            Err(_) => return Some((Hint::Down, apart())),
                        }
                    }
                    State::Apart { mut pauses } => match tokio::time::timeout(CONNECT_LIMIT, connect(&url)).await {
                        Ok(Some((socket, events))) => {
                            let counters = HashMap::new();
                            return Some((Hint::Gap, State::Together { socket, events, counters }));
                        }
                        _ => {
                            tracing::debug!("ZeroMQ not connected");
                            tokio::time::sleep(pauses.next().unwrap_or(PAUSE_MAX)).await;
                            State::Apart { pauses }
                        }
                    },
                };
            }
        }
    })
    .boxed()
}

fn apart() -> State {
    let pauses = ExponentialBuilder::default().with_min_delay(PAUSE).with_max_delay(PAUSE_MAX).with_jitter();
    State::Apart { pauses: pauses.without_max_times().build() }
}

/// Whether the connection was lost, or is there again: zeromq restores it by itself.
fn moved(event: &SocketEvent) -> Option<Hint> {
    match event {
        SocketEvent::Connected(..) => Some(Hint::Gap),
        SocketEvent::Disconnected(_) => Some(Hint::Down),
        _ => None,
    }
}

async fn connect(url: &str) -> Option<(SubSocket, Events)> {
    let mut socket = SubSocket::new();
    let events = socket.monitor().fuse();
    socket.connect(url).await.ok()?;
    for topic in TOPICS {
        socket.subscribe(topic).await.ok()?;
    }
    Some((socket, events))
}

/// Reads topic, body and counter. Whatever can't be read is no hint.
fn read(message: &ZmqMessage, counters: &mut HashMap<Vec<u8>, u32>) -> Option<Hint> {
    let (topic, body, counter) = (message.get(0)?, message.get(1)?, message.get(2)?);
    hint(topic, body, counter, counters)
}

/// What one message says, given the counters of those before it.
pub fn hint(topic: &[u8], body: &[u8], counter: &[u8], counters: &mut HashMap<Vec<u8>, u32>) -> Option<Hint> {
    let counter = u32::from_le_bytes(counter.try_into().ok()?);
    if !TOPICS.iter().any(|known| known.as_bytes() == topic) {
        return None;
    }
    let before = counters.insert(topic.to_vec(), counter);
    // A restarted node begins at 0 again. One that repeats itself has lost nothing.
    if before.is_some_and(|before| counter != before.wrapping_add(1) && counter != before) {
        return Some(Hint::Gap);
    }
    match (topic, body) {
        (b"hashblock", _) => Some(Hint::Block),
        (b"rawtx", body) => deserialize(body).ok().map(|tx| Hint::Tx(Box::new(tx))),
        (b"sequence", [hash @ .., b'R', _, _, _, _, _, _, _, _]) => {
            // In display order, other than the node's documents say.
            let mut hash: [u8; 32] = hash.try_into().ok()?;
            hash.reverse();
            Some(Hint::Removed(Txid::from_byte_array(hash)))
        }
        (b"sequence", [_, .., b'C' | b'D']) => Some(Hint::Block),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(messages: &[(&[u8], &[u8], u32)]) -> Vec<Option<Hint>> {
        let mut counters = HashMap::new();
        messages.iter().map(|(topic, body, n)| hint(topic, body, &n.to_le_bytes(), &mut counters)).collect()
    }

    #[test]
    fn counters_tell_what_was_lost() {
        let block: (&[u8], &[u8]) = (b"hashblock", &[0; 32]);
        let told = told(&[
            (block.0, block.1, 7),
            (block.0, block.1, 8),
            (block.0, block.1, 8),
            (block.0, block.1, 10),
            (block.0, block.1, 0),
        ]);
        let expected = [Hint::Block, Hint::Block, Hint::Block, Hint::Gap, Hint::Gap].map(Some);
        assert_eq!(told, expected, "the first, the next, a repeated one, one after a loss, one after a restart");
    }

    #[test]
    fn sequence_names_blocks_and_removals() {
        let mut body = [0xab; 32];
        body[0] = 0x01;
        let with = |tail: &[u8]| [&body[..], tail].concat();
        let removed = [b"R".as_slice(), &5_u64.to_le_bytes()].concat();
        let added = [b"A".as_slice(), &5_u64.to_le_bytes()].concat();
        let messages = [with(&removed), with(b"C"), with(b"D"), with(&added), vec![], vec![b'R'; 9]];
        let messages: Vec<_> = messages.iter().zip(0..).map(|(body, n)| (&b"sequence"[..], &body[..], n)).collect();
        let txid = format!("01{}", "ab".repeat(31)).parse().expect("a txid");
        assert_eq!(
            told(&messages),
            [Some(Hint::Removed(txid)), Some(Hint::Block), Some(Hint::Block), None, None, None]
        );
    }
}
