//! retort-edge from outside: what it prints, and the one line it fails with.

use std::path::PathBuf;
use std::process::Stdio;

use crate::program;
use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use retort_format::GgmlType;
use retort_test_kit::{Shape, write_gguf, write_gguf_changed};
use serde_json::Value;
use tempfile::TempDir;

fn retort_edge(args: &[&str]) -> Command {
    let mut command = Command::from_std(program());
    command.args(args);
    command
}

/// A folder with one tiny model in it.
fn model(shape: &Shape) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    write_gguf(&path, shape);
    let name = path.to_str().unwrap().to_owned();
    (directory, name)
}

fn q4_0() -> Shape {
    Shape {
        ty: GgmlType::Q4_0,
        ..Shape::default()
    }
}

/// Fails with exactly one line on standard error that holds `words`, and prints nothing else.
fn refused(args: &[&str], words: &[&str]) {
    let assert = retort_edge(args).assert().failure().stdout("");
    let line = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("error: "), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

fn stdout(args: &[&str]) -> String {
    let assert = retort_edge(args).assert().success();
    String::from_utf8_lossy(&assert.get_output().stdout).into_owned()
}

#[test]
fn help_lists_what_works_and_gives_examples() {
    let help = stdout(&["--help"]);
    for command in [
        "run",
        "chat",
        "serve",
        "bench",
        "perplexity",
        "info",
        "pack",
        "quantize",
    ] {
        assert!(help.contains(command));
        assert!(stdout(&[command, "--help"]).contains(&format!("retort-edge {command} ")));
    }
}

#[test]
fn greedy_text_repeats_itself_and_seeds_choose() {
    let (_directory, model) = model(&q4_0());
    let run = |more: &[&str]| {
        let args = [&["run", &model, "-p", "the sea", "-n", "24"], more].concat();
        stdout(&args)
    };
    let greedy = run(&["--temperature", "0"]);
    assert_eq!(
        greedy,
        run(&["--temperature", "0", "--threads", "1", "--seed", "9"])
    );
    let drawn = run(&["--temperature", "2", "--seed", "1"]);
    assert_eq!(drawn, run(&["--temperature", "2", "--seed", "1"]));
    assert_ne!(drawn, run(&["--temperature", "2", "--seed", "2"]));
}

#[test]
fn speed_goes_to_standard_error() {
    let (_directory, model) = model(&q4_0());
    retort_edge(&["run", &model, "-p", "the sea", "-n", "4"])
        .assert()
        .success()
        .stderr(contains("tokens/s").and(contains("prompt 5 tokens")));
}

#[test]
fn figures_have_their_names() {
    let (directory, model) = model(&q4_0());
    let args = [
        "bench", &model, "--prompt", "8", "--gen", "4", "--reps", "2", "--json",
    ];
    let figures: Value = serde_json::from_str(&stdout(&args)).unwrap();
    for key in [
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
        "ttft_seconds",
        "tpot_seconds",
        "peak_rss_bytes",
        "peak_vms_bytes",
        "threads",
    ] {
        assert!(figures[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(figures["model"], model);
    let length = std::fs::metadata(&model).unwrap().len();
    assert_eq!(figures["model_bytes"], length);
    let args = [
        "bench", &model, "--prompt", "8", "--gen", "4", "--reps", "2", "--csv",
    ];
    let csv = stdout(&args);
    let (names, row) = csv.trim_end().split_once('\n').unwrap();
    let columns: Vec<_> = names.split(',').zip(row.split(',')).collect();
    for name in [
        "report.prefill.latency.mean",
        "report.decode.throughput.value",
    ] {
        let value = columns.iter().find(|column| column.0 == name).unwrap().1;
        assert!(value.parse::<f64>().unwrap() > 0.0, "{name}");
    }
    let text = directory.path().join("text");
    std::fs::write(&text, "and the sea in the sand ".repeat(20)).unwrap();
    let text = text.to_str().unwrap();
    let args = [
        "perplexity",
        &model,
        "--text",
        text,
        "--ctx",
        "16",
        "--json",
    ];
    let figures: Value = serde_json::from_str(&stdout(&args)).unwrap();
    assert!(figures["perplexity"].as_f64().unwrap() > 1.0);
    assert_eq!(figures["tokens"].as_u64().unwrap() % 7, 0);
}

#[test]
fn a_packed_file_runs_and_guessing_changes_nothing() {
    let (directory, model) = model(&q4_0());
    let packed = directory.path().join("packed.gguf");
    let packed = packed.to_str().unwrap();
    assert_eq!(
        stdout(&["pack", &model, "--out", packed]).trim_end(),
        packed
    );
    let run = |more: &[&str]| {
        let mut args = vec![
            "run",
            packed,
            "-p",
            "and the",
            "-n",
            "20",
            "--temperature",
            "0",
        ];
        args.extend(more);
        stdout(&args)
    };
    let plain = run(&[]);
    assert!(plain.len() > 4, "{plain}");
    assert_eq!(run(&["--speculate", "lookup"]), plain);
    assert_eq!(run(&["--speculate", packed]), plain);
    assert_eq!(run(&["--threads", "3", "--pin"]), plain);
    let info = stdout(&["info", packed]);
    assert!(info.contains("Q4_0 rows16"), "{info}");
    refused(
        &["pack", packed, "--out", &model],
        &["packed.gguf", "is packed for retort-edge"],
    );
}

#[test]
fn quantizing_and_what_it_costs() {
    let (directory, parent) = model(&Shape::default());
    let [text, plain, calibrated] = ["text", "plain.gguf", "calibrated.gguf"]
        .map(|name| directory.path().join(name).to_str().unwrap().to_owned());
    std::fs::write(&text, "and the sea in the sand ".repeat(120)).unwrap();
    let quantize = ["quantize", &parent, "--out"];
    assert_eq!(
        stdout(&[&quantize[..], &[&plain]].concat()).trim_end(),
        plain
    );
    let tokens = ["--calibrate", &text, "--calibrate-tokens", "512"];
    let rotated = ["--rotate", "values", "--calibrate-passes", "2"];
    stdout(&[&quantize[..], &[&calibrated], &tokens, &rotated].concat());
    let against = [
        "perplexity",
        &calibrated,
        "--text",
        &text,
        "--ctx",
        "32",
        "--windows",
        "4",
        "--against",
        &parent,
        "--json",
    ];
    let figures: Value = serde_json::from_str(&stdout(&against)).unwrap();
    for key in ["perplexity", "parent_perplexity", "mean_kl_divergence"] {
        assert!(figures[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(figures["top1_agreement"].as_f64().unwrap() <= 1.0);
    assert_eq!(figures["tokens"], 4 * 15);
    let both = [&against[..], &[&plain]].concat();
    let figures: Value = serde_json::from_str(&stdout(&both)).unwrap();
    assert_eq!(figures.as_array().unwrap().len(), 2);
    let table = stdout(&against[..against.len() - 1]);
    assert!(table.contains("KL divergence"), "{table}");
    refused(
        &[&quantize[..], &[&plain, "--calibrate", "no/text"]].concat(),
        &["no/text", "No such file"],
    );
    let (_other, other) = model(&Shape {
        context: 16,
        ..Shape::default()
    });
    refused(
        &[
            "perplexity",
            &other,
            "--text",
            &text,
            "--ctx",
            "32",
            "--against",
            &parent,
        ],
        &["16"],
    );
}

#[test]
fn info_says_what_is_inside() {
    let (_directory, model) = model(&q4_0());
    let text = stdout(&["info", &model, "--ctx", "100"]);
    for words in [
        "general.architecture",
        "Q4_0",
        "parameters",
        "kernels",
        "100 positions",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let (_directory, model) = model(&q4_0());
    let mut child = program()
        .args([
            "run",
            &model,
            "-p",
            "the",
            "-n",
            "400",
            "--temperature",
            "3",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(!message.contains("error"), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    for command in [&["run", "-p", "x"][..], &["bench"], &["info"]] {
        let args = [command, &["no/such.gguf"]].concat();
        refused(&args, &["no/such.gguf", "No such file"]);
    }
    let (_directory, model) = model(&q4_0());
    refused(
        &["perplexity", &model, "--text", "no/text"],
        &["no/text", "No such file"],
    );
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let (directory, model) = model(&q4_0());
    let whole = std::fs::read(&model).unwrap();
    let cut: PathBuf = directory.path().join("cut.gguf");
    let name = cut.to_str().unwrap();
    for len in [
        0,
        3,
        20,
        200,
        whole.len() / 4,
        whole.len() / 2,
        whole.len() - 64,
    ] {
        std::fs::write(&cut, &whole[..len]).unwrap();
        refused(&["run", name, "-p", "x", "-n", "1"], &["cut.gguf"]);
    }
}

#[test]
fn what_is_not_supported_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let name = path.to_str().unwrap();
    let refused_with = |key: &str, value: &str, words: &[&str]| {
        write_gguf_changed(&path, &q4_0(), |writer| writer.set(key, value).unwrap());
        refused(&["run", name, "-p", "x"], words);
    };
    refused_with("general.architecture", "mamba", &["mamba", "llama"]);
    refused_with("tokenizer.ggml.model", "llama", &["llama", "gpt2"]);
    refused_with("tokenizer.ggml.pre", "tekken", &["tekken", "smollm"]);
}

#[test]
fn arguments_out_of_range_are_said() {
    let (directory, model) = model(&q4_0());
    let run = ["run", model.as_str(), "-p", "the"];
    refused(&[&run[..], &["-n", "600"]].concat(), &["context of 512"]);
    refused(
        &[&run[..], &["--temperature=-1"]].concat(),
        &["temperature"],
    );
    refused(&[&run[..], &["--top-p", "0"]].concat(), &["top-p"]);
    refused(&["bench", &model, "--reps", "0"], &["reps"]);
    refused(&["bench", &model, "--prompt", "9999999999"], &["512"]);
    let text = directory.path().join("short");
    std::fs::write(&text, "the sea").unwrap();
    let perplexity = ["perplexity", &model, "--text", text.to_str().unwrap()];
    refused(&perplexity, &["5 tokens"]);
    refused(&[&perplexity[..], &["--ctx", "513"]].concat(), &["512"]);
}

#[test]
fn unknown_kernels_are_refused_at_once() {
    let (_directory, model) = model(&q4_0());
    let mut command = retort_edge(&["info", &model]);
    command.env("RETORT_KERNELS", "abacus");
    command.assert().failure().stderr(contains("abacus"));
}

#[test]
fn run_follows_a_regular_expression_and_tells_log_probabilities() {
    let (_directory, model) = model(&q4_0());
    let run =
        |more: &[&str]| stdout(&[&["run", &model, "-p", "the sea", "-n", "12"], more].concat());
    let digits = run(&["--regex", "[0-9]{3,9}"]);
    let digits = digits.trim_end();
    assert!(
        digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit()),
        "{digits}"
    );
    let told = run(&["--temperature", "0", "--logprobs", "2"]);
    let greedy = run(&["--temperature", "0"]);
    let tokens: Vec<Value> = (told.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text: String = tokens
        .iter()
        .map(|t| t["token"].as_str().unwrap())
        .collect();
    assert_eq!(text.trim_end(), greedy.trim_end());
    for token in &tokens {
        assert_eq!(token["top"].as_array().unwrap().len(), 2);
        assert_eq!(token["top"][0]["id"], token["id"]);
        assert!(token["logprob"].as_f64().unwrap() < 0.0);
    }
    refused(
        &["run", &model, "-p", "x", "--json-schema", "{"],
        &["--json-schema", "JSON"],
    );
}
