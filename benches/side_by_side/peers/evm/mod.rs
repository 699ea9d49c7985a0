//! EVM: anvil, and alloy beside us.

pub mod in_flight;
pub mod latency;
pub mod memory;
pub mod requests;

use alloy_primitives::B256;
use h402_watch_proto::v1;

use super::tap::Tap;
use crate::BINARY;
use crate::support::anvil::{Anvil, shop};
use crate::support::client::{Client, address, spec, tx, with};
use crate::support::service::{Service, Setup};

/// A block time that chains of today have, and short enough to measure many.
const BLOCK_TIME_MS: u64 = 500;

/// A node, the service before it through a relay of its own, and a client.
struct World {
    anvil: Anvil,
    tap: Tap,
    service: Service,
    client: Client,
    token: String,
}

impl World {
    /// With a WebSocket, or by polling alone.
    async fn start(arguments: &[&str], subscribes: bool, change: impl FnOnce(&mut Setup)) -> Self {
        let anvil = Anvil::start(&[&["--no-mining"], arguments].concat()).await;
        let token = anvil.token("TestERC20").await;
        let tap = Tap::before(anvil.port).await;
        let endpoints = vec![("anvil".into(), tap.http(), subscribes.then(|| tap.ws()))];
        let mut setup = Setup {
            endpoints,
            block_time_ms: BLOCK_TIME_MS,
            poll_interval_ms: BLOCK_TIME_MS,
            endpoint: "requests_per_second = 100000\n".into(),
            ..Setup::default()
        };
        change(&mut setup);
        let service = Service::start(BINARY, setup).await;
        let client = service.client().await;
        Self { anvil, tap, service, client, token }
    }
}

/// The n-th watch that nothing matches: one of four is on a transaction, the others are on addresses, for native coin and for
/// a token.
fn stranger(n: u64, token: &str) -> v1::WatchSpec {
    match n % 4 {
        0 => spec(tx(&format!("0x{n:064x}")), &shop(n), 100, 1),
        1 => spec(address(), &shop(n), 100, 1),
        _ => with(spec(address(), &shop(n), 100, 1), |terms| terms.asset = token.into()),
    }
}

fn hash(text: &str) -> B256 {
    text.parse().expect("a hash")
}
