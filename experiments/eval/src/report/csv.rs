//! Every record of every run as one CSV table (RFC 4180), and every model's figures as another; an
//! absent number is an empty field.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::measured::Measured;
use crate::metrics::{Record, Run};

/// The table, header first.
pub(super) fn table(runs: &[Run]) -> String {
    let mut table = String::from(
        "run,step,tokens,loss,validation_loss,lr,grad_norm,tokens_per_second,seconds\r\n",
    );
    for run in runs {
        let mut records: Vec<&Record> = run.steps.iter().chain(&run.evaluations).collect();
        records.sort_by_key(|record| record.step);
        for r in records {
            let _ = write!(table, "{},{},{}", quoted(&run.name), r.step, r.tokens);
            for value in [
                r.loss,
                r.validation_loss,
                r.lr,
                r.grad_norm,
                r.tokens_per_second,
                r.seconds,
            ] {
                table.push(',');
                if let Some(value) = value {
                    let _ = write!(table, "{value}");
                }
            }
            table.push_str("\r\n");
        }
    }
    table
}

/// A line for every model: size, speed and memory, and a column for every task that any has.
pub(super) fn models(models: &[Measured]) -> String {
    let tasks: BTreeSet<&String> = models.iter().flat_map(|m| m.accuracies.keys()).collect();
    let mut table = String::from(
        "model,bytes,parameters,seconds_per_token,prefill_tokens_per_second,peak_rss_bytes,peak_vms_bytes",
    );
    for task in &tasks {
        let _ = write!(
            table,
            ",{},{}",
            quoted(task),
            quoted(&format!("{task} stderr"))
        );
    }
    table.push_str("\r\n");
    for model in models {
        let speed = model.speed.as_ref();
        let mut cells = vec![
            quoted(&model.name),
            field(model.bytes),
            field(speed.map(|s| s.parameters)),
            field(speed.map(|s| s.tpot_seconds)),
            field(speed.map(|s| s.prefill_tokens_per_second)),
            field(speed.and_then(|s| s.peak_rss_bytes)),
            field(speed.and_then(|s| s.peak_vms_bytes)),
        ];
        for task in &tasks {
            let accuracy = model.accuracies.get(*task);
            cells.push(field(accuracy.map(|a| a.value)));
            cells.push(field(accuracy.and_then(|a| a.stderr)));
        }
        table += &cells.join(",");
        table.push_str("\r\n");
    }
    table
}

fn field(value: Option<impl ToString>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

/// A field in quotes where it needs them.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
