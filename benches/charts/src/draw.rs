//! The charts.

use std::path::Path;

use packetstream::BoxError;
use plotters::coord::CoordTranslate;
use plotters::prelude::{
    BLACK, ChartBuilder, ChartContext, IntoDrawingArea, IntoLogRange, LineSeries, Palette,
    Palette99, PathElement, SVGBackend, SeriesLabelPosition, WHITE,
};
use plotters::style::Color;

use crate::measure::{Latencies, Throughput};

const SIZE: (u32, u32) = (900, 560);
const LINE: u32 = 2;
/// How many nines the shares go up to: 99.99 % of the calls.
const NINES: f64 = 4.0;
const STEPS_A_NINE: u32 = 50;

/// Draws what share of the calls took no longer than what.
pub(crate) fn latencies(path: &Path, lines: &[Latencies]) -> Result<(), BoxError> {
    let longest = lines
        .iter()
        .map(|line| line.at_share(share(NINES)))
        .fold(0.0, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("A call of 16 octets after the other", ("sans-serif", 22))
        .margin(16)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..NINES, (1e-6..longest * 1.2).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("share of the calls")
        .y_desc("took at most, us")
        .x_labels(5)
        .x_label_formatter(&|nines| format!("{} %", rounded(share(*nines) * 100.0)))
        .y_label_formatter(&|seconds| format!("{}", rounded(seconds * 1e6)))
        .draw()?;
    for (number, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(number).stroke_width(LINE);
        let steps = 0..=STEPS_A_NINE * 4;
        let points = steps.map(|step| {
            let nines = f64::from(step) / f64::from(STEPS_A_NINE);
            (nines, line.at_share(share(nines)))
        });
        chart
            .draw_series(LineSeries::new(points, colour))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    legend(&mut chart)?;
    area.present()?;
    Ok(())
}

/// Draws how many calls there were in a second.
pub(crate) fn throughputs(path: &Path, lines: &[Throughput]) -> Result<(), BoxError> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let most = all().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let widest = all().map(|(window, _)| *window).max().unwrap_or(1);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Calls of 16 octets", ("sans-serif", 22))
        .margin(16)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((1..widest + 1).log_scale().base(2.0), 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("outstanding")
        .y_desc("thousand calls a second")
        .y_label_formatter(&|rate| format!("{}", rounded(rate / 1e3)))
        .draw()?;
    for (number, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(number).stroke_width(LINE);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour).point_size(3))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    legend(&mut chart)?;
    area.present()?;
    Ok(())
}

/// The share with so many nines: 0.9 for 1, 0.99 for 2; the median is at 0.3.
fn share(nines: f64) -> f64 {
    1.0 - 10_f64.powf(-nines)
}

/// As many digits as a label needs.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
) -> Result<(), BoxError> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.4))
        .draw()?;
    Ok(())
}
