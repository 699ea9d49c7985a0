//! What a new block costs, in requests, while nothing matches.

use std::time::Duration;

use tokio::time::Instant;

use super::{BLOCK_TIME_MS, World, stranger};
use crate::peers::OPEN;
use crate::peers::open::{cost, in_words, open, quiet};
use crate::report::{Curve, Report, Row};
use crate::samples::each;
use crate::{progress, sizes};

/// Blocks of each figure.
const BLOCKS: u64 = 40;
/// What is asked about a watch when it is made.
const LOOK_UPS: [&str; 2] = ["eth_getTransactionByHash", "eth_getLogs"];

pub async fn run(report: &mut Report) -> Curve {
    let mut world = World::start(&[], true, |_| {}).await;
    let (mut points, mut made) = (Vec::new(), 0);
    for watches in sizes() {
        let requests = measure(&mut world, made..watches).await;
        if watches == OPEN {
            report.rows.push(row("heads by WebSocket", &requests));
        }
        points.push((watches, each(requests.requests, BLOCKS)));
        made = watches;
    }
    drop(world);
    let mut world = World::start(&[], false, |_| {}).await;
    report.rows.push(row("polling each block time", &measure(&mut world, 0..OPEN).await));
    Curve { name: "EVM".into(), points }
}

/// Opens these watches, and counts once nothing is asked about them any more.
async fn measure(world: &mut World, numbers: std::ops::Range<u64>) -> crate::peers::tap::Counts {
    let watches = numbers.end;
    let started = Instant::now();
    open(&mut world.client, numbers, |n| stranger(n, &world.token)).await;
    let opened = started.elapsed();
    let mut clock = Clock::start();
    let (tap, anvil, token) = (&world.tap, &world.anvil, &world.token);
    let looked = quiet(tap, &LOOK_UPS, async || clock.block(anvil, token, &mut world.client).await).await;
    progress(&format!("EVM: {watches} watches made in {opened:.1?}, looked up after {looked:.1?}"));
    cost(tap, BLOCKS, async || clock.block(anvil, token, &mut world.client).await).await
}

fn row(how: &str, counts: &crate::peers::tap::Counts) -> Row {
    let requests = each(counts.requests, BLOCKS);
    Row::of(format!("EVM, 10,000 open watches, a block that matches none, {how}"), "requests per block", requests)
        .bar("≤ 2", requests <= 2.0)
        .note(in_words(counts, BLOCKS))
}

/// Makes blocks at the pace of a chain.
struct Clock {
    next: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { next: Instant::now() }
    }

    /// A block with a native payment and a token payment to nobody who is watched, once it is time, and followed.
    async fn block(
        &mut self,
        anvil: &crate::support::anvil::Anvil,
        token: &str,
        client: &mut crate::support::client::Client,
    ) {
        anvil.pay(&format!("0x{}", "99".repeat(20)), 1).await;
        anvil.pay_token(token, &format!("0x{}", "98".repeat(20)), 1).await;
        tokio::time::sleep_until(self.next).await;
        self.next = self.next.max(Instant::now() - Duration::from_millis(50)) + Duration::from_millis(BLOCK_TIME_MS);
        anvil.mine(1).await;
        client.head(anvil.height().await).await;
    }
}
