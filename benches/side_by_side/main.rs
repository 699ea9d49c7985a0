//! What watches cost, beside what people use today and beside what nobody can go below, in one run: one table, printed and
//! written to `benches/results/`. `make bench`, or `cargo bench --bench side_by_side -- SECTION…` for some of its sections:
//! what the others measured before stays in the table. `WATCHES_MAX` in the environment bounds how many watches are open.

mod load;
mod peers;
mod plot;
mod process;
mod report;
mod results;
mod samples;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write as _;
use std::path::Path;

use report::Report;
use results::{Machine, Results};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results");
/// The service, as it is released.
const BINARY: &str = env!("CARGO_BIN_EXE_h402-watch");
/// How many watches are open, for the curves.
const WATCHES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// All sections, as the table has them. What stands before a dash names all that begin with it.
const SECTIONS: [&str; 16] = [
    "evm-requests",
    "evm-in-flight",
    "evm-latency",
    "evm-memory",
    "bitcoin-requests",
    "bitcoin-waiting",
    "solana-requests",
    "solana-waiting",
    "solana-memory",
    "creates",
    "streams",
    "million-evm",
    "million-bitcoin",
    "million-solana",
    "million-mixed",
    "deadlines",
];

fn main() -> anyhow::Result<()> {
    // What cargo itself says to a bench is not for us.
    let named: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(arguments) = peers::as_peer(&named) {
        runtime.block_on(peers::act(arguments));
        return Ok(());
    }
    if let Some(unknown) = named.iter().find(|name| !SECTIONS.iter().any(|section| is_named(section, name))) {
        anyhow::bail!("{unknown}: expected sections out of {}, or none for all", SECTIONS.join(", "));
    }
    let wanted =
        SECTIONS.into_iter().filter(|section| named.is_empty() || named.iter().any(|name| is_named(section, name)));
    let folder = Path::new(FOLDER);
    std::fs::create_dir_all(folder)?;
    let kept = folder.join("side_by_side.json");
    let machine = Machine::this();
    let mut results = Results::read(&kept)?;
    for section in wanted {
        let mut report = Report::default();
        runtime.block_on(run(section, &mut report));
        results.replace(section, report, &machine, &SECTIONS);
        // After each, since all of them take a while.
        std::fs::write(&kept, serde_json::to_string_pretty(&results)? + "\n")?;
        std::fs::write(folder.join("table.md"), results.table())?;
        for plot in &results.plots {
            plot::draw(plot, folder)?;
        }
    }
    write!(std::io::stdout(), "{}", results.table())?;
    Ok(())
}

fn is_named(section: &str, name: &str) -> bool {
    section.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Says how far a run is, on the standard error: it takes minutes.
fn progress(what: &str) {
    // Nobody may listen.
    let _ = writeln!(std::io::stderr(), "… {what}");
}

/// The sizes of the curves; `WATCHES_MAX` in the environment may bound them.
fn sizes() -> Vec<u64> {
    let most = std::env::var("WATCHES_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let sizes: Vec<_> = WATCHES.into_iter().filter(|size| *size <= most).collect();
    if sizes.is_empty() { vec![most] } else { sizes }
}

async fn run(section: &str, report: &mut Report) {
    match section {
        "creates" => load::creates::run(report).await,
        "streams" => load::streams::run(report).await,
        "deadlines" => load::million::deadlines(report).await,
        _ if is_named(section, "million") => load::million::run(section, report).await,
        _ => peers::run(section, report).await,
    }
}
