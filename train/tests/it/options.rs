//! Optimizers, schedules, groups, averages and samples as recipes name them.

use std::fs;
use std::sync::atomic::AtomicBool;

use retort_model::Decoder;
use retort_tokenizer::Tokenizer;
use retort_train::{CrossEntropy, Evaluator, Event, TaskMetrics, prepare, train};

use super::{go, losses, recipe, weights};

/// Whole and in parts, with everything that has a state of its own.
#[test]
fn optimizers_schedules_and_ema_resume_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let groups =
        "train.groups=[{parameters=[\"*.0.*\", \"*norm*\"], lr_scale=0.5, weight_decay=0.0}]";
    let variants: [&[&str]; 4] = [
        &["train.optimizer=muon", "train.ema_decay=0.9", groups],
        &["train.schedule=wsd", "train.decay_fraction=0.5", groups],
        &[
            "train.schedule=linear",
            "train.ema_decay=0.99",
            "train.spike_factor=1.1",
        ],
        &["quantize.weights=q4_0", "train.ema_decay=0.9"],
    ];
    let mut ends = Vec::new();
    for (i, changes) in variants.into_iter().enumerate() {
        let whole = dir.path().join(format!("whole{i}"));
        let parts = dir.path().join(format!("parts{i}"));
        let end = go(recipe(changes), &whole, false, u64::MAX);
        go(recipe(changes), &parts, false, 5);
        go(recipe(changes), &parts, true, 7);
        let resumed = go(recipe(changes), &parts, true, u64::MAX);
        assert_eq!(losses(&whole), losses(&parts), "{changes:?}");
        assert_eq!(
            weights(&end.checkpoint),
            weights(&resumed.checkpoint),
            "{changes:?}"
        );
        if changes.iter().any(|c| c.contains("ema")) {
            let averages = [&end, &resumed].map(|o| weights(&o.checkpoint.join("ema")));
            assert_eq!(averages[0], averages[1], "{changes:?}");
            assert_ne!(averages[0], weights(&end.checkpoint));
        }
        ends.push(weights(&end.checkpoint));
    }
    ends.push(weights(
        &go(recipe(&[]), &dir.path().join("plain"), false, u64::MAX).checkpoint,
    ));
    for (i, a) in ends.iter().enumerate() {
        assert!(
            ends[..i].iter().all(|b| a != b),
            "two variants trained alike: {i}"
        );
    }
}

#[test]
fn ema_is_evaluated_and_loads_as_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let end = go(recipe(&["train.ema_decay=0.5"]), &run, false, u64::MAX);
    let validation = end.validation.unwrap();
    let of_average = validation.ema_validation_loss.unwrap();
    assert!((of_average - validation.validation_loss).abs() < 0.5);
    assert_ne!(of_average, validation.validation_loss);
    // Tokens of this vocabulary are longer than a byte, and a byte takes less than a token.
    let bits = validation.validation_bits_per_byte.unwrap();
    let a_token = validation.validation_loss / std::f64::consts::LN_2;
    assert!(bits > 0.0 && bits < a_token, "{bits} {a_token}");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(end.checkpoint.join("ema").join(file).exists(), "{file}");
    }
    let device = retort_train::device("cpu").unwrap();
    retort_model::load(&end.checkpoint.join("ema"), &device).unwrap();
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("ema_validation_loss").count(), 2);
}

#[test]
fn samples_are_written_and_do_not_change_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (with, without) = (dir.path().join("with"), dir.path().join("without"));
    let sampled = [
        "train.sample_every=3",
        "train.sample_prompts=[\"\", \"Once upon\"]",
        "train.sample_tokens=5",
        "train.sample_temperature=0.8",
    ];
    go(recipe(&sampled), &with, false, 7);
    let end = go(recipe(&sampled), &with, true, u64::MAX);
    let plain = go(recipe(&[]), &without, false, u64::MAX);
    assert_eq!(weights(&end.checkpoint), weights(&plain.checkpoint));
    let text = fs::read_to_string(with.join("samples.jsonl")).unwrap();
    let samples: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let steps: Vec<u64> = samples
        .iter()
        .map(|s| s["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [3, 3, 6, 6, 9, 9, 12, 12]);
    assert_eq!(samples[1]["prompt"], "Once upon");
    assert!(samples.iter().all(|s| s["text"].is_string()));
    assert!(!without.join("samples.jsonl").exists());
}

#[test]
fn param_group_without_match_is_an_error_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let device = retort_train::device("cpu").unwrap();
    let recipe = recipe(&["train.groups=[{parameters=[\"*.mpl.*\"]}]"]);
    let message = retort_train::prepare(recipe, &run, &device, false, &|_| {})
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("*.mpl.*") && message.contains("mlp.up_proj"),
        "{message}"
    );
    assert!(!run.exists());
}

