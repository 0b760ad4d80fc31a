//! The command line as a user meets it: help with examples, and bad input answered by one
//! clear line, a non-zero exit and nothing written.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use retort_data::stories;

fn retort(args: &[&str], cwd: &Path) -> (bool, String, String) {
    let output = Command::cargo_bin("retort")
        .unwrap()
        .args(args)
        .current_dir(cwd)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Runs what must fail; answers the error after checking that it is one line.
fn refused(args: &[&str], cwd: &Path) -> String {
    let (ok, stdout, stderr) = retort(args, cwd);
    assert!(!ok, "{args:?} succeeded");
    assert_eq!(stdout, "", "{args:?}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    stderr
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

const RECIPE: &str = r#"
[data]
source = "corpus"
tokenizer = "tokenizer"
seq_len = 32
validation_fraction = 0.1
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 1
num_attention_heads = 2
[train]
steps = 3
batch_size = 2
lr = 1e-3
"#;

/// A directory with a corpus, a tokenizer and a recipe.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus");
    stories::write_parquet(&corpus, &stories::generate(1, 200), 2).unwrap();
    let (ok, _, stderr) = retort(
        &[
            "tokenizer",
            "train",
            "--data",
            "corpus",
            "--vocab-size",
            "300",
            "--out",
            "tokenizer",
        ],
        dir.path(),
    );
    assert!(ok, "{stderr}");
    fs::write(dir.path().join("recipe.toml"), RECIPE).unwrap();
    dir
}

#[test]
fn every_command_has_an_example_in_its_help() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        "demo",
        "tokenizer train",
        "data inspect",
        "train",
        "distill",
        "generate",
        "export",
        "report",
    ] {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let (ok, stdout, _) = retort(&args, dir.path());
        assert!(ok && stdout.contains("Example"), "{command}: {stdout}");
    }
}

#[test]
fn the_line_from_shards_to_gguf_works_command_by_command() {
    let dir = workplace();
    let at = dir.path();
    let (ok, stdout, stderr) = retort(
        &[
            "data",
            "inspect",
            "corpus",
            "--tokenizer",
            "tokenizer",
            "--json",
        ],
        at,
    );
    assert!(ok, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(figures["documents"], 200);
    assert!(figures["tokens"].as_u64().unwrap() > 1000);

    let (ok, stdout, stderr) = retort(&["train", "recipe.toml", "--run", "teacher"], at);
    assert!(ok, "{stderr}");
    assert!(stdout.contains("validation loss"), "{stdout}");
    assert!(at.join("teacher/recipe.toml").exists() && at.join("teacher/metrics.jsonl").exists());

    fs::write(
        at.join("student.toml"),
        format!("{RECIPE}\n[teacher]\npath = \"teacher/checkpoints/step-3\"\n"),
    )
    .unwrap();
    let (ok, _, stderr) = retort(&["distill", "student.toml", "--run", "student"], at);
    assert!(ok, "{stderr}");

    let (ok, stdout, stderr) = retort(&["generate", "student", "-p", "One day", "-n", "5"], at);
    assert!(ok && stdout.starts_with("One day"), "{stdout}{stderr}");

    let (ok, stdout, stderr) = retort(&["export", "student", "--out", "s.gguf"], at);
    assert!(ok, "{stderr}");
    assert_eq!(stdout.trim(), "s.gguf");
    retort_infer::Model::open(&at.join("s.gguf")).unwrap();

    let (ok, _, stderr) = retort(&["report", "teacher", "student", "--out", "report"], at);
    assert!(ok, "{stderr}");
    assert!(at.join("report/index.html").exists());
}

#[test]
fn a_run_is_resumed_and_not_trained_over() {
    let dir = workplace();
    let at = dir.path();
    assert!(retort(&["train", "recipe.toml", "--run", "r"], at).0);
    let message = refused(&["train", "recipe.toml", "--run", "r"], at);
    assert!(message.contains("--resume"), "{message}");
    assert!(retort(&["train", "recipe.toml", "--run", "r", "--resume"], at).0);
}

#[test]
fn missing_files_are_named() {
    let dir = workplace();
    let at = dir.path();
    let before = names(at);
    for (args, part) in [
        (vec!["train", "nowhere.toml"], "nowhere.toml"),
        (
            vec!["train", "recipe.toml", "--set", "data.source=nowhere"],
            "nowhere",
        ),
        (
            vec!["train", "recipe.toml", "--set", "data.tokenizer=nowhere"],
            "nowhere",
        ),
        (vec!["data", "inspect", "nowhere"], "nowhere"),
        (vec!["export", "nowhere", "--out", "x.gguf"], "nowhere"),
        (vec!["generate", "nowhere", "-p", "a"], "nowhere"),
        (vec!["report", "nowhere", "--out", "x"], "nowhere"),
        (
            vec![
                "tokenizer",
                "train",
                "--data",
                "nowhere",
                "--vocab-size",
                "300",
                "--out",
                "x",
            ],
            "nowhere",
        ),
        (vec!["distill", "recipe.toml"], "[teacher]"),
    ] {
        let message = refused(&args, at);
        assert!(message.contains(part), "{args:?}: {message}");
        assert_eq!(names(at), before, "{args:?} wrote something");
    }
}

#[test]
fn a_truncated_shard_is_refused() {
    let dir = workplace();
    let at = dir.path();
    let shard = at.join("corpus/stories-train-00001-of-00002.parquet");
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
    let before = names(at);
    for args in [
        vec!["train", "recipe.toml"],
        vec!["data", "inspect", "corpus"],
    ] {
        let message = refused(&args, at);
        assert!(
            message.contains("stories-train-00001-of-00002.parquet"),
            "{message}"
        );
        assert_eq!(names(at), before);
    }
}

#[test]
fn an_unknown_recipe_key_is_refused() {
    let dir = workplace();
    let at = dir.path();
    let before = names(at);
    for set in [
        "train.learning_rate=1",
        "model.hiden_size=1",
        "data.shards=1",
        "optimizer.x=1",
    ] {
        let message = refused(&["train", "recipe.toml", "--set", set], at);
        let (section, key) = set.split_once('.').unwrap();
        let key = match section {
            "optimizer" => section,
            _ => key.trim_end_matches("=1"),
        };
        assert!(message.contains(key), "{set}: {message}");
        assert_eq!(names(at), before);
    }
}

#[test]
fn a_checkpoint_of_another_architecture_is_refused() {
    let dir = workplace();
    let at = dir.path();
    fs::create_dir(at.join("other")).unwrap();
    fs::write(at.join("other/config.json"), r#"{"model_type": "mamba"}"#).unwrap();
    let before = names(at);
    for args in [
        vec!["export", "other", "--out", "x.gguf"],
        vec!["generate", "other", "-p", "a"],
        vec!["train", "recipe.toml", "--set", "model={from=\"other\"}"],
    ] {
        let message = refused(&args, at);
        assert!(message.contains("mamba"), "{args:?}: {message}");
        assert_eq!(names(at), before, "{args:?} wrote something");
    }
}

#[test]
fn an_unknown_device_lists_the_known_ones() {
    let dir = workplace();
    let message = refused(&["train", "recipe.toml", "--device", "tpu"], dir.path());
    assert!(message.contains("cpu, ndarray"), "{message}");
}

#[test]
fn the_demo_does_not_touch_a_directory_that_is_not_its_own() {
    let dir = workplace();
    let at = dir.path();
    let before = (names(at), names(&at.join("corpus")));
    let message = refused(&["demo", "--out", "."], at);
    assert!(message.contains("--out"), "{message}");
    assert_eq!((names(at), names(&at.join("corpus"))), before);
}
