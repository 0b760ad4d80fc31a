//! Figures and items as JSON.

use serde_json::{Map, Value, json};

use super::item::Gold;
use super::metrics::{Figure, Metric};
use super::run::{Evaluation, ItemResult};
use super::task::Task;

/// `{"results": {TASK: {"acc", "acc_stderr", …}}, "n-samples", "n-shot", "config"}`, with the names
/// of lm-evaluation-harness's results; a standard error that there is none of is null.
pub fn results_json(evaluations: &[Evaluation], config: Value) -> Value {
    let mut results = Map::new();
    let (mut samples, mut shots, mut seconds) = (Map::new(), Map::new(), Map::new());
    for evaluation in evaluations {
        let name = &evaluation.name;
        results.insert(name.clone(), figures(&evaluation.figures));
        samples.insert(name.clone(), evaluation.n.into());
        shots.insert(name.clone(), evaluation.shots.into());
        seconds.insert(name.clone(), evaluation.seconds.into());
        for (group, n, group_figures) in &evaluation.groups {
            let name = format!("{name}_{group}");
            results.insert(name.clone(), figures(group_figures));
            samples.insert(name, (*n).into());
        }
    }
    json!({
        "results": results,
        "n-samples": samples,
        "n-shot": shots,
        "seconds": seconds,
        "config": config,
    })
}

fn figures(figures: &[Figure]) -> Value {
    let mut all = Map::new();
    for figure in figures {
        let name = figure.metric.name();
        all.insert(name.into(), figure.value.into());
        all.insert(format!("{name}_stderr"), figure.stderr.into());
    }
    all.into()
}

/// An item of `task` as a line of JSON: task, index, log-likelihoods in nats, predictions, gold; or
/// what was written, the answer found in it and what was wanted.
pub fn item_json(task: &Task, item: &ItemResult) -> String {
    let logs: Vec<f64> = item.found.iter().map(|f| f.log_likelihood).collect();
    let mut line = json!({
        "task": task.name,
        "index": item.index,
        "log_likelihoods": logs,
    });
    if let Some(group) = &item.group {
        line["group"] = group.as_str().into();
    }
    if let Some([plain, by_characters, by_bytes]) = item.predictions() {
        line["prediction"] = plain.into();
        line["prediction_norm"] = by_characters.into();
        line["prediction_bytes"] = by_bytes.into();
    }
    match &item.gold {
        Gold::Choice { right, .. } => line["gold"] = json!(right),
        Gold::True(truths) => line["gold"] = json!(truths),
        Gold::Said => line["greedy"] = item.found.iter().all(|f| f.greedy).into(),
        // With the text, below.
        Gold::Written(_) => {}
        Gold::Text { words, bytes } => {
            line["words"] = (*words).into();
            line["bytes"] = (*bytes).into();
        }
    }
    if let Some(written) = &item.written {
        line["completion"] = written.text.as_str().into();
        line["answer"] = written.answer.as_str().into();
        line["target"] = written.target.as_deref().into();
        line["exact_match"] = written.exact.into();
        if task.metrics.contains(&Metric::F1) {
            line["f1"] = written.f1.into();
        }
    }
    format!("{line}\n")
}
