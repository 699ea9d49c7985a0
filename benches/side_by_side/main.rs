//! What watches cost, beside what people use today and beside what nobody can go below, in one run: one table, printed and
//! written to `benches/results/`. `make bench`, or `cargo bench --bench side_by_side -- SECTION…` for some of its sections.

#[path = "../../tests/support/mod.rs"]
mod support;

mod peers;
mod report;

use std::io::Write as _;

use report::Report;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    // What cargo adds is no section.
    let sections: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(arguments) = peers::as_peer(&sections) {
        peers::act(arguments).await;
        return Ok(());
    }
    let mut report = Report::default();
    peers::run(&sections, &mut report).await;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report.table())?;
    serde_json::to_writer_pretty(&mut out, &report.to_json())?;
    Ok(())
}
