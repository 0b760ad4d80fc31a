//! Evaluations and items as JSON, with the keys of lm-evaluation-harness.

use serde_json::{Map, Value, json};

use super::evaluate::{Evaluation, ItemResult};
use super::item::Target;
use super::metrics::{Figure, Metric};
use super::task::Task;

/// `{"results": {TASK: {"acc", "acc_stderr", …}}, "n-samples", "n-shot", "seconds", "config"}`; a
/// missing standard error is null.
pub fn results_json(evaluations: &[Evaluation], config: Value) -> Value {
    let mut results = Map::new();
    let (mut samples, mut shots, mut seconds) = (Map::new(), Map::new(), Map::new());
    for evaluation in evaluations {
        let name = &evaluation.name;
        results.insert(name.clone(), figures(&evaluation.figures));
        samples.insert(name.clone(), evaluation.n.into());
        shots.insert(name.clone(), evaluation.shots.into());
        seconds.insert(name.clone(), evaluation.seconds.into());
        for group in &evaluation.groups {
            let name = format!("{name}_{}", group.name);
            results.insert(name.clone(), figures(&group.figures));
            samples.insert(name, group.n.into());
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

/// An item of `task` as a line of JSON: task, index, log-likelihoods in nats, predictions and right
/// choices, or completion, answer and target.
pub fn item_json(task: &Task, item: &ItemResult) -> String {
    let logs: Vec<f64> = item.likelihoods.iter().map(|f| f.log_likelihood).collect();
    let mut line = json!({
        "task": task.name,
        "index": item.index,
        "log_likelihoods": logs,
    });
    if let Some(group) = &item.group {
        line["group"] = group.as_str().into();
    }
    if let Some(predictions) = item.predictions() {
        line["prediction"] = predictions.plain.into();
        line["prediction_norm"] = predictions.by_characters.into();
        line["prediction_bytes"] = predictions.by_bytes.into();
    }
    match &item.target {
        Target::Choice { right, .. } => line["gold"] = json!(right),
        Target::Labels(truths) => line["gold"] = json!(truths),
        Target::Greedy => line["greedy"] = item.likelihoods.iter().all(|f| f.greedy).into(),
        // With the completion, below.
        Target::Texts(_) => {}
        Target::Rolling { words, bytes } => {
            line["words"] = (*words).into();
            line["bytes"] = (*bytes).into();
        }
    }
    if let Some(completion) = &item.completion {
        line["completion"] = completion.text.as_str().into();
        line["answer"] = completion.answer.as_str().into();
        line["target"] = completion.target.as_deref().into();
        line["exact_match"] = completion.exact.into();
        if task.metrics.contains(&Metric::F1) {
            line["f1"] = completion.f1.into();
        }
    }
    format!("{line}\n")
}
