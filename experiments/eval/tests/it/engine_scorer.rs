//! The engine's scorer: its cache of prefixes changes no likelihood, and a task from a TOML file gives its results.

use std::fs;

use retort_engine::Model;
use retort_engine::perplexity::negative_log_likelihood;
use retort_eval::tasks::{
    EngineScorer, Likelihood, LoadOptions, LoadedTask, Metric, Request, Scorer, Task, evaluate,
    item_json, results_json,
};

use crate::support::{self, TASK, options};

/// The likelihood of a request by a pass of its own.
fn alone(model: &Model, request: &Request) -> Likelihood {
    let input: Vec<u32> = request.input().collect();
    let mut session = model.engine.session(input.len()).unwrap();
    let (mut log_likelihood, mut greedy) = (0.0, true);
    let first = request.context.len() - 1;
    session
        .forward_all(&input, 0, |from, rows| {
            let rows = rows.chunks_exact(model.engine.config().vocab_size);
            for (i, logits) in rows.enumerate() {
                let Some(place) = (from + i).checked_sub(first) else {
                    continue;
                };
                let target = request.continuation[place];
                log_likelihood -= negative_log_likelihood(logits, target);
                greedy &= logits.iter().all(|&l| l <= logits[target as usize]);
            }
        })
        .unwrap();
    Likelihood {
        log_likelihood,
        greedy,
    }
}

#[test]
fn engine_prefix_cache_changes_no_likelihood() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = support::gguf(dir.path());
    let model = Model::open(&gguf).unwrap();
    let mut scorer = EngineScorer::new(&model, None).unwrap();
    let mut requests = Vec::new();
    for context in [
        "One day a cat",
        "One day a dog ran",
        "One day a dog ran",
        "Two",
    ] {
        for continuation in [" sat", " sat down on", " sat down in", " s", "\n"] {
            let encoder = scorer.encoder();
            requests.push(
                encoder
                    .pair(context, continuation, support::CONTEXT)
                    .unwrap(),
            );
        }
    }
    // Longer than the context, a text alone, and short again.
    let long = "a big red ball and ".repeat(30);
    let encoder = scorer.encoder();
    requests.push(encoder.pair(&long, " a cat", support::CONTEXT).unwrap());
    requests.extend(encoder.rolling(&long, support::CONTEXT).unwrap());
    requests.push(encoder.pair("", "One", support::CONTEXT).unwrap());
    assert!(
        requests
            .iter()
            .any(|r| r.input().count() == support::CONTEXT)
    );
    let mut counts = Vec::new();
    let found = scorer
        .score(&requests, &mut |done| counts.push(done))
        .unwrap();
    assert_eq!(counts.last(), Some(&requests.len()));
    for (found, request) in found.iter().zip(&requests) {
        let expected = alone(&model, request);
        let difference = (found.log_likelihood - expected.log_likelihood).abs();
        assert!(difference < 1e-4, "{found:?} {expected:?}");
        assert_eq!(found.greedy, expected.greedy);
    }
    // In another order the same.
    requests.reverse();
    let again = scorer.score(&requests, &mut |_| {}).unwrap();
    for (a, b) in again.iter().rev().zip(&found) {
        assert!((a.log_likelihood - b.log_likelihood).abs() < 1e-4);
    }
}

