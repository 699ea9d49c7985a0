//! What was measured: rows of one table, curves, and the machine that it was measured on.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

/// A measured figure beside ours, and what it is of.
pub struct Figure {
    /// What it measures, in a few words: `alloy get_receipt`.
    pub of: &'static str,
    pub value: f64,
}

/// What DESIGN.md §9 asks, and whether this run met it.
pub struct Bar {
    pub asks: &'static str,
    pub met: bool,
}

/// One line of the table.
pub struct Row {
    /// What was done, with its size: `10,000 open watches, an empty block`.
    pub what: String,
    /// `requests`, `ms`, `bytes`, `per second`.
    pub unit: &'static str,
    pub ours: f64,
    /// What people use today, in the same run.
    pub peer: Option<Figure>,
    /// What cannot be gone below or above here: the bare fetches, the bare store, the bare stream.
    pub limit: Option<Figure>,
    pub bar: Option<Bar>,
    /// What limits it where a bar is not met, or what has to be known to read the figure.
    pub note: String,
}

impl Row {
    pub fn of(what: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { what: what.into(), unit, ours, peer: None, limit: None, bar: None, note: String::new() }
    }

    pub fn peer(self, of: &'static str, value: f64) -> Self {
        Self { peer: Some(Figure { of, value }), ..self }
    }

    pub fn limit(self, of: &'static str, value: f64) -> Self {
        Self { limit: Some(Figure { of, value }), ..self }
    }

    pub fn bar(self, asks: &'static str, met: bool) -> Self {
        Self { bar: Some(Bar { asks, met }), ..self }
    }

    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }
}

/// One line of a plot: a figure over the number of open watches.
pub struct Curve {
    /// `EVM, transactions`.
    pub name: String,
    /// Watches, and the figure.
    pub points: Vec<(u64, f64)>,
}

/// A plot over the number of open watches, on a logarithmic axis.
pub struct Plot {
    /// The file's name, without its ending.
    pub name: &'static str,
    pub title: &'static str,
    /// What the figures are, with their unit.
    pub figure: &'static str,
    pub curves: Vec<Curve>,
}

/// All that a run measured.
#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
    pub plots: Vec<Plot>,
}

impl Report {
    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let mut table = String::from(
            "| what | unit | ours | peer | ours / peer | limit | ours / limit | bar | met |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let beside = |figure: &Option<Figure>| match figure {
                Some(Figure { of, value }) => (format!("{} ({of})", number(*value)), number(row.ours / value)),
                None => Default::default(),
            };
            let ((peer, to_peer), (limit, to_limit)) = (beside(&row.peer), beside(&row.limit));
            let (asks, met) =
                row.bar.as_ref().map_or(("", ""), |bar| (bar.asks, if bar.met { "yes" } else { "**no**" }));
            let what = if row.note.is_empty() { row.what.clone() } else { format!("{} ({})", row.what, row.note) };
            let _ = writeln!(
                table,
                "| {what} | {} | {} | {peer} | {to_peer} | {limit} | {to_limit} | {asks} | {met} |",
                row.unit,
                number(row.ours),
            );
        }
        table
    }

    pub fn to_json(&self) -> Value {
        let beside = |figure: &Option<Figure>| figure.as_ref().map(|it| json!({ "of": it.of, "value": it.value }));
        let rows = self.rows.iter().map(|row| {
            json!({
                "what": row.what, "unit": row.unit, "ours": row.ours,
                "peer": beside(&row.peer), "limit": beside(&row.limit),
                "ratioToPeer": row.peer.as_ref().map(|peer| row.ours / peer.value),
                "ratioToLimit": row.limit.as_ref().map(|limit| row.ours / limit.value),
                "bar": row.bar.as_ref().map(|bar| json!({ "asks": bar.asks, "met": bar.met })),
                "note": row.note,
            })
        });
        let plots = self.plots.iter().map(|plot| {
            let curves = plot.curves.iter().map(|curve| json!({ "name": curve.name, "points": curve.points }));
            json!({ "name": plot.name, "figure": plot.figure, "curves": curves.collect::<Vec<_>>() })
        });
        json!({ "machine": machine(), "rows": rows.collect::<Vec<_>>(), "curves": plots.collect::<Vec<_>>() })
    }
}

/// What the figures depend on.
fn machine() -> Value {
    let of_file = |path: &str, label: &str| {
        let text = std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(label)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "processor": of_file("/proc/cpuinfo", "model name"), "cores": cores,
        "memory": of_file("/proc/meminfo", "MemTotal"), "kernel": kernel.trim(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// Three digits that count, with separators: 1,234 or 0.0123.
pub fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let places = 2.0 - value.abs().log10().floor();
    if places > 0.0 {
        return format!("{value:.*}", places.min(6.0).to_string().parse().unwrap_or(2));
    }
    let whole = format!("{value:.0}");
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole.as_str()), |digits| ("-", digits));
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}
