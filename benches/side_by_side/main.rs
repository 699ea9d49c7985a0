//! What watches cost, beside what people use today and beside what nobody can go below, in one run: one table, printed and
//! written to `benches/results/`. `make bench`, or `cargo bench --bench side_by_side -- SECTION…` for some of its sections:
//! what the others measured before stays in the table. `WATCHES_MAX` in the environment bounds how many watches are open.

mod load;
mod plot;
mod report;
mod results;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write as _;
use std::path::Path;

use report::Report;
use results::{Machine, Results};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results");
/// All sections, as the table has them.
const SECTIONS: [&str; 3] = ["creates", "streams", "million"];

fn main() -> anyhow::Result<()> {
    // What cargo itself says to a bench is not for us.
    let named: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(unknown) = named.iter().find(|name| !SECTIONS.contains(&name.as_str())) {
        anyhow::bail!("{unknown}: expected sections out of {}, or none for all", SECTIONS.join(", "));
    }
    let wanted = SECTIONS.into_iter().filter(|section| named.is_empty() || named.iter().any(|name| name == section));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
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

async fn run(section: &str, report: &mut Report) {
    match section {
        "creates" => load::creates::run(report).await,
        "streams" => load::streams::run(report).await,
        _ => load::million::run(report).await,
    }
}
