//! The command line: help with examples, and bad input answered by a one-line error, a non-zero exit and no files.

use std::fs;

use crate::support::{RECIPE, names, refused, retort, workplace};

#[test]
fn every_command_has_an_example_in_its_help() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        "demo",
        "tokenizer train",
        "data inspect",
        "train",
        "distill",
        "prune",
        "generate",
        "export",
        "report",
        "challenge arm",
        "challenge edge-llm",
        "run",
        "chat",
        "serve",
        "bench",
        "perplexity",
        "info",
        "pack",
        "quantize",
    ] {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let (ok, stdout, _) = retort(&args, dir.path());
        let example =
            stdout.contains("Example") && stdout.contains(&format!("\n  retort {command} "));
        assert!(ok && example, "{command}: {stdout}");
    }
}

/// Each would train by itself, into one directory.
#[cfg(not(feature = "mpi"))]
#[test]
fn several_processes_without_mpi_are_an_error() {
    let dir = workplace();
    let output = assert_cmd::Command::cargo_bin("retort")
        .unwrap()
        .args(["train", "recipe.toml", "--run", "run"])
        .env("OMPI_COMM_WORLD_SIZE", "2")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("--features mpi"), "{stderr}");
    assert!(!dir.path().join("run").exists());
}

#[test]
fn missing_files_are_errors_naming_them() {
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
fn truncated_shard_is_an_error_naming_it() {
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
fn unknown_recipe_key_is_an_error_naming_it() {
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
fn unknown_architecture_is_an_error_naming_it() {
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
fn unknown_device_is_an_error_listing_the_known_ones() {
    let dir = workplace();
    let message = refused(&["train", "recipe.toml", "--device", "tpu"], dir.path());
    assert!(message.contains("cpu, ndarray"), "{message}");
}

#[test]
fn demo_leaves_a_directory_that_is_not_its_own() {
    let dir = workplace();
    let at = dir.path();
    let before = (names(at), names(&at.join("corpus")));
    let message = refused(&["demo", "--out", "."], at);
    assert!(message.contains("--out"), "{message}");
    assert_eq!((names(at), names(&at.join("corpus"))), before);
}

#[test]
fn overrides_are_in_the_resolved_recipe_and_bad_ones_are_errors() {
    let dir = workplace();
    let at = dir.path();
    let set = [
        "train.steps=1",
        "train.schedule=wsd",
        "train.groups=[{parameters=[\"*norm*\"], lr_scale=0.5}]",
    ];
    let mut args = vec!["train", "recipe.toml", "--run", "r"];
    args.extend(set.iter().flat_map(|s| ["--set", *s]));
    let (ok, _, stderr) = retort(&args, at);
    assert!(ok, "{stderr}");
    let resolved = fs::read_to_string(at.join("r/recipe.toml")).unwrap();
    for line in ["steps = 1", "schedule = \"wsd\"", "lr_scale = 0.5"] {
        assert!(resolved.contains(line), "{line}: {resolved}");
    }
    // What was resolved is a recipe.
    assert!(retort(&["train", "r/recipe.toml", "--run", "again"], at).0);
    fs::write(
        at.join("student.toml"),
        format!("{RECIPE}\n[teacher]\npath = \"r/checkpoints/step-1\"\n"),
    )
    .unwrap();
    for (set, part) in [
        ("train.schedule=exponential", "cosine"),
        ("train.optimizer=sgd", "muon"),
        ("train.ema_decay=1", "train.ema_decay"),
        ("train.spike_factor=0.5", "train.spike_factor"),
        ("train.lr", "table.key=value"),
        ("train.lr=fast", "train"),
    ] {
        for command in [["train", "recipe.toml"], ["distill", "student.toml"]] {
            let message = refused(&[command[0], command[1], "--set", set], at);
            assert!(message.contains(part), "{command:?} {set}: {message}");
        }
    }
    let unnamed = ["--set", "train.groups=[{parameters=[\"*.mpl.*\"]}]"];
    let message = refused(&[&["train", "recipe.toml"], &unnamed[..]].concat(), at);
    assert!(message.contains("mlp.up_proj"), "{message}");
}
