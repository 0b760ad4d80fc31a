//! The report's tables as CSV (RFC 4180): every record of every run, and the results of every model.
//! A missing number is an empty field.

use std::collections::BTreeSet;

use csv::{Terminator, WriterBuilder};

use crate::error::{Error, Result};
use crate::results::ModelResults;
use crate::run_metrics::{MetricsRecord, TrainingRun};

/// A line for every training step and evaluation of `runs`.
pub(super) fn runs_table(runs: &[TrainingRun]) -> Result<Vec<u8>> {
    let header = [
        "run",
        "step",
        "tokens",
        "loss",
        "validation_loss",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "seconds",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for run in runs {
        let mut records: Vec<&MetricsRecord> = run.steps.iter().chain(&run.evaluations).collect();
        records.sort_by_key(|record| record.step);
        rows.extend(records.into_iter().map(|r| {
            vec![
                run.name.clone(),
                r.step.to_string(),
                r.tokens.to_string(),
                field(r.loss),
                field(r.validation_loss),
                field(r.lr),
                field(r.grad_norm),
                field(r.tokens_per_second),
                field(r.seconds),
            ]
        }));
    }
    write(&rows)
}

/// A line for every model: size, speed and memory, and two columns for every task that any has.
pub(super) fn models_table(models: &[ModelResults]) -> Result<Vec<u8>> {
    let tasks: BTreeSet<&String> = models.iter().flat_map(|m| m.accuracies.keys()).collect();
    let columns = [
        "model",
        "bytes",
        "parameters",
        "seconds_per_token",
        "prefill_tokens_per_second",
        "peak_rss_bytes",
        "peak_vms_bytes",
    ];
    let mut header = columns.map(str::to_owned).to_vec();
    for task in &tasks {
        header.extend([(*task).clone(), format!("{task} stderr")]);
    }
    let mut rows = vec![header];
    for model in models {
        let speed = model.speed.as_ref();
        let mut row = vec![
            model.name.clone(),
            field(model.bytes),
            field(speed.map(|s| s.parameters)),
            field(speed.map(|s| s.tpot_seconds)),
            field(speed.map(|s| s.prefill_tokens_per_second)),
            field(speed.and_then(|s| s.peak_rss_bytes)),
            field(speed.and_then(|s| s.peak_vms_bytes)),
        ];
        for task in &tasks {
            let accuracy = model.accuracies.get(*task);
            row.push(field(accuracy.map(|a| a.value)));
            row.push(field(accuracy.and_then(|a| a.stderr)));
        }
        rows.push(row);
    }
    write(&rows)
}

fn field(value: Option<impl ToString>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

fn write(rows: &[Vec<String>]) -> Result<Vec<u8>> {
    let page = |e: String| Error::Page(e);
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).map_err(|e| page(e.to_string()))?;
    }
    writer.into_inner().map_err(|e| page(e.to_string()))
}
