//! `retort eval`: a checkpoint through Burn and its GGUF through the engine come to the same, and
//! bad input is answered by one clear line with nothing written.

use std::fs;
use std::path::Path;

use retort_data::stories;
use serde_json::{Value, json};

use crate::support::retort;

fn done(args: &[&str], cwd: &Path) -> String {
    let (ok, stdout, stderr) = retort(args, cwd);
    assert!(ok, "{args:?}: {stderr}");
    stdout
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
num_hidden_layers = 2
num_attention_heads = 2
[train]
steps = 30
batch_size = 4
lr = 1e-2
"#;

/// A directory with a trained checkpoint, its F32 GGUF, and questions in ARC's layout.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    retort_test_kit::write_corpus(&path.join("corpus"), 200, 2);
    retort_test_kit::write_tokenizer(&path.join("tokenizer"), &path.join("corpus"), 300);
    fs::write(path.join("recipe.toml"), RECIPE).unwrap();
    done(&["train", "recipe.toml", "--run", "run"], path);
    done(
        &["export", "run", "--out", "model.gguf", "--quant", "f32"],
        path,
    );
    let mut lines = String::new();
    for (i, four) in stories::generate(5, 80).chunks(4).enumerate() {
        let words = |j: usize, n: usize| -> String {
            four[j]
                .text
                .split(' ')
                .take(n)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let choices: Vec<String> = (0..4).map(|j| words(j, 1 + (i + j) % 5)).collect();
        let row = json!({
            "question": words(i % 4, 9),
            "choices": {"text": choices, "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD".chars().nth(i % 4),
        });
        lines += &format!("{row}\n");
    }
    fs::write(path.join("arc_easy.test.jsonl"), lines).unwrap();
    dir
}

fn items(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn logs(items: &[Value]) -> Vec<f64> {
    let logs = items
        .iter()
        .flat_map(|i| i["log_likelihoods"].as_array().unwrap());
    logs.map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn eval_by_burn_and_by_the_engine_agree() {
    let dir = workplace();
    let path = dir.path();
    let own = r#"
        name = "letters"
        metrics = ["acc"]
        [multiple_choice]
        prompt = "{{ question }} A, B or C:"
        choices = "['A', 'B', 'C', 'D']"
        target = "answerKey"
        [[source]]
        files = ["arc_easy.test.jsonl"]
    "#;
    fs::write(path.join("letters.toml"), own).unwrap();
    let writes = r#"
        name = "goes_on"
        metrics = ["exact_match"]
        [generation]
        prompt = "{{ question }}"
        target = "{{ question }}"
        until = ["zzz", "."]
        max_tokens = 12
        [[source]]
        files = ["arc_easy.test.jsonl"]
    "#;
    fs::write(path.join("goes_on.toml"), writes).unwrap();
    let tasks = "arc_easy,goes_on.toml,letters.toml";
    let task = ["--tasks", tasks, "--data", "."];
    let engine = [
        "eval",
        "model.gguf",
        "--items",
        "engine.jsonl",
        "--json",
        "engine.json",
    ];
    let table = done(&[&engine[..], &task].concat(), path);
    assert!(
        table.contains("acc_norm") && table.contains("letters"),
        "{table}"
    );
    let burn = [
        "eval",
        "run",
        "--items",
        "burn.jsonl",
        "--json",
        "-",
        "--batch-tokens",
        "100",
    ];
    let printed = done(&[&burn[..], &task].concat(), path);
    let a = items(&path.join("engine.jsonl"));
    let b = items(&path.join("burn.jsonl"));
    assert_eq!((a.len(), b.len()), (60, 60));
    let texts = |items: &[Value]| -> Vec<String> {
        let texts = items.iter().filter_map(|item| item["completion"].as_str());
        texts.map(str::to_owned).collect()
    };
    assert_eq!(texts(&a), texts(&b));
    assert!(texts(&a).len() == 20 && texts(&a).iter().all(|t| !t.is_empty() && !t.contains('.')));
    for (a, b) in logs(&a).iter().zip(logs(&b)) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
    let burn: Value = serde_json::from_str(&printed).unwrap();
    let engine: Value =
        serde_json::from_str(&fs::read_to_string(path.join("engine.json")).unwrap()).unwrap();
    assert_eq!(burn["results"], engine["results"]);
    assert_eq!(engine["config"]["backend"], "retort-engine");
    assert_eq!(burn["config"]["backend"], "burn");
    let length = fs::metadata(path.join("model.gguf")).unwrap().len();
    assert_eq!(engine["config"]["model_bytes"], length);
    assert!(burn["config"]["model_bytes"].as_u64().unwrap() > 1000);
    // One by one, all at once, and by a single thread: the same.
    for more in [
        ["--batch-tokens", "1"],
        ["--batch-tokens", "100000"],
        ["--threads", "1"],
    ] {
        let burn = ["eval", "run", "--items", "again.jsonl"];
        done(&[&burn[..], &more, &task].concat(), path);
        let again = logs(&items(&path.join("again.jsonl")));
        for (a, b) in logs(&b).iter().zip(again) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
    // A context cut short changes what is long, not what is counted.
    let short = [
        "eval",
        "model.gguf",
        "--items",
        "short.jsonl",
        "--max-length",
        "24",
    ];
    done(&[&short[..], &task].concat(), path);
    assert_ne!(logs(&items(&path.join("short.jsonl"))), logs(&a));
    // How far files are from the checkpoint that they were made of.
    let text: Vec<_> = (stories::generate(9, 20).into_iter())
        .map(|story| story.text)
        .collect();
    fs::write(path.join("text.txt"), text.join("\n")).unwrap();
    done(&["export", "run", "--out", "q4.gguf"], path);
    let far = |model: &str| -> Value {
        let against = ["--against", "run", "--text", "text.txt"];
        let more = ["--max-length", "32", "--windows", "9", "--json", "-"];
        let figures = done(&[&["eval", model], &against[..], &more].concat(), path);
        serde_json::from_str(&figures).unwrap()
    };
    let (same, rounded) = (far("model.gguf"), far("q4.gguf"));
    assert_eq!(same["top1_agreement"], 1.0);
    assert!(same["mean_kl_divergence"].as_f64().unwrap().abs() < 1e-9);
    let kl = rounded["mean_kl_divergence"].as_f64().unwrap();
    assert!(kl > 1e-6 && kl < 0.5, "{kl}");
    assert_eq!(rounded["tokens"], 9 * 15);
    // Files are written whole: nothing aside is left.
    let left = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name());
    assert!(
        !left.into_iter().any(
            |n| n.to_string_lossy().contains(".tmp") || n.to_string_lossy().contains(".parent")
        )
    );
}

#[test]
fn eval_errors_are_one_line_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::write(path.join("arc_easy.test.jsonl"), "{}\n").unwrap();
    fs::write(path.join("bad.toml"), "name = 3").unwrap();
    fs::write(path.join("bad.gguf"), "GGUF").unwrap();
    let before = fs::read_dir(path).unwrap().count();
    for (model, tasks, more, says) in [
        (
            "bad.gguf",
            "arc",
            None,
            "there is no task \"arc\"; built in are arc_challenge",
        ),
        (
            "bad.gguf",
            "piqa",
            None,
            "no file in . matches piqa.validation.jsonl",
        ),
        (
            "bad.gguf",
            "arc_easy",
            None,
            "task arc_easy: item 0: multiple_choice.prompt",
        ),
        (
            "bad.gguf",
            "bad.toml",
            None,
            "bad.toml: line 1: invalid type",
        ),
        (
            "bad.gguf",
            "none.toml",
            None,
            "none.toml: cannot read the task",
        ),
        (
            "bad.gguf",
            "wikitext",
            Some(["--json", "no/x.json"]),
            "no/x.json: cannot write it",
        ),
        (
            "nowhere",
            "arc_easy",
            Some(["--limit", "0"]),
            "nowhere/config.json",
        ),
        ("bad.gguf", "arc_easy", Some(["--limit", "0"]), "bad.gguf"),
    ] {
        let mut args = vec![
            "eval", model, "--tasks", tasks, "--data", ".", "--items", "i.jsonl",
        ];
        args.extend(more.iter().flatten());
        let (ok, stdout, stderr) = retort(&args, path);
        assert!(!ok && stdout.is_empty(), "{args:?}");
        assert!(
            stderr.starts_with("error: ") && stderr.contains(says),
            "{stderr}"
        );
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
        assert_eq!(fs::read_dir(path).unwrap().count(), before, "{args:?}");
    }
}

#[test]
fn in_training_eval_equals_eval_of_the_checkpoint() {
    let dir = workplace();
    let path = dir.path();
    let recipe = format!(
        "{RECIPE}[tasks]\nnames = [\"arc_easy\"]\ndata = [\".\"]\nevery = 20\nlimit = 15\n"
    );
    fs::write(path.join("asked.toml"), &recipe).unwrap();
    done(&["train", "asked.toml", "--run", "asked"], path);
    let text = fs::read_to_string(path.join("asked/metrics.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    let asked: Vec<Value> = lines.filter(|v| v["tasks"].is_object()).collect();
    let steps: Vec<&Value> = asked.iter().map(|v| &v["step"]).collect();
    assert_eq!(steps, [20, 30]);
    let task = [
        "eval", "asked", "--tasks", "arc_easy", "--data", ".", "--limit", "15", "--json", "-",
    ];
    let printed: Value = serde_json::from_str(&done(&task, path)).unwrap();
    for metric in ["acc", "acc_norm"] {
        assert_eq!(
            asked[1]["tasks"][format!("arc_easy/{metric}")],
            printed["results"]["arc_easy"][metric],
            "{printed}"
        );
    }
    // A task whose file is not there is found out before anything is trained.
    let missing = recipe.replace("arc_easy", "piqa");
    fs::write(path.join("missing.toml"), missing).unwrap();
    let (ok, _, stderr) = retort(&["train", "missing.toml", "--run", "none"], path);
    assert!(!ok && stderr.contains("piqa.validation"), "{stderr}");
    assert!(!path.join("none").exists());
}