#[test]
fn tensorboard_has_one_event_file_for_each_start() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    go(recipe(&["train.steps=4"]), &run, false, 2);
    go(recipe(&["train.steps=4"]), &run, true, u64::MAX);
    let events = fs::read_dir(&run).unwrap().filter(|e| {
        let name = e.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("events.out.tfevents.")
    });
    assert_eq!(events.count(), 2);
}

/// Every layer is run twice, the gradients are the same up to the order of adding those of the
/// tied embedding, and a resumed run repeats them.
#[test]
fn activation_checkpointing_changes_memory_and_not_the_losses() {
    let dir = tempfile::tempdir().unwrap();
    let variants: [&[&str]; 2] = [
        &[],
        &["data.packing=best_fit", "train.document_attention=true"],
    ];
    for (i, changes) in variants.into_iter().enumerate() {
        let path = |name: &str| dir.path().join(format!("{name}{i}"));
        let (plain, again, parts) = (path("plain"), path("again"), path("parts"));
        let with = [changes, &["train.activation_checkpointing=true"]].concat();
        go(recipe(changes), &plain, false, u64::MAX);
        let end = go(recipe(&with), &again, false, u64::MAX);
        let figures = |run: &std::path::Path| -> Vec<f64> {
            let lines = losses(run);
            let words = lines.iter().flat_map(|l| l.split(' '));
            words.filter_map(|w| w.parse().ok()).collect()
        };
        let (a, b) = (figures(&plain), figures(&again));
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-3 * a, "{changes:?}: {a} {b}");
        }
        // The first step sees the same weights.
        assert!((a[2] - b[2]).abs() < 1e-5 * a[2], "{} {}", a[2], b[2]);
        go(recipe(&with), &parts, false, 5);
        let resumed = go(recipe(&with), &parts, true, u64::MAX);
        assert_eq!(weights(&end.checkpoint), weights(&resumed.checkpoint));
    }
}

/// Answers how many layers it was shown.
struct Layers;

impl Evaluator for Layers {
    fn evaluate(
        &self,
        model: &Decoder,
        tokenizer: &Tokenizer,
    ) -> Result<TaskMetrics, Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!(tokenizer.vocab_size(), model.config().vocab_size);
        Ok([("layers/acc".to_owned(), model.layers.len() as f64)].into())
    }
}

#[test]
fn tasks_are_evaluated_when_due_and_do_not_change_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let plain = go(recipe(&[]), &dir.path().join("plain"), false, u64::MAX);
    let run = dir.path().join("asked");
    let device = retort_train::device("cpu").unwrap();
    let changes = ["tasks={names=[\"layers\"], data=[\".\"], every=5}"];
    let mut prepared = prepare(recipe(&changes), &run, &device, false, &|_| {}).unwrap();
    prepared.evaluator = Some(Box::new(Layers));
    let mut told = Vec::new();
    let stop = AtomicBool::new(false);
    let asked = train(prepared, &CrossEntropy, &stop, &mut |event| {
        if let Event::TasksEvaluated(e) = event {
            told.push(e.step);
        }
    })
    .unwrap();
    assert_eq!(told, [5, 10, 12]);
    assert_eq!(weights(&plain.checkpoint), weights(&asked.checkpoint));
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let found: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|v| v["tasks"]["layers/acc"] == 2.0)
        .map(|v| v["step"].as_u64().unwrap())
        .collect();
    assert_eq!(found, told);
    // What is asked may change between a run and its resumption.
    go(recipe(&[]), &run, true, u64::MAX);
}

#[test]
fn products_in_bfloat16_train_to_about_the_same_loss() {
    let dir = tempfile::tempdir().unwrap();
    let train = |name: &str, changes: &[&str]| {
        let end = go(recipe(changes), &dir.path().join(name), false, u64::MAX);
        (end.validation.unwrap().validation_loss, end.checkpoint)
    };
    let (full, _) = train("full", &[]);
    let half = [
        "train.precision=bfloat16",
        "train.activation_checkpointing=true",
    ];
    let (half, checkpoint) = train("half", &half);
    assert!(
        half != full && (half - full).abs() < 0.03 * full,
        "{half} {full}"
    );
    // Weights and moments stay in single precision.
    let bytes = weights(&checkpoint);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8_lossy(&bytes[8..header]).into_owned();
    assert!(
        header.contains("\"F32\"") && !header.contains("BF16"),
        "{header}"
    );
}
