//! Every record of every run as one CSV table (RFC 4180); an absent number is an empty field.

use std::fmt::Write;

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

/// A field in quotes where it needs them.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
