//! What is kept of the runs so far: the table, the curves, and the machine that each figure was measured on. A run of some
//! sections replaces what they have here, and leaves the others'.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::report::{self, Report, number};

/// What the figures depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory: String,
    pub kernel: String,
    /// Of the service.
    pub version: String,
}

impl Machine {
    pub fn this() -> Self {
        let of_file = |path: &str, label: &str| {
            let text = std::fs::read_to_string(Path::new(path)).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(label)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: of_file("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory: of_file("/proc/meminfo", "MemTotal"),
            kernel: kernel.trim().into(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn line(&self) -> String {
        let Self { processor, cores, memory, kernel, version } = self;
        format!("{processor}, {cores} cores, {memory} of memory, Linux {kernel}, h402-watch {version}")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub of: String,
    pub value: f64,
    /// Ours over this; not where this is nothing.
    pub ratio: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    pub asks: String,
    pub met: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub section: String,
    pub what: String,
    pub unit: String,
    pub ours: f64,
    pub peer: Option<Figure>,
    pub limit: Option<Figure>,
    pub bar: Option<Bar>,
    pub note: String,
    pub machine: Machine,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub section: String,
    pub name: String,
    /// Watches, and the figure.
    pub points: Vec<(u64, f64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// The file's name, without its ending.
    pub name: String,
    pub title: String,
    pub figure: String,
    pub curves: Vec<Curve>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub rows: Vec<Row>,
    pub plots: Vec<Plot>,
}

impl Results {
    /// What earlier runs left in a file; nothing if there is none.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Puts what a section measured in the place of what it measured before. `order`: all sections, as the table has them.
    pub fn replace(&mut self, section: &str, report: Report, machine: &Machine, order: &[&str]) {
        let place = |name: &str| order.iter().position(|it| *it == name);
        // Nor does a section that there is no more leave anything.
        let stays = |of: &str| of != section && place(of).is_some();
        self.rows.retain(|row| stays(&row.section));
        self.rows.extend(report.rows.into_iter().map(|it| row(section, it, machine)));
        self.rows.sort_by_key(|row| place(&row.section));
        for plot in &mut self.plots {
            plot.curves.retain(|curve| stays(&curve.section));
        }
        for report::Plot { name, title, figure, curves } in report.plots {
            let at = self.plots.iter().position(|plot| plot.name == name).unwrap_or_else(|| {
                self.plots.push(Plot {
                    name: name.into(),
                    title: String::new(),
                    figure: String::new(),
                    curves: Vec::new(),
                });
                self.plots.len() - 1
            });
            let plot = &mut self.plots[at];
            (plot.title, plot.figure) = (title.into(), figure.into());
            let curve = |report::Curve { name, points }| Curve { section: section.into(), name, points };
            plot.curves.extend(curves.into_iter().map(curve));
            plot.curves.sort_by_key(|curve| place(&curve.section));
        }
        self.plots.retain(|plot| !plot.curves.is_empty());
    }

    /// The table, in Markdown, with the machines below it.
    pub fn table(&self) -> String {
        let mut table = String::from(
            "| what | unit | ours | peer | ours / peer | limit | ours / limit | bar | met |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        let mut machines: Vec<(&Machine, Vec<&str>)> = Vec::new();
        for row in &self.rows {
            let beside = |figure: &Option<Figure>| match figure {
                Some(Figure { of, value, ratio }) => {
                    (format!("{} ({of})", number(*value)), ratio.map(number).unwrap_or_default())
                }
                None => Default::default(),
            };
            let ((peer, to_peer), (limit, to_limit)) = (beside(&row.peer), beside(&row.limit));
            let (asks, met) =
                row.bar.as_ref().map_or(("", ""), |bar| (&bar.asks, if bar.met { "yes" } else { "**no**" }));
            let what = if row.note.is_empty() { row.what.clone() } else { format!("{} ({})", row.what, row.note) };
            let (unit, ours) = (&row.unit, number(row.ours));
            let line = [&what, unit, &ours, &peer, &to_peer, &limit, &to_limit, asks, met].map(cell);
            let _ = writeln!(table, "| {} |", line.join(" | "));
            match machines.iter_mut().find(|(machine, _)| **machine == row.machine) {
                Some((_, sections)) if sections.contains(&row.section.as_str()) => {}
                Some((_, sections)) => sections.push(&row.section),
                None => machines.push((&row.machine, vec![&row.section])),
            }
        }
        for (machine, sections) in machines {
            let _ = write!(table, "\nMeasured on {} ({}).\n", cell(&machine.line()), sections.join(", "));
        }
        table
    }
}

/// Text that does not end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn row(section: &str, row: report::Row, machine: &Machine) -> Row {
    let report::Row { what, unit, ours, peer, limit, bar, note } = row;
    let figure = |report::Figure { of, value }| {
        let ratio = Some(ours / value).filter(|ratio| ratio.is_finite());
        Figure { of: of.into(), value, ratio }
    };
    Row {
        section: section.into(),
        what,
        unit: unit.into(),
        ours,
        peer: peer.map(figure),
        limit: limit.map(figure),
        bar: bar.map(|report::Bar { asks, met }| Bar { asks: asks.into(), met }),
        note,
        machine: machine.clone(),
    }
}
