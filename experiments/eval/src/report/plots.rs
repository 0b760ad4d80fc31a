//! The plots as SVG, drawn by plotters without any font on the machine: the viewer's sans-serif
//! sets the text.
//!
//! Ink (axes, text, grid) is drawn in one colour that is afterwards made `currentColor`, so that a
//! plot takes the page's colour, light or dark; curves keep colours that are clear on both.

use std::collections::BTreeSet;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::series::{Points, points, range, short, smooth};
use crate::error::{Error, Result};
use crate::metrics::{Record, Run};

/// Width and height in SVG units.
const SIZE: (u32, u32) = (860, 400);
/// Stands for the page's ink; no curve has this colour.
pub(super) const INK: RGBColor = RGBColor(1, 2, 3);
/// One per run, in turn: Okabe and Ito's, which the colour-blind can tell apart, without the
/// yellow and black that vanish on a light or dark page.
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// Where a plot is drawn.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A plot with its scales.
pub(super) type Chart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// What drawing comes to.
pub(super) type Drawn<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A drawn plot.
pub(super) struct Plot {
    /// The name of its file.
    pub(super) file: &'static str,
    /// What it shows.
    pub(super) title: &'static str,
    /// The drawing, in the page's ink.
    pub(super) svg: String,
}

impl Plot {
    /// The SVG to put into a page: it takes the page's colour and width.
    pub(super) fn inline(&self) -> &str {
        &self.svg
    }

    /// The SVG as a file of its own, with its own light and dark.
    pub(super) fn standalone(&self) -> String {
        let style = "<style>svg{color:#1f2328;background:#fff}@media(prefers-color-scheme:dark)\
                     {svg{color:#e6edf3;background:#0d1117}}</style>\n";
        match self.svg.split_once('\n') {
            Some((open, rest)) => format!("{open}\n{style}{rest}"),
            None => self.svg.clone(),
        }
    }
}

/// How a curve is drawn.
#[derive(Clone, Copy, PartialEq)]
enum Stroke {
    Faint,
    Line,
    Marked,
}

struct Curve {
    /// Legend entry; none for a curve that only accompanies another.
    label: Option<String>,
    colour: RGBColor,
    stroke: Stroke,
    points: Points,
}

/// Where the vertical axis starts.
#[derive(Clone, Copy, PartialEq)]
enum Base {
    Zero,
    Data,
}

/// Draws the plots of `runs` that have data.
pub(super) fn draw(runs: &[Run]) -> Result<Vec<Plot>> {
    let single = |field: fn(&Record) -> Option<f64>| -> Vec<Curve> {
        let curve = |(i, run): (usize, &Run)| Curve {
            label: Some(run.name.clone()),
            colour: COLOURS[i % COLOURS.len()],
            stroke: Stroke::Line,
            points: smooth(&points(&run.steps, field)),
        };
        runs.iter().enumerate().map(curve).collect()
    };
    let wanted = [
        (
            "loss.svg",
            "Loss (nats per token)",
            Base::Data,
            losses(runs),
        ),
        (
            "learning-rate.svg",
            "Learning rate",
            Base::Zero,
            single(|r| r.lr),
        ),
        (
            "gradient-norm.svg",
            "Norm of the gradients before clipping",
            Base::Zero,
            single(|r| r.grad_norm),
        ),
        (
            "throughput.svg",
            "Training speed (tokens/s)",
            Base::Zero,
            single(|r| r.tokens_per_second),
        ),
        (
            "tasks.svg",
            "Likelihood tasks (each figure as lm-evaluation-harness names it)",
            Base::Data,
            tasks(runs),
        ),
    ];
    let mut plots = Vec::new();
    for (file, title, base, mut curves) in wanted {
        curves.retain(|curve| !curve.points.is_empty());
        if !curves.is_empty() {
            let svg = drawing(|root| chart(root, &curves, base)).map_err(|e| Error::Plot {
                name: file,
                reason: e.to_string(),
            })?;
            plots.push(Plot { file, title, svg });
        }
    }
    Ok(plots)
}

/// For each run the training loss, as it is (faint) and smoothed, and the validation loss.
fn losses(runs: &[Run]) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let raw = points(&run.steps, |r| r.loss);
        let validation = points(&run.evaluations, |r| r.validation_loss);
        let smoothed = smooth(&raw);
        let label = |what: &str| Some(format!("{} {what}", run.name));
        curves.push(Curve {
            label: None,
            colour,
            stroke: Stroke::Faint,
            points: raw,
        });
        curves.push(Curve {
            label: label("train"),
            colour,
            stroke: Stroke::Line,
            points: smoothed,
        });
        let stroke = Stroke::Marked;
        curves.push(Curve {
            label: label("validation"),
            colour,
            stroke,
            points: validation,
        });
    }
    curves
}

