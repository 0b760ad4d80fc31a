//! The report's page: tables of models and runs, and the plots, in one file that loads nothing else.
//!
//! Here are the tables' cells; `page.html` is the template, which escapes them.

use std::collections::BTreeSet;

use minijinja::{Environment, context};
use serde::Serialize;

use super::pareto::{common_tasks, mean_accuracy};
use super::plot::Plot;
use super::series::{points, short, smooth};
use crate::error::{Error, Result};
use crate::results::ModelResults;
use crate::run_metrics::TrainingRun;

/// A table's cells as text.
#[derive(Serialize)]
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The page as HTML.
///
/// # Errors
///
/// [`Error::Page`].
pub(super) fn page(
    runs: &[TrainingRun],
    run_plots: &[Plot],
    models: &[ModelResults],
    model_plots: &[Plot],
) -> Result<String> {
    let names = runs.iter().map(|r| &r.name[..]);
    let names: Vec<&str> = names.chain(models.iter().map(|m| &m.name[..])).collect();
    let context = context! {
        title => names.join(", "),
        models => models_table(models),
        model_plots => model_plots,
        differences => recipe_differences(runs),
        runs => runs_table(runs),
        run_plots => run_plots,
    };
    Environment::new()
        .render_named_str("page.html", include_str!("page.html"), context)
        .map_err(|e| Error::Page(e.to_string()))
}

/// The recipe keys whose values differ, one column a run.
fn recipe_differences(runs: &[TrainingRun]) -> Table {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.recipe.keys()).collect();
    let row = |key: &String| {
        let values: Vec<Option<&String>> = runs.iter().map(|run| run.recipe.get(key)).collect();
        let differ = values.iter().any(|value| *value != values[0]);
        let cells = values.into_iter().map(|value| or_dash(value.cloned()));
        differ.then(|| std::iter::once(key.clone()).chain(cells).collect())
    };
    Table {
        header: std::iter::once("key".to_owned())
            .chain(runs.iter().map(|run| run.name.clone()))
            .collect(),
        rows: keys.into_iter().filter_map(row).collect(),
    }
}

/// Size, speed, memory, and the accuracy of every task that any model has.
fn models_table(models: &[ModelResults]) -> Table {
    let tasks: BTreeSet<&String> = models.iter().flat_map(|m| m.accuracies.keys()).collect();
    let common = common_tasks(models);
    let mut header: Vec<String> = [
        "model",
        "file, MB",
        "ms a token",
        "prefill, tokens/s",
        "peak memory, MB",
    ]
    .map(str::to_owned)
    .to_vec();
    header.extend(tasks.iter().map(|task| (*task).clone()));
    if !common.is_empty() {
        header.push(format!("mean of {}", common.len()));
    }
    let megabytes = |bytes: Option<u64>| number(bytes.map(|b| b as f64 / 1e6), 1);
    let row = |model: &ModelResults| {
        let speed = model.speed.as_ref();
        let mut cells = vec![
            model.name.clone(),
            megabytes(model.bytes),
            number(speed.map(|s| s.tpot_seconds * 1e3), 2),
            number(speed.map(|s| s.prefill_tokens_per_second), 0),
            megabytes(speed.and_then(|s| s.peak_rss_bytes)),
        ];
        for task in &tasks {
            let accuracy = model.accuracies.get(*task);
            cells.push(percent(
                accuracy.map(|a| (a.value, a.stderr.unwrap_or(0.0))),
            ));
        }
        if !common.is_empty() {
            cells.push(percent(mean_accuracy(model, &common)));
        }
        cells
    };
    Table {
        header,
        rows: models.iter().map(row).collect(),
    }
}

/// Steps, tokens, losses, speed and time of every run.
fn runs_table(runs: &[TrainingRun]) -> Table {
    let row = |run: &TrainingRun| {
        let records = || run.steps.iter().chain(&run.evaluations);
        let last = records().max_by_key(|r| (r.step, r.tokens));
        let train = smooth(&points(&run.steps, |r| r.loss)).last().map(|p| p.1);
        let validation: Vec<f64> = (run.evaluations.iter())
            .filter_map(|r| r.validation_loss)
            .collect();
        let best = validation.iter().copied().reduce(f64::min);
        let seconds = records().filter_map(|r| r.seconds).reduce(f64::max);
        let speed = median(run.steps.iter().filter_map(|r| r.tokens_per_second));
        vec![
            run.name.clone(),
            or_dash(last.map(|r| r.step)),
            or_dash(last.map(|r| short(r.tokens as f64))),
            number(train, 4),
            number(validation.last().copied(), 4),
            number(best, 4),
            number(validation.last().map(|loss| loss.exp()), 2),
            or_dash(speed.map(short)),
            or_dash(seconds.map(duration)),
        ]
    };
    Table {
        header: [
            "run",
            "steps",
            "tokens",
            "train loss",
            "validation loss",
            "best",
            "perplexity",
            "tokens/s",
            "time",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: runs.iter().map(row).collect(),
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("–".into(), |value| value.to_string())
}

fn number(value: Option<f64>, digits: usize) -> String {
    or_dash(value.map(|value| format!("{value:.digits$}")))
}

/// An accuracy and its standard error in percent.
fn percent(value: Option<(f64, f64)>) -> String {
    or_dash(value.map(|(value, stderr)| format!("{:.1} ± {:.1} %", value * 100.0, stderr * 100.0)))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`.
fn duration(seconds: f64) -> String {
    // A negative or huge number saturates.
    match seconds.round() as u64 {
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}
