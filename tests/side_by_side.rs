//! What the table of the benchmark is made of: figures in few digits, and runs of some sections that leave the others'.

#![allow(dead_code, reason = "what the benchmark alone needs")]

#[path = "../benches/side_by_side/plot.rs"]
mod plot;
#[path = "../benches/side_by_side/report.rs"]
mod report;
#[path = "../benches/side_by_side/results.rs"]
mod results;

use report::{Curve, Plot, Report, Row, number};
use results::{Machine, Results};

const SECTIONS: [&str; 3] = ["first", "second", "third"];

#[test]
fn figures_have_three_digits_that_count() {
    let cases = [
        (0.0, "0"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (123.45, "123"),
        (999.9, "1,000"),
        (1_234_567.0, "1,234,567"),
        (-12_345.6, "-12,346"),
        (0.012_345, "0.0123"),
        (f64::NAN, "NaN"),
    ];
    for (value, text) in cases {
        assert_eq!(number(value), text, "{value}");
    }
}

fn machine() -> Machine {
    Machine { processor: "Z80".into(), cores: 1, memory: "64 kB".into(), kernel: "0.1".into(), version: "1.2.3".into() }
}

fn measured(rows: &[(&str, f64)], curve: &[(u64, f64)]) -> Report {
    let row = |(what, ours): &(&str, f64)| Row::of(*what, "ms", *ours).limit("bare", 2.0).bar("≤ 5 ms", *ours <= 5.0);
    let curves = vec![Curve { name: rows[0].0.into(), points: curve.to_vec() }];
    let plot = Plot { name: "memory", title: "Memory", figure: "bytes", curves };
    Report { rows: rows.iter().map(row).collect(), plots: vec![plot] }
}

#[test]
fn a_section_replaces_what_it_measured_before_and_nothing_else() {
    let mut results = Results::default();
    results.replace("third", measured(&[("c", 1.0)], &[(1_000, 3.0)]), &machine(), &SECTIONS);
    results.replace("first", measured(&[("a", 1.0), ("b", 6.0)], &[(1_000, 1.0)]), &machine(), &SECTIONS);
    let other = Machine { cores: 2, ..machine() };
    results.replace("third", measured(&[("d", 4.0)], &[(1_000, 4.0)]), &other, &SECTIONS);
    let rows: Vec<_> = results.rows.iter().map(|row| (row.what.as_str(), row.machine.cores)).collect();
    assert_eq!(rows, [("a", 1), ("b", 1), ("d", 2)], "in the order of sections");
    let curves: Vec<_> = results.plots[0].curves.iter().map(|curve| (curve.name.as_str(), curve.points[0].1)).collect();
    assert_eq!(curves, [("a", 1.0), ("d", 4.0)]);
    results.replace("first", Report::default(), &machine(), &SECTIONS);
    assert_eq!(results.rows.len(), 1);
    assert_eq!(results.plots[0].curves.len(), 1);
    results.replace("third", Report::default(), &machine(), &SECTIONS);
    assert_eq!(results, Results::default(), "nor a plot without curves");
}

#[test]
fn what_is_kept_is_read_back() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("results.json");
    assert_eq!(Results::read(&file).expect("none yet"), Results::default());
    let mut results = Results::default();
    // A ratio to nothing has no digits that JSON knows.
    let report =
        Report { rows: vec![Row::of("a", "ms", 1.0).peer("nothing", 0.0)], ..measured(&[("b", 1.0)], &[(1, 1.0)]) };
    results.replace("second", report, &machine(), &SECTIONS);
    std::fs::write(&file, serde_json::to_vec(&results).expect("JSON")).expect("writes");
    assert_eq!(Results::read(&file).expect("reads"), results);
    std::fs::write(&file, "{").expect("writes");
    assert!(Results::read(&file).is_err(), "what is damaged is not written over");
}

#[test]
fn the_table_says_what_is_met_and_on_which_machine() {
    let mut results = Results::default();
    results.replace("first", measured(&[("a", 1.0), ("b|c", 6.0)], &[(1, 1.0)]), &machine(), &SECTIONS);
    let table = results.table();
    assert!(table.contains("| a | ms | 1.00 |  |  | 2.00 (bare) | 0.500 | ≤ 5 ms | yes |"), "{table}");
    assert!(table.contains(r"| b\|c | ms | 6.00 |  |  | 2.00 (bare) | 3.00 | ≤ 5 ms | **no** |"), "{table}");
    assert!(table.contains("Z80, 1 cores, 64 kB of memory, Linux 0.1, h402-watch 1.2.3 (first)"), "{table}");
}

#[test]
fn a_plot_has_each_curve_and_survives_odd_figures() {
    let mut results = Results::default();
    let points = [(1_000, 512.0), (10_000, 480.0), (1_000_000, 450.0)];
    results.replace("first", measured(&[("EVM, addresses", 1.0)], &points), &machine(), &SECTIONS);
    results.replace("second", measured(&[("flat & <odd>", 1.0)], &[(1, 0.0), (10, f64::NAN)]), &machine(), &SECTIONS);
    let svg = plot::svg(&results.plots[0]).expect("is drawn");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for text in ["EVM, addresses", "flat &amp; &lt;odd&gt;", "open watches", "Memory"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "nothing is drawn where there is no figure");
}