/// A curve for every task of every run: its first figure, which is its accuracy where it has one.
fn tasks(runs: &[Run]) -> Vec<Curve> {
    let mut curves = Vec::new();
    for run in runs {
        let figures = run.examinations.iter().filter_map(|r| r.tasks.as_ref());
        let names: BTreeSet<&String> = figures.flat_map(|tasks| tasks.keys()).collect();
        let mut names: Vec<&String> = names.into_iter().collect();
        names.dedup_by_key(|name| name.split_once('/').map_or(&name[..], |(task, _)| task));
        for name in names {
            curves.push(Curve {
                label: Some(format!("{} {name}", run.name)),
                colour: COLOURS[curves.len() % COLOURS.len()],
                stroke: Stroke::Marked,
                points: points(&run.examinations, |r| r.tasks.as_ref()?.get(name).copied()),
            });
        }
    }
    curves
}

/// What `draw` draws as SVG, its ink in the page's colour.
pub(super) fn drawing(draw: impl FnOnce(&Area<'_>) -> Drawn) -> Drawn<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&root)?;
        root.present()?;
    }
    let ink = format!("#{:02X}{:02X}{:02X}", INK.0, INK.1, INK.2);
    Ok(svg.replace(&format!("\"{ink}\""), "\"currentColor\""))
}

/// Axes and grid: `x`'s name, `y`'s where the plot's title does not say it, and how values of `y` are written.
pub(super) fn axes(
    chart: &mut Chart<'_, '_>,
    x: &str,
    y: &str,
    of_y: &dyn Fn(&f64) -> String,
) -> Drawn {
    let label = ("sans-serif", 15).into_font().color(&INK);
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .axis_desc_style(label.clone())
        .label_style(label)
        .axis_style(INK.mix(0.5))
        .bold_line_style(INK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .x_labels(8)
        .y_labels(7)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(of_y)
        .draw()?;
    Ok(())
}

/// The names of what was drawn, in the upper right.
pub(super) fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Drawn {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(10)
        .legend_area_size(30)
        .label_font(("sans-serif", 15).into_font().color(&INK))
        .border_style(TRANSPARENT)
        .background_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

fn chart(root: &Area<'_>, curves: &[Curve], base: Base) -> Drawn {
    let last = curves
        .iter()
        .flat_map(|c| &c.points)
        .map(|p| p.0)
        .fold(1.0, f64::max);
    // A faint curve's spikes do not set the scale.
    let clear = curves.iter().filter(|c| c.stroke != Stroke::Faint);
    let (low, high) = range(clear.flat_map(|c| &c.points)).unwrap_or((0.0, 1.0));
    let low = if base == Base::Zero {
        low.min(0.0)
    } else {
        low
    };
    let span = if high > low {
        high - low
    } else {
        high.abs().max(1e-9)
    };
    let bottom = if base == Base::Zero {
        low
    } else {
        low - 0.06 * span
    };
    let labelled = curves.iter().filter(|c| c.label.is_some()).count() as f64;
    // Room above a flat curve for the legend.
    let top = high
        + span
            * if base == Base::Zero {
                0.08 + 0.08 * labelled
            } else {
                0.06
            };

    let mut chart = ChartBuilder::on(root)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, bottom..top)?;
    axes(&mut chart, "tokens", "", &|y| short(*y))?;
    for curve in curves {
        let colour = curve.colour;
        // Clipped to the frame: only a faint curve can leave it.
        let points = curve.points.iter().map(|&(x, y)| (x, y.clamp(bottom, top)));
        let style = match curve.stroke {
            Stroke::Faint => colour.mix(0.3).stroke_width(1),
            Stroke::Line => colour.stroke_width(2),
            Stroke::Marked => colour.mix(0.7).stroke_width(1),
        };
        let drawn = chart.draw_series(LineSeries::new(points.clone(), style))?;
        if let Some(name) = &curve.label {
            let marked = curve.stroke == Stroke::Marked;
            drawn.label(name).legend(move |(x, y)| {
                let line = PathElement::new(vec![(x, y), (x + 22, y)], style);
                let radius = if marked { 4 } else { 0 };
                let mark = Circle::new((x + 11, y), radius, colour.filled());
                EmptyElement::at((0, 0)) + line + mark
            });
        }
        if curve.stroke == Stroke::Marked {
            chart.draw_series(points.map(|point| Circle::new(point, 4, colour.filled())))?;
        }
    }
    legend(&mut chart)
}
