//! Curves over the number of open watches, as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::report::number;
use crate::results::Plot;

const SIZE: (u32, u32) = (960, 560);
/// Told apart by those who see few colours too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// Writes it to `<folder>/<its name>.svg`.
pub fn draw(plot: &Plot, folder: &Path) -> std::io::Result<()> {
    std::fs::write(folder.join(format!("{}.svg", plot.name)), svg(plot)?)
}

/// Both axes are logarithmic: watches from tens to millions, and figures that may differ as much.
pub fn svg(plot: &Plot) -> std::io::Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        paint(plot, &area).map_err(std::io::Error::other)?;
        area.present().map_err(std::io::Error::other)?;
    }
    Ok(text)
}

fn paint(
    plot: &Plot,
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>> {
    area.fill(&WHITE)?;
    let points = || plot.curves.iter().flat_map(|curve| &curve.points);
    let watches = bounds(points().map(|(watches, _)| *watches as f64));
    let figures = bounds(points().map(|(_, figure)| *figure));
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(84)
        .build_cartesian_2d((watches.0..watches.1).log_scale(), (figures.0..figures.1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("open watches")
        .y_desc(&plot.figure)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .light_line_style(WHITE)
        .draw()?;
    for (n, curve) in plot.curves.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let at = || curve.points.iter().map(|(watches, figure)| (*watches as f64, *figure));
        chart
            .draw_series(LineSeries::new(at(), colour.stroke_width(2)))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(at().map(|at| Circle::new(at, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
}

/// What holds all of them, with room for a curve that is flat, and nothing that has no logarithm.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let shown = values.filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = shown.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if high == 0.0 { (1.0, 10.0) } else { (low / 1.3, high * 1.3) }
}
