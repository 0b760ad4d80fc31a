//! The page: a table of the runs and the plots, in one file that loads nothing.

use std::fmt::Write;

use super::plots::Plot;
use super::series::{points, short, smooth};
use crate::metrics::Run;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2328;--page:#fff;--line:#d1d9e0;--soft:#59636e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--page:#0d1117;--line:#3d444d;--soft:#9198a1}}
body{color:var(--ink);background:var(--page);font:16px/1.5 system-ui,sans-serif;margin:2rem auto;\
max-width:60rem;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left}
svg{width:100%;height:auto;color:var(--ink)}
footer{color:var(--soft);margin-top:2rem}a{color:inherit}";

/// The whole page.
pub(super) fn page(runs: &[Run], plots: &[Plot]) -> String {
    let mut body = String::new();
    for plot in plots {
        let (title, svg) = (plot.title, plot.inline());
        let _ = write!(
            body,
            "<h2>{title}</h2>\n<figure style=\"margin:0\">{svg}</figure>\n"
        );
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>retort: {title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n\
         <h1>Runs</h1>\n{table}{body}\
         <footer>Every step is in <a href=\"metrics.csv\">metrics.csv</a>. Training loss is \
         smoothed; the faint line is the loss of each step.</footer>\n</body>\n</html>\n",
        title = escaped(
            &runs
                .iter()
                .map(|r| r.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ),
        table = table(runs),
    )
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
    value.map_or("–".into(), |value| format!("{value:.4}"))
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
