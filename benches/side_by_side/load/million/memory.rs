//! What open watches take: the service's resident memory with them, less what it takes without.

use super::world::{Family, Kind, World, unpaid};
use crate::progress;
use crate::report::{Curve, Report, Row};
use crate::samples::figure;
use crate::support::client::now_ms;

/// Opens more and more of them; the service has the last number open.
pub async fn grow(families: &[Family], kind: Kind, sizes: &[u64], report: &mut Report) -> (Curve, World) {
    let name = match families {
        [family] => format!("{}, {}", family.name(), kind.name()),
        _ => format!("all families, {}", kind.name()),
    };
    let world = World::start(families).await;
    let deadline = now_ms() + 24 * 3_600_000;
    let of = families.to_vec();
    // What grows with the first ones is not theirs: connections, buffers, the store's files.
    world.open(0..1, move |n| unpaid(&of, kind, u64::MAX / 2 + n, deadline)).await;
    world.rest().await;
    let none = world.memory();
    let (mut points, mut open) = (Vec::new(), 0);
    for size in sizes {
        progress(&format!("memory: {size} watches, {name}"));
        let of = families.to_vec();
        let rate = world.open(open..*size, move |n| unpaid(&of, kind, n, deadline)).await;
        open = *size;
        world.rest().await;
        let each = |now: u64, before: u64| figure(now.saturating_sub(before) / 1024) * 1024.0 / figure(open);
        let now = world.memory();
        points.push((open, each(now.resident, none.resident)));
        if sizes.last() == Some(size) {
            let note = format!(
                "at most {:.0} while they were made, at {rate:.0} per second; {} MiB without any",
                each(now.peak, none.resident),
                none.resident / 1_048_576,
            );
            let bytes = each(now.resident, none.resident);
            let row = Row::of(format!("memory for each of {open} open watches: {name}"), "bytes", bytes);
            report.rows.push(row.bar("≤ 600 bytes", bytes <= 600.0).note(note));
        }
    }
    (Curve { name, points }, world)
}
