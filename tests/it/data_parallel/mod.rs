//! Several processes that train one model, started by `mpirun` as a user starts them. Only in a build with the
//! feature `mpi`: `cargo test --release --features mpi --test it data_parallel`.

mod diloco;
mod failures;
mod synchronous;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const RECIPE: &str = r#"
[data]
source = "corpus"
tokenizer = "tokenizer"
seq_len = 32
validation_fraction = 0.1
max_validation_rows = 8
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 3
num_attention_heads = 2
[train]
steps = 12
batch_size = 8
lr = 3e-3
warmup_steps = 2
optimizer = "muon"
ema_decay = 0.9
spike_factor = 3.0
activation_checkpointing = true
"#;

/// A directory with a corpus, a tokenizer and a recipe.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus");
    retort_test_kit::write_corpus(&corpus, 300, 2);
    retort_test_kit::write_tokenizer(&dir.path().join("tokenizer"), &corpus, 300);
    fs::write(dir.path().join("recipe.toml"), RECIPE).unwrap();
    dir
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// `mpirun` with so many ranks of `retort line`.
fn mpirun(ranks: usize, line: &str, cwd: &Path) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args([
            "--oversubscribe",
            "--allow-run-as-root",
            "--bind-to",
            "none",
            "-n",
        ])
        .arg(ranks.to_string())
        .arg(env!("CARGO_BIN_EXE_retort"))
        .args(words(line))
        .current_dir(cwd)
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn run(ranks: usize, line: &str, cwd: &Path) {
    let output = mpirun(ranks, line, cwd).output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output));
}

fn refused(ranks: usize, line: &str, cwd: &Path) -> String {
    let output = mpirun(ranks, line, cwd).output().unwrap();
    assert!(!output.status.success(), "{line}");
    text(&output)
}

fn lines(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The figures of `run` that say what was learnt: losses, norms and tokens, of steps and evaluations.
fn losses(run: &Path) -> Vec<f64> {
    let keys = [
        "loss",
        "grad_norm",
        "tokens",
        "validation_loss",
        "ema_validation_loss",
    ];
    let all = lines(run);
    let of = |line: &Value| {
        keys.iter()
            .filter_map(|key| line[key].as_f64())
            .collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

fn assert_close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-5 * a.abs(), "{a} {b}");
    }
}

fn weights(run: &Path, step: u64) -> Vec<u8> {
    fs::read(run.join(format!("checkpoints/step-{step}/model.safetensors"))).unwrap()
}

/// Copies the directory `from` to `to`.
fn copy_dir(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.unwrap().success());
}
