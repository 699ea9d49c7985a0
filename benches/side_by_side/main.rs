//! What watches cost, beside what people use today and beside what nobody can go below, in one run: one table, printed and
//! written to `benches/results/`. `make bench`, or `cargo bench --bench side_by_side -- SECTION…` for some of its sections.

mod report;

use std::io::Write as _;

use report::Report;

fn main() -> std::io::Result<()> {
    let report = Report::default();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report.table())?;
    serde_json::to_writer_pretty(&mut out, &report.to_json())?;
    Ok(())
}
