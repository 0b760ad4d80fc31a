//! A corpus, a tokenizer, teachers, and runs of small recipes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use retort_distill::{Distillation, TeacherConfig};
use retort_format::GgmlType;
use retort_tokenizer::Tokenizer;
use retort_train::{CrossEntropy, Event, Objective, Outcome, Recipe, prepare, train};

const TEXT: &str = r#"
    [data]
    source = "-"
    tokenizer = "-"
    seq_len = 32
    [model]
    hidden_size = 32
    intermediate_size = 64
    num_hidden_layers = 1
    num_attention_heads = 2
    [train]
    steps = 40
    batch_size = 4
    lr = 1e-2
    warmup_steps = 4
    [teacher]
    path = "-"
    [teacher.losses]
    forward_kl = 1.0
"#;

pub fn tokenizer(dir: &Path, vocabulary: usize) -> std::path::PathBuf {
    let corpus = dir.join("corpus");
    retort_test_kit::write_corpus(&corpus, 300, 1);
    let out = dir.join(format!("tokenizer-{vocabulary}"));
    retort_test_kit::write_tokenizer(&out, &corpus, vocabulary);
    out
}

pub fn recipe(dir: &Path, tokenizer: &Path, changes: &[String]) -> Recipe {
    let mut set = vec![
        format!("data.source={:?}", dir.join("corpus")),
        format!("data.tokenizer={tokenizer:?}"),
    ];
    set.extend_from_slice(changes);
    Recipe::parse::<TeacherConfig>(TEXT, Path::new("test.toml"), &set).unwrap()
}

/// Trains and answers with every step's forward divergence (or none).
pub fn train_recipe(recipe: Recipe, run: &Path, objective: &dyn Objective) -> (Outcome, Vec<f64>) {
    let device = retort_train::device("cpu").unwrap();
    let prepared = prepare(recipe, run, &device, false, &|_| {}).unwrap();
    let mut kl = Vec::new();
    let stop = AtomicBool::new(false);
    let outcome = train(prepared, objective, &stop, &mut |event| {
        if let Event::Step(m) = event {
            kl.extend(m.parts.get("forward_kl").and_then(|v| v.as_f64()));
        }
    });
    (outcome.unwrap(), kl)
}

/// Trains until step `until` (or the end), as if interrupted there; goes on if something is there.
pub fn train_until(recipe: &Recipe, run: &Path, until: u64) -> Outcome {
    let objective = objective(recipe).unwrap();
    let device = retort_train::device("cpu").unwrap();
    let prepared = prepare(recipe.clone(), run, &device, run.exists(), &|_| {}).unwrap();
    let stop = AtomicBool::new(false);
    let outcome = train(prepared, &objective, &stop, &mut |event| {
        if let Event::Step(m) = event {
            stop.store(m.step >= until, Ordering::Relaxed);
        }
    });
    outcome.unwrap()
}

/// A run of `recipe`, and one stopped after each of `stops` and gone on with: they must have the
/// same losses and, in each of `files`, the same bits. Answers the first.
pub fn assert_resume_is_exact(
    recipe: &Recipe,
    dir: &Path,
    stops: &[u64],
    files: &[&str],
) -> Outcome {
    let (whole, parts) = (dir.join("whole"), dir.join("parts"));
    let end = train_until(recipe, &whole, u64::MAX);
    for &stop in stops {
        let outcome = train_until(recipe, &parts, stop);
        assert_eq!((outcome.step, outcome.stopped), (stop, true));
    }
    let resumed = train_until(recipe, &parts, u64::MAX);
    assert_eq!(loss_lines(&whole), loss_lines(&parts));
    for file in files {
        let of = |outcome: &Outcome| fs::read(outcome.checkpoint.join(file)).unwrap();
        assert!(of(&end) == of(&resumed), "{file} differs");
    }
    end
}

/// The steps in `run/metrics.jsonl`.
pub fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let all = text.lines().map(|l| serde_json::from_str(l).unwrap());
    all.filter(|v: &serde_json::Value| v.get("grad_norm").is_some())
        .collect()
}

/// Their losses and norms, to the last digit.
pub fn loss_lines(run: &Path) -> Vec<String> {
    let line = |v: &serde_json::Value| format!("{} {} {}", v["step"], v["loss"], v["grad_norm"]);
    metrics(run).iter().map(line).collect()
}

/// The part called `name` of every step that has it.
pub fn loss_part(run: &Path, name: &str) -> Vec<f64> {
    metrics(run)
        .iter()
        .filter_map(|v| v[name].as_f64())
        .collect()
}

/// A teacher of three layers, wider than the students here, and its tokenizer.
pub fn deep_teacher(dir: &Path, width: usize) -> (PathBuf, PathBuf) {
    let tokens = tokenizer(dir, 300);
    let changes = [
        "model.num_hidden_layers=3".to_owned(),
        format!("model.hidden_size={width}"),
    ];
    let recipe = recipe(dir, &tokens, &changes);
    let (teacher, _) = train_recipe(recipe, &dir.join("deep-teacher"), &CrossEntropy);
    (teacher.checkpoint, tokens)
}

/// A teacher in `dir`, trained for 40 steps, and its tokenizer.
pub fn teacher(dir: &Path) -> (PathBuf, PathBuf) {
    let tokens = tokenizer(dir, 300);
    let run = dir.join("teacher");
    let (teacher, _) = train_recipe(recipe(dir, &tokens, &[]), &run, &CrossEntropy);
    (teacher.checkpoint, tokens)
}

/// The objective of `recipe`.
pub fn objective(recipe: &Recipe) -> retort_distill::Result<Distillation> {
    let config = TeacherConfig::of(recipe)?;
    let tokenizer = Tokenizer::from_file(&recipe.data.tokenizer, None)?;
    let device = retort_train::device("cpu").unwrap();
    Distillation::open(config, &tokenizer, &device, recipe)
}

/// Distils and answers with the divergences in the first and in the last five steps.
pub fn distil_recipe(recipe: Recipe, run: &Path) -> (f64, f64) {
    let objective = objective(&recipe).unwrap();
    let (_, kl) = train_recipe(recipe, run, &objective);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    (mean(&kl[..5]), mean(&kl[kl.len() - 5..]))
}

/// The teacher as a file for the edge engine.
pub fn as_gguf(checkpoint: &Path, quant: GgmlType) -> PathBuf {
    let path = checkpoint.with_extension("gguf");
    retort_convert::export::export(checkpoint, &path, quant, |_| {}).unwrap();
    path
}