#[test]
fn task_from_a_toml_file_gives_accuracies_and_json() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = support::gguf(dir.path());
    let path = dir.path().join("my.toml");
    fs::write(&path, TASK).unwrap();
    fs::write(dir.path().join("my_task.jsonl"), support::questions(12)).unwrap();
    let task = Task::find(path.to_str().unwrap()).unwrap();
    let loaded = LoadedTask::new(task, &options(dir.path())).unwrap();
    let model = Model::open(&gguf).unwrap();
    let mut scorer = EngineScorer::new(&model, None).unwrap();
    let mut last = 0;
    let found = evaluate(
        std::slice::from_ref(&loaded),
        &mut scorer,
        &mut |name, done, all| {
            assert!(name == "my_task" && done >= last && done <= all && all == 12);
            last = done;
        },
    )
    .unwrap();
    assert_eq!(last, 12);
    let (mut right, mut right_by_length) = (0, 0);
    for (item, result) in loaded.items.iter().zip(&found[0].items) {
        let logs: Vec<f64> = result
            .likelihoods
            .iter()
            .map(|f| f.log_likelihood)
            .collect();
        for (prompt, log) in item.prompts.iter().zip(&logs) {
            assert!(prompt.context.starts_with("Stories.\nStory: "));
            let request =
                scorer
                    .encoder()
                    .pair(&prompt.context, &prompt.continuation, support::CONTEXT);
            let expected = alone(&model, &request.unwrap()).log_likelihood;
            assert!((log - expected).abs() < 1e-4, "{log} {expected}");
        }
        let best = |scale: &dyn Fn(usize) -> f64| {
            (0..4).fold(0, |b, i| {
                if logs[i] / scale(i) > logs[b] / scale(b) {
                    i
                } else {
                    b
                }
            })
        };
        // The delimiter is not counted.
        let characters = |i: usize| (item.prompts[i].continuation.chars().count() - 1) as f64;
        right += usize::from(best(&|_| 1.0) == item.index % 4);
        right_by_length += usize::from(best(&characters) == item.index % 4);
        let predictions = result.predictions().unwrap();
        assert_eq!(predictions.plain, best(&|_| 1.0));
        assert_eq!(predictions.by_characters, best(&characters));
    }
    let value = |metric| {
        found[0]
            .figures
            .iter()
            .find(|f| f.metric == metric)
            .unwrap()
            .value
    };
    assert_eq!(value(Metric::Acc), right as f64 / 12.0);
    assert_eq!(value(Metric::AccNorm), right_by_length as f64 / 12.0);
    let json = results_json(&found, serde_json::json!({}));
    assert_eq!(json["results"]["my_task"]["acc"], value(Metric::Acc));
    assert!(json["results"]["my_task"]["acc_norm_stderr"].is_number());
    assert_eq!(json["n-samples"]["my_task"], 12);
    let line = item_json(&loaded.task, &found[0].items[3]);
    assert_eq!((line.lines().count(), line.ends_with('\n')), (1, true));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["index"], &line["gold"][0]), (&3.into(), &3.into()));
    assert_eq!(line["log_likelihoods"].as_array().unwrap().len(), 4);
}

#[test]
fn rolling_perplexity_covers_the_whole_text() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = support::gguf(dir.path());
    // The corpus is parquet with a column `text`.
    let task = r#"
        name = "stories"
        metrics = ["word_perplexity", "byte_perplexity", "bits_per_byte"]
        [rolling]
        text = "text"
        [[source]]
        files = ["corpus/*.parquet"]
    "#;
    let options = LoadOptions {
        limit: Some(5),
        ..options(dir.path())
    };
    let loaded = LoadedTask::new(Task::parse(task, "t").unwrap(), &options).unwrap();
    assert_eq!(loaded.items.len(), 5);
    let model = Model::open(&gguf).unwrap();
    let mut scorer = EngineScorer::new(&model, None).unwrap();
    let (mut sum, mut bytes, mut windows) = (0.0, 0, 0);
    for item in &loaded.items {
        let text = &item.prompts[0].continuation;
        bytes += text.len();
        for request in scorer.encoder().rolling(text, support::CONTEXT).unwrap() {
            sum += alone(&model, &request).log_likelihood;
            windows += 1;
        }
    }
    assert!(windows > 5, "stories longer than the context");
    let found = evaluate(&[loaded], &mut scorer, &mut |_, _, _| {}).unwrap();
    let bits = -sum / bytes as f64 / std::f64::consts::LN_2;
    let figure = found[0].figures[2];
    assert!(
        (figure.value / bits - 1.0).abs() < 1e-6,
        "{figure:?} {bits}"
    );
    assert_eq!(figure.stderr, None);
}
