//! A node's ZMQ that loses, repeats, delays and reorders on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use zeromq::{PubSocket, Socket as _, SocketRecv as _, SocketSend as _, SubSocket, ZmqMessage};

/// What becomes of messages.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Pass,
    DropAll,
    /// Every n-th of each topic is lost.
    DropEvery(u32),
    /// Each comes twice.
    Duplicate,
    /// They wait for their release.
    Hold,
}

enum Order {
    Fate(Fate),
    Release,
}

pub struct ZmqProxy {
    pub port: u16,
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
    seen: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for ZmqProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ZmqProxy {
    /// Before a node's ZMQ, of which it takes all topics; honest at first.
    pub async fn start(upstream: &str) -> Self {
        let mut node = SubSocket::new();
        node.subscribe("").await.expect("subscribes");
        node.connect(upstream).await.expect("connects");
        let mut clients = PubSocket::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        clients.bind_listener(listener).await.expect("binds");
        let (orders, inbox) = mpsc::channel(1);
        let seen: Arc<AtomicU64> = Default::default();
        let task = tokio::spawn(carry(node, clients, inbox, Arc::clone(&seen)));
        Self { port, orders, seen, task }
    }

    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// What becomes of messages from now on. Those that are held stay so.
    pub async fn behave(&self, fate: Fate) {
        self.order(Order::Fate(fate)).await;
    }

    /// Sends what was held, the last one first, and passes from then on.
    pub async fn release(&self) {
        self.order(Order::Release).await;
    }

    /// Messages from the node so far.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    async fn order(&self, order: Order) {
        let (done, heard) = oneshot::channel();
        self.orders.send((order, done)).await.expect("the proxy runs");
        heard.await.expect("the proxy runs");
    }
}

async fn carry(
    mut node: SubSocket,
    mut clients: PubSocket,
    mut orders: mpsc::Receiver<(Order, oneshot::Sender<()>)>,
    seen: Arc<AtomicU64>,
) {
    let mut fate = Fate::Pass;
    let mut held: Vec<ZmqMessage> = Vec::new();
    loop {
        let message = tokio::select! {
            biased;
            order = orders.recv() => {
                let Some((order, done)) = order else { return };
                match order {
                    Order::Fate(new) => fate = new,
                    Order::Release => {
                        fate = Fate::Pass;
                        while let Some(message) = held.pop() {
                            clients.send(message).await.expect("sends");
                        }
                    }
                }
                // Nobody waits any more if the test ended.
                let _ = done.send(());
                continue;
            }
            message = node.recv() => message,
        };
        // The node went away; the socket connects again by itself.
        let Ok(message) = message else { continue };
        seen.fetch_add(1, Ordering::SeqCst);
        let copies = match fate {
            Fate::Pass => 1,
            Fate::DropAll => 0,
            Fate::DropEvery(n) => usize::from(!(counter(&message) + 1).is_multiple_of(n)),
            Fate::Duplicate => 2,
            Fate::Hold => {
                held.push(message);
                continue;
            }
        };
        for _ in 0..copies {
            clients.send(message.clone()).await.expect("sends");
        }
    }
}

/// The node counts the messages of each topic, from 0.
fn counter(message: &ZmqMessage) -> u32 {
    let frame = message.get(2).expect("a counter");
    u32::from_le_bytes(frame.as_ref().try_into().expect("four bytes"))
}
