//! The page: tables of the models and of the runs, and the plots, in one file that loads nothing.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::pareto::{common_tasks, mean_accuracy};
use super::plots::Plot;
use super::series::{points, short, smooth};
use crate::measured::Measured;
use crate::metrics::Run;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2328;--page:#fff;--line:#d1d9e0;--soft:#59636e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--page:#0d1117;--line:#3d444d;--soft:#9198a1}}
body{color:var(--ink);background:var(--page);font:16px/1.5 system-ui,sans-serif;margin:2rem auto;\
max-width:60rem;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}th:first-child,td:first-child{text-align:left}
figure{margin:0;overflow-x:auto}svg{width:100%;min-width:48rem;height:auto;color:var(--ink)}
footer{color:var(--soft);margin-top:2rem}a{color:inherit}";

/// The whole page.
pub(super) fn page(
    runs: &[Run],
    of_runs: &[Plot],
    models: &[Measured],
    of_models: &[Plot],
) -> String {
    let mut body = String::new();
    if !models.is_empty() {
        body += "<h1>Models</h1>\n";
        body += &models_table(models);
        body += &figures(of_models);
        body += "<footer>Bars are standard errors; the line joins the models that none beats in both. \
                 All figures are in <a href=\"models.csv\">models.csv</a>.</footer>\n";
    }
    if !runs.is_empty() {
        body += "<h1>Runs</h1>\n";
        body += &differences(runs);
        body += &table(runs);
        body += &figures(of_runs);
        body += "<footer>Every step is in <a href=\"metrics.csv\">metrics.csv</a>. Training loss is \
                 smoothed; the faint line is the loss of each step.</footer>\n";
    }
    let names = runs.iter().map(|r| &r.name[..]);
    let names: Vec<&str> = names.chain(models.iter().map(|m| &m.name[..])).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>retort: {}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n\
         {body}</body>\n</html>\n",
        escaped(&names.join(", ")),
    )
}

fn figures(plots: &[Plot]) -> String {
    let figure = |plot: &Plot| {
        let (title, svg) = (plot.title, plot.inline());
        format!("<h2>{title}</h2>\n<figure>{svg}</figure>\n")
    };
    plots.iter().map(figure).collect()
}

/// The keys in which the runs' recipes differ, a column a run; nothing where none does.
fn differences(runs: &[Run]) -> String {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.recipe.keys()).collect();
    let differs = |key: &&&String| {
        let mut values = runs.iter().map(|run| run.recipe.get(**key));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let keys: Vec<&&String> = keys.iter().filter(differs).collect();
    if keys.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<h2>What their recipes differ in</h2>\n<div class=\"wide\"><table>\n<tr><th>key</th>",
    );
    for run in runs {
        let _ = write!(table, "<th>{}</th>", escaped(&run.name));
    }
    for key in keys {
        let _ = write!(table, "</tr>\n<tr><td>{}</td>", escaped(key));
        for run in runs {
            let value = run
                .recipe
                .get(*key)
                .map_or("–".into(), |value| escaped(value));
            let _ = write!(table, "<td>{value}</td>");
        }
    }
    table + "</tr>\n</table></div>\n<h2>What came of them</h2>\n"
}

/// Sizes, times, memory, and the accuracies of every task that any has.
fn models_table(models: &[Measured]) -> String {
    let tasks: BTreeSet<&String> = models.iter().flat_map(|m| m.accuracies.keys()).collect();
    let common = common_tasks(models);
    let mut table = String::from(
        "<div class=\"wide\"><table>\n<tr><th>model</th><th>file, MB</th><th>ms a token</th>\
         <th>prefill, tokens/s</th><th>peak memory, MB</th>",
    );
    for task in &tasks {
        let _ = write!(table, "<th>{}</th>", escaped(task));
    }
    if !common.is_empty() {
        let _ = write!(table, "<th>mean of {}</th>", common.len());
    }
    table.push_str("</tr>\n");
    let megabytes = |bytes: Option<u64>| number(bytes.map(|b| b as f64 / 1e6), 1);
    for model in models {
        let speed = model.speed.as_ref();
        let mut cells = vec![
            escaped(&model.name),
            megabytes(model.bytes),
            number(speed.map(|s| s.tpot_seconds * 1e3), 2),
            number(speed.map(|s| s.prefill_tokens_per_second), 0),
            megabytes(speed.and_then(|s| s.peak_rss_bytes)),
        ];
        for task in &tasks {
            let accuracy = model.accuracies.get(*task);
            cells.push(share(accuracy.map(|a| (a.value, a.stderr.unwrap_or(0.0)))));
        }
        if !common.is_empty() {
            cells.push(share(mean_accuracy(model, &common)));
        }
        let _ = writeln!(table, "<tr><td>{}</td></tr>", cells.join("</td><td>"));
    }
    table + "</table></div>\n"
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.digits$}"))
}

/// An accuracy and its standard error in percent.
fn share(value: Option<(f64, f64)>) -> String {
    value.map_or("–".into(), |(value, stderr)| {
        format!("{:.1} ± {:.1} %", value * 100.0, stderr * 100.0)
    })
}

fn table(runs: &[Run]) -> String {
    let mut table = String::from(
        "<div class=\"wide\"><table>\n<tr><th>run</th><th>steps</th><th>tokens</th>\
         <th>train loss</th><th>validation loss</th><th>best</th><th>perplexity</th>\
         <th>tokens/s</th><th>time</th></tr>\n",
    );
    for run in runs {
        let last = run
            .steps
            .iter()
            .chain(&run.evaluations)
            .max_by_key(|r| (r.step, r.tokens));
        let train = smooth(&points(&run.steps, |r| r.loss)).last().map(|p| p.1);
        let validation: Vec<f64> = run
            .evaluations
            .iter()
            .filter_map(|r| r.validation_loss)
            .collect();
        let best = validation.iter().copied().reduce(f64::min);
        let seconds = run
            .steps
            .iter()
            .chain(&run.evaluations)
            .filter_map(|r| r.seconds);
        let cells = [
            last.map_or("–".into(), |r| r.step.to_string()),
            last.map_or("–".into(), |r| short(r.tokens as f64)),
            fixed(train),
            fixed(validation.last().copied()),
            fixed(best),
            validation
                .last()
                .map_or("–".into(), |loss| format!("{:.2}", loss.exp())),
            median(run.steps.iter().filter_map(|r| r.tokens_per_second)).map_or("–".into(), short),
            seconds.reduce(f64::max).map_or("–".into(), duration),
        ];
        let _ = write!(table, "<tr><td>{}</td>", escaped(&run.name));
        for cell in cells {
            let _ = write!(table, "<td>{cell}</td>");
        }
        table.push_str("</tr>\n");
    }
    table + "</table></div>\n"
}

fn fixed(value: Option<f64>) -> String {
    number(value, 4)
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`.
fn duration(seconds: f64) -> String {
    // A negative or huge figure saturates.
    match seconds.round() as u64 {
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
