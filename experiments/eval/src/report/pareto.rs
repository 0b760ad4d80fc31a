//! The plots of models: accuracy against bytes, and against milliseconds a token. A line joins the
//! Pareto front, the models that none beats in both.

use plotters::prelude::*;

use super::plot::{Area, COLOURS, Drawn, INK, Plot, axes, legend};
use crate::error::Result;
use crate::results::ModelResults;

/// A model in a plot.
pub(super) struct Point {
    /// Bytes or milliseconds.
    pub(super) cost: f64,
    /// Mean accuracy, 0 to 1.
    pub(super) accuracy: f64,
    /// Its standard error, if the tasks are independent.
    pub(super) stderr: f64,
    /// The model's name.
    pub(super) name: String,
    colour: RGBColor,
}

/// The tasks that every model with accuracies has, in order of name.
pub(super) fn common_tasks(models: &[ModelResults]) -> Vec<&str> {
    let mut with = models.iter().filter(|model| !model.accuracies.is_empty());
    let Some(first) = with.next() else {
        return Vec::new();
    };
    let rest: Vec<&ModelResults> = with.collect();
    let shared = |task: &&String| {
        rest.iter()
            .all(|model| model.accuracies.contains_key(*task))
    };
    first
        .accuracies
        .keys()
        .filter(shared)
        .map(String::as_str)
        .collect()
}

/// Mean and standard error of the accuracies in `tasks`; none where one is missing.
pub(super) fn mean_accuracy(model: &ModelResults, tasks: &[&str]) -> Option<(f64, f64)> {
    let (mut sum, mut squares) = (0.0, 0.0);
    for task in tasks {
        let accuracy = model.accuracies.get(*task)?;
        sum += accuracy.value;
        squares += accuracy.stderr.unwrap_or_default().powi(2);
    }
    let n = tasks.len() as f64;
    (!tasks.is_empty()).then(|| (sum / n, squares.sqrt() / n))
}

/// Draws the plots; those without points are left out.
pub(super) fn draw(models: &[ModelResults]) -> Result<Vec<Plot>> {
    let tasks = common_tasks(models);
    let points = |cost: fn(&ModelResults) -> Option<f64>| -> Vec<Point> {
        let point = |(i, model): (usize, &ModelResults)| {
            let (accuracy, stderr) = mean_accuracy(model, &tasks)?;
            Some(Point {
                cost: cost(model)?,
                accuracy,
                stderr,
                name: model.name.clone(),
                colour: COLOURS[i % COLOURS.len()],
            })
        };
        models.iter().enumerate().filter_map(point).collect()
    };
    let wanted = [
        (
            "accuracy-size.svg",
            "Accuracy against size",
            "bytes",
            points(|m| m.bytes.map(|bytes| bytes as f64)),
        ),
        (
            "accuracy-time.svg",
            "Accuracy against time a token",
            "milliseconds a token",
            points(|m| m.speed.as_ref().map(|speed| speed.tpot_seconds * 1e3)),
        ),
    ];
    let mut plots = Vec::new();
    for (file, title, unit, points) in wanted {
        if points.is_empty() {
            continue;
        }
        plots.push(Plot::new(file, title, |root| chart(root, &points, unit))?);
    }
    Ok(plots)
}

/// The Pareto front: the points for which none is as cheap and better, or cheaper and as good.
pub(super) fn front(points: &[Point]) -> Vec<(f64, f64)> {
    let mut order: Vec<&Point> = points.iter().collect();
    order.sort_by(|a, b| {
        a.cost
            .total_cmp(&b.cost)
            .then(b.accuracy.total_cmp(&a.accuracy))
    });
    let mut front: Vec<(f64, f64)> = Vec::new();
    for point in order {
        if front.last().is_none_or(|best| point.accuracy > best.1) {
            front.push((point.cost, point.accuracy));
        }
    }
    front
}

/// Draws the points and their Pareto front.
fn chart(root: &Area<'_>, points: &[Point], unit: &str) -> Drawn {
    let most = points.iter().map(|p| p.cost).fold(0.0, f64::max);
    let ends = |p: &Point| [p.accuracy - p.stderr, p.accuracy + p.stderr];
    let low = points.iter().map(|p| ends(p)[0]).fold(1.0, f64::min);
    let high = points.iter().map(|p| ends(p)[1]).fold(0.0, f64::max);
    let room = ((high - low) * 0.15).max(0.005);
    let (bottom, top) = ((low - room).max(0.0), (high + room).min(1.0));
    // To the right of the points there is room for their names.
    let mut chart = ChartBuilder::on(root)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..most * 1.6, bottom..top)?;
    let percent = |y: &f64| format!("{:.1} %", y * 100.0);
    axes(&mut chart, unit, "mean accuracy", &percent)?;
    chart.draw_series(LineSeries::new(front(points), INK.mix(0.4).stroke_width(1)))?;
    for point in points {
        let (x, colour) = (point.cost, point.colour);
        let bar = ends(point).map(|y| (x, y));
        chart.draw_series(LineSeries::new(bar, colour.mix(0.6).stroke_width(1)))?;
        chart
            .draw_series([Circle::new((x, point.accuracy), 5, colour.filled())])?
            .label(&point.name)
            .legend(move |(x, y)| Circle::new((x + 11, y), 5, colour.filled()));
    }
    legend(&mut chart)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pareto_front_has_the_points_that_none_beats() {
        let point = |cost, accuracy| Point {
            cost,
            accuracy,
            stderr: 0.0,
            name: String::new(),
            colour: COLOURS[0],
        };
        let points = [
            point(3.0, 0.5),
            point(1.0, 0.4),
            point(2.0, 0.39),
            point(1.0, 0.3),
            point(3.0, 0.6),
            point(4.0, 0.6),
        ];
        assert_eq!(front(&points), [(1.0, 0.4), (3.0, 0.6)]);
    }
}
