//! What a section measured: rows of one table, and curves.

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

/// All that a section measured.
#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
    pub plots: Vec<Plot>,
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
