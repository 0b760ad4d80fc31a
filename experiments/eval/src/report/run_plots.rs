//! The plots of runs: loss, learning rate, gradient norm, throughput, and metrics of tasks.

use std::collections::BTreeSet;

use plotters::prelude::*;

use super::plot::{Area, COLOURS, Drawn, Plot, axes, legend};
use super::series::{Points, points, range, short, smooth};
use crate::error::Result;
use crate::run_metrics::{MetricsRecord, TrainingRun};

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

/// The start of the vertical axis: zero, or the smallest value.
#[derive(Clone, Copy, PartialEq)]
enum Base {
    Zero,
    Data,
}

/// Draws the plots of `runs`; those without data are left out.
pub(super) fn draw(runs: &[TrainingRun]) -> Result<Vec<Plot>> {
    let single = |field: fn(&MetricsRecord) -> Option<f64>| -> Vec<Curve> {
        let curve = |(i, run): (usize, &TrainingRun)| Curve {
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
            loss_curves(runs),
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
            task_curves(runs),
        ),
    ];
    let mut plots = Vec::new();
    for (file, title, base, mut curves) in wanted {
        curves.retain(|curve| !curve.points.is_empty());
        if !curves.is_empty() {
            plots.push(Plot::new(file, title, |root| chart(root, &curves, base))?);
        }
    }
    Ok(plots)
}

/// For each run the training loss, as it is (faint) and smoothed, and the validation loss.
fn loss_curves(runs: &[TrainingRun]) -> Vec<Curve> {
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

/// A curve for every task of every run: its first metric, which is its accuracy where it has one.
fn task_curves(runs: &[TrainingRun]) -> Vec<Curve> {
    let mut curves = Vec::new();
    for run in runs {
        let figures = run.task_evaluations.iter().filter_map(|r| r.tasks.as_ref());
        let names: BTreeSet<&String> = figures.flat_map(|tasks| tasks.keys()).collect();
        let mut names: Vec<&String> = names.into_iter().collect();
        names.dedup_by_key(|name| name.split_once('/').map_or(&name[..], |(task, _)| task));
        for name in names {
            curves.push(Curve {
                label: Some(format!("{} {name}", run.name)),
                colour: COLOURS[curves.len() % COLOURS.len()],
                stroke: Stroke::Marked,
                points: points(&run.task_evaluations, |r| {
                    r.tasks.as_ref()?.get(name).copied()
                }),
            });
        }
    }
    curves
}

/// Draws `curves` over tokens.
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
