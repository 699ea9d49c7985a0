//! The whole service with up to a million open watches: what they take, and what happens to them at once.

mod blocks;
mod deadlines;
mod memory;
mod restart;
mod world;

use crate::report::{Plot, Report};
use crate::sizes;

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
