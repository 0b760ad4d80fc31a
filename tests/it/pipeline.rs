//! The pipeline command by command: from shards to a GGUF, resuming, pruning.

use std::fs;

use crate::support::{RECIPE, names, refused, retort, workplace};

#[test]
fn pipeline_from_shards_to_gguf_works_command_by_command() {
    let dir = workplace();
    let at = dir.path();
    fs::remove_dir_all(at.join("tokenizer")).unwrap();
    let train = "tokenizer train --data corpus --vocab-size 300 --out tokenizer";
    let (ok, _, stderr) = retort(&train.split(' ').collect::<Vec<_>>(), at);
    assert!(ok, "{stderr}");
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
    let cache = [
        "distill",
        "cache",
        "student.toml",
        "--out",
        "cache",
        "--json",
    ];
    let (ok, stdout, stderr) = retort(&cache, at);
    assert!(ok, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(figures["rows"].as_u64().unwrap() > 0 && figures["bytes_per_token"].is_f64());
    let from = ["--set", "teacher.cache=cache", "--run", "cached"];
    let (ok, _, stderr) = retort(&[&["distill", "student.toml"], &from[..]].concat(), at);
    assert!(ok, "{stderr}");

    let (ok, stdout, stderr) = retort(&["generate", "student", "-p", "One day", "-n", "5"], at);
    assert!(ok && stdout.starts_with("One day"), "{stdout}{stderr}");

    let (ok, stdout, stderr) = retort(&["export", "student", "--out", "s.gguf"], at);
    assert!(ok, "{stderr}");
    assert_eq!(stdout.trim(), "s.gguf");
    retort_engine::Model::open(&at.join("s.gguf")).unwrap();

    let (ok, stdout, stderr) = retort(&["run", "s.gguf", "-p", "One day", "-n", "5"], at);
    assert!(
        ok && stdout.len() > 1 && stderr.contains("generated"),
        "{stdout}{stderr}"
    );
    let (ok, stdout, stderr) = retort(&["info", "s.gguf"], at);
    assert!(ok && stdout.contains("llama"), "{stdout}{stderr}");
    let bench = [
        "bench", "s.gguf", "--prompt", "8", "--gen", "4", "--reps", "1", "--json",
    ];
    let (ok, stdout, stderr) = retort(&bench, at);
    assert!(ok, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(figures["decode_tokens_per_second"].as_f64().unwrap() > 0.0);
    fs::write(
        at.join("text.txt"),
        "One day a cat sat on a mat. ".repeat(40),
    )
    .unwrap();
    let perplexity = [
        "perplexity",
        "s.gguf",
        "--text",
        "text.txt",
        "--ctx",
        "32",
        "--json",
    ];
    let (ok, stdout, stderr) = retort(&perplexity, at);
    assert!(ok && stdout.contains("perplexity"), "{stdout}{stderr}");
    let (ok, _, stderr) = retort(&["pack", "s.gguf", "--out", "packed.gguf"], at);
    assert!(ok && at.join("packed.gguf").exists(), "{stderr}");

    let (ok, _, stderr) = retort(&["report", "teacher", "student", "--out", "report"], at);
    assert!(ok, "{stderr}");
    assert!(at.join("report/index.html").exists());
}

#[test]
fn train_into_a_finished_run_needs_resume() {
    let dir = workplace();
    let at = dir.path();
    assert!(retort(&["train", "recipe.toml", "--run", "r"], at).0);
    let message = refused(&["train", "recipe.toml", "--run", "r"], at);
    assert!(message.contains("--resume"), "{message}");
    assert!(retort(&["train", "recipe.toml", "--run", "r", "--resume"], at).0);
}

#[test]
fn pruned_model_trains_and_exports() {
    let dir = workplace();
    let at = dir.path();
    let deeper = ["--set", "model.num_hidden_layers=4"];
    let train = ["train", "recipe.toml", "--run", "r"];
    assert!(retort(&[&train[..], &deeper[..]].concat(), at).0);
    let before = names(at);
    let prune = |more: &str| -> Vec<String> {
        let args = format!("prune r {more}");
        args.split(' ').map(str::to_owned).collect()
    };
    let call = |more: &str| {
        let args = prune(more);
        retort(&args.iter().map(String::as_str).collect::<Vec<_>>(), at)
    };
    let (ok, stdout, stderr) = call("--params 30k --plan");
    assert!(ok && stdout.contains("parameters"), "{stderr}");
    let (ok, stdout, _) = call("--layers 2 --vocab 280 --plan --json");
    let plan: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(ok && plan["student"]["layers"] == 2 && plan["parent"]["layers"] == 4);
    assert_eq!(names(at), before, "a plan writes nothing");
    for (more, part) in [
        ("--out s --layers 9", "--layers"),
        ("--out s --layers 2", "--data"),
        ("--out s --layers 2 --data nowhere", "nowhere"),
        ("--out s --vocab 290", "--vocab-from"),
        ("--out s --mlp 16 --device tpu", "tpu"),
    ] {
        let args = prune(more);
        let message = refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), at);
        assert!(message.contains(part), "{more}: {message}");
        assert_eq!(names(at), before, "{more} wrote something");
    }
    let all = "--out s --layers 3 --hidden 16 --heads 1 --mlp 32 --vocab 290 --vocab-from corpus \
               --data corpus --tokens 512 --seq-len 32";
    let (ok, stdout, stderr) = call(&all.split_whitespace().collect::<Vec<_>>().join(" "));
    assert!(ok && stdout == "s\n", "{stdout}{stderr}");
    assert!(stderr.contains("layers kept: 0 "), "{stderr}");
    let from = "model={from=\"s\"}";
    let more = ["--run", "t", "--set", from, "--set", "data.tokenizer=s"];
    let (ok, _, stderr) = retort(&[&["train", "recipe.toml"], &more[..]].concat(), at);
    assert!(ok, "{stderr}");
    let (ok, _, stderr) = retort(&["export", "s", "--out", "s.gguf"], at);
    assert!(ok, "{stderr}");
}
