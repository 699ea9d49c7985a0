//! The whole service with up to a million open watches: what they take, and what happens to them at once.

mod blocks;
mod deadlines;
mod memory;
mod restart;
mod world;

use crate::report::{Plot, Report};

/// How many are open, for the curves.
const WATCHES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

pub async fn run(report: &mut Report) {
    let sizes = sizes();
    let mut curves = Vec::new();
    for (families, kind) in memory::curves() {
        let (curve, world) = memory::grow(&families, kind, &sizes, report).await;
        curves.push(curve);
        if kind == world::Kind::Mixed {
            with_all_open(world, report).await;
        }
    }
    report.plots.push(Plot {
        name: "memory",
        title: "Memory for each open watch, by open watches",
        figure: "bytes for each watch",
        curves,
    });
}

/// All of them have deadlines that fall in one minute.
pub async fn deadlines(report: &mut Report) {
    let sizes = sizes();
    deadlines::run(sizes[sizes.len() - 1], report).await;
}

/// What happens to the service that has them all.
async fn with_all_open(mut world: world::World, report: &mut Report) {
    blocks::run(&mut world, report).await;
    restart::run(&mut world, report).await;
}

/// The sizes of the curves; the environment may bound them.
fn sizes() -> Vec<u64> {
    let most = std::env::var("WATCHES_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let sizes: Vec<_> = WATCHES.into_iter().filter(|size| *size <= most).collect();
    if sizes.is_empty() { vec![most] } else { sizes }
}
