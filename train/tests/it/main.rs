//! Whole runs on a small generated corpus.

mod checkpoints;
mod companions;
mod golden;
mod loss_spike;
mod options;
mod runs;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use retort_train::{CrossEntropy, Event, NoTeacher, Objective, Outcome, Recipe, prepare, train};

/// A corpus and a tokenizer, made once for all tests of this file.
fn fixture() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let corpus = dir.path().join("corpus");
        retort_test_kit::write_corpus(&corpus, 400, 2);
        retort_test_kit::write_tokenizer(&dir.path().join("tokenizer"), &corpus, 300);
        dir
    })
    .path()
}

fn recipe(changes: &[&str]) -> Recipe {
    let text = r#"
        seed = 5
        [data]
        source = "-"
        tokenizer = "-"
        seq_len = 32
        validation_fraction = 0.1
        max_validation_rows = 16
        [model]
        hidden_size = 32
        intermediate_size = 64
        num_hidden_layers = 2
        num_attention_heads = 4
        num_key_value_heads = 2
        [train]
        steps = 12
        batch_size = 4
        lr = 1e-2
        warmup_steps = 2
        eval_every = 6
        checkpoint_every = 4
        keep_checkpoints = 3
    "#;
    let mut set = vec![
        format!("data.source={:?}", fixture().join("corpus")),
        format!("data.tokenizer={:?}", fixture().join("tokenizer")),
    ];
    set.extend(changes.iter().map(|s| s.to_string()));
    Recipe::parse::<NoTeacher>(text, Path::new("test.toml"), &set).unwrap()
}

/// Runs until step `until` (or the end), as if interrupted there.
fn go(recipe: Recipe, run: &Path, resume: bool, until: u64) -> Outcome {
    try_go(recipe, run, resume, until, &CrossEntropy).unwrap()
}

/// The same with any objective; it may fail.
fn try_go(
    recipe: Recipe,
    run: &Path,
    resume: bool,
    until: u64,
    objective: &dyn Objective,
) -> Result<Outcome, retort_train::Error> {
    let device = retort_train::device("cpu").unwrap();
    let prepared = prepare(recipe, run, &device, resume, &|_| {})?;
    let stop = AtomicBool::new(false);
    train(prepared, objective, &stop, &mut |event| {
        if let Event::Step(m) = event
            && m.step >= until
        {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    })
}

/// The losses in `metrics.jsonl`, to the last digit, with their steps.
fn losses(run: &Path) -> Vec<String> {
    fs::read_to_string(run.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let v: serde_json::Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {} {} {}",
                v["step"], v["loss"], v["grad_norm"], v["validation_loss"]
            )
        })
        .collect()
}

/// The evaluations in `metrics.jsonl`: steps, and validation losses in nats.
fn validation_losses(run: &Path) -> Vec<(u64, f64)> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let v: serde_json::Value = serde_json::from_str(line).unwrap();
        Some((v["step"].as_u64()?, v["validation_loss"].as_f64()?))
    };
    text.lines().filter_map(line).collect()
}

fn weights(checkpoint: &Path) -> Vec<u8> {
    fs::read(checkpoint.join("model.safetensors")).unwrap()
}
