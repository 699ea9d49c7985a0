//! The whole service with up to a million open watches: what they take, and what happens to them at once.

mod blocks;
mod deadlines;
mod memory;
mod restart;
mod world;

use crate::report::{Plot, Report};
use crate::sizes;

use world::{FAMILIES, Family, Kind};

const APART: &[Kind] = &[Kind::Transactions, Kind::Addresses];
const TOGETHER: &[Kind] = &[Kind::Mixed];

/// The watches of one family, of either kind; or those of all at once, and what happens to them then.
pub async fn run(section: &str, report: &mut Report) {
    let (families, kinds) = match section {
        "million-evm" => (vec![Family::Evm], APART),
        "million-bitcoin" => (vec![Family::Bitcoin], APART),
        "million-solana" => (vec![Family::Solana], APART),
        _ => (FAMILIES.to_vec(), TOGETHER),
    };
    let sizes = sizes();
    let mut curves = Vec::new();
    for kind in kinds {
        let (curve, world) = memory::grow(&families, *kind, &sizes, report).await;
        curves.push(curve);
        if families.len() > 1 {
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
