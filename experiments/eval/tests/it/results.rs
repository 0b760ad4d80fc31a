//! Models' results joined from the JSON of two commands: the report's plots, and the challenges' scores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use retort_eval::challenge::{arm, edge_llm};
use retort_eval::results::{self, ModelResults};
use retort_eval::{Error, report};
use serde_json::{Value, json};

/// What `retort eval --json` writes.
fn eval(dir: &Path, model: &str, accuracies: [f64; 3]) -> PathBuf {
    let [arc, hellaswag, piqa] = accuracies;
    let figures = json!({
        "results": {
            "arc_challenge": {"acc": 0.1, "acc_stderr": 0.01, "acc_norm": arc, "acc_norm_stderr": 0.012},
            "hellaswag": {"acc_norm": hellaswag, "acc_norm_stderr": 0.005},
            "hellaswag_part": {"acc": 0.9},
            "piqa": {"acc": piqa, "acc_stderr": null},
            "wikitext": {"word_perplexity": 20.0},
        },
        "n-shot": {"arc_challenge": 0, "hellaswag": 0, "piqa": 0, "wikitext": 0},
        "config": {"model": model, "model_bytes": 1_000_000},
    });
    written(dir, &format!("{model}.eval.json"), &figures)
}

/// What `retort-edge bench --json` prints.
fn bench(model: &str, rate: f64, bytes: u64) -> Value {
    json!({
        "model": model, "model_bytes": 1_000_000, "parameters": 2_000_000, "threads": 2,
        "prompt_tokens": 560, "generated_tokens": 50,
        "prefill_tokens_per_second": 10.0 * rate, "decode_tokens_per_second": rate,
        "ttft_seconds": 56.0 / rate, "tpot_seconds": 1.0 / rate, "tpot_seconds_values": vec![1.0 / rate; 10],
        "peak_rss_bytes": bytes, "peak_vms_bytes": 2 * bytes, "another": null,
    })
}

fn written(dir: &Path, name: &str, value: &Value) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, value.to_string()).unwrap();
    path
}

fn pair(dir: &Path, model: &str, accuracies: [f64; 3], rate: f64, bytes: u64) -> [PathBuf; 2] {
    let speed = written(
        dir,
        &format!("{model}.bench.json"),
        &bench(model, rate, bytes),
    );
    [eval(dir, model, accuracies), speed]
}

fn one(files: &[PathBuf]) -> ModelResults {
    results::read(files).unwrap().remove(0)
}

#[test]
fn report_on_models_has_tables_and_pareto_plots() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (model, piqa, rate) in [("small.gguf", 0.6, 200.0), ("large.gguf", 0.7, 50.0)] {
        files.extend(pair(dir.path(), model, [0.3, 0.4, piqa], rate, 1 << 20));
    }
    let out = dir.path().join("out");
    let none: [PathBuf; 0] = [];
    let index = report::write(&none, &files, &out).unwrap();
    let page = std::fs::read_to_string(index).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    // (0.3 + 0.4 + 0.6) / 3, and 1000 / 200 milliseconds.
    assert!(
        page.contains("43.3 ± 0.4 %") && page.contains("<td>5.00</td>"),
        "{page}"
    );
    assert!(!page.contains("hellaswag_part"), "a group is no task");
    let csv = std::fs::read_to_string(out.join("models.csv")).unwrap();
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert!(
        lines[1].starts_with("small,1000000,2000000,0.005,2000,1048576,2097152,0.3,0.012,"),
        "{csv}"
    );
    let svg = std::fs::read_to_string(out.join("accuracy-time.svg")).unwrap();
    for label in ["milliseconds a token", "mean accuracy", "small", "large"] {
        assert!(svg.contains(label), "{label}");
    }
    assert!(!out.join("metrics.csv").exists());
}

#[test]
fn report_on_runs_lists_the_recipe_keys_that_differ() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, recipe: &str| {
        let run = dir.path().join(name);
        std::fs::create_dir(&run).unwrap();
        std::fs::write(
            run.join("metrics.jsonl"),
            "{\"step\":1,\"tokens\":8,\"loss\":2.5}\n",
        )
        .unwrap();
        std::fs::write(run.join("recipe.toml"), recipe).unwrap();
        run
    };
    let runs = [
        run("plain", "seed = 1\n[train]\nlr = 0.001\nsteps = 10\n"),
        run(
            "taught",
            "seed = 1\n[train]\nlr = 0.002\nsteps = 10\n[teacher]\npath = \"<big>\"\n",
        ),
    ];
    let none: [PathBuf; 0] = [];
    let index = report::write(&runs, &none, &dir.path().join("out")).unwrap();
    let page = std::fs::read_to_string(index).unwrap();
    let first =
        page.find("<tr><td>teacher.path</td><td>–</td><td>&quot;&lt;big&gt;&quot;</td></tr>");
    assert!(
        first.unwrap() < page.find("train loss").unwrap(),
        "differences come first"
    );
    assert!(page.contains("<tr><td>train.lr</td><td>0.001</td><td>0.002</td></tr>"));
    assert!(!page.contains("train.steps") && !page.contains("<td>seed</td>"));
    std::fs::write(runs[0].join("recipe.toml"), "seed = = 1").unwrap();
    let error = report::write(&runs, &none, &dir.path().join("out2")).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
}

#[test]
fn impossible_results_are_an_error_naming_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |value: Value, says: &str| {
        let good = eval(dir.path(), "a.gguf", [0.3, 0.4, 0.6]);
        let bad = written(dir.path(), "bad.json", &value);
        let error = results::read(&[good, bad]).unwrap_err().to_string();
        assert!(
            error.contains("bad.json") && error.contains(says),
            "{error}"
        );
    };
    refused(json!([1]), "neither");
    refused(json!({"tpot_seconds": 1.0}), "model");
    let mut slow = bench("a.gguf", 1.0, 1);
    slow["tpot_seconds"] = json!(0.0);
    refused(slow, "above 0");
    let mut other = bench("a.gguf", 1.0, 1);
    other["model_bytes"] = json!(7);
    refused(other, "measure it again");
    let impossible = json!({
        "results": {"piqa": {"acc": 1.5}}, "n-shot": {"piqa": 0}, "config": {"model": "a.gguf"},
    });
    refused(impossible, "0 to 1");
}

#[test]
fn arm_score_is_the_weighted_sum_of_its_terms() {
    let dir = tempfile::tempdir().unwrap();
    let model = one(&pair(
        dir.path(),
        "small.gguf",
        [0.3, 0.45, 0.6],
        100.0,
        250,
    ));
    let base = one(&pair(
        dir.path(),
        "base.gguf",
        [0.35, 0.45, 0.7],
        25.0,
        1000,
    ));
    let report = arm::score(&model, &base, &BTreeMap::new()).unwrap();
    // From chance to the baseline: a half, all, a half; memory and time are a quarter.
    assert!((report.terms.accuracy - 2.0 / 3.0).abs() < 1e-12);
    let quarter = [
        report.terms.resident_memory,
        report.terms.virtual_memory,
        report.terms.prefill,
        report.terms.decode,
    ];
    assert!(
        quarter.iter().all(|term| (term - 0.75).abs() < 1e-12),
        "{quarter:?}"
    );
    assert!((report.score - (0.3 * 2.0 / 3.0 + 0.7 * 0.75)).abs() < 1e-12);
    assert!((report.latency_gain - 4.0).abs() < 1e-12 && (report.decode_gain - 4.0).abs() < 1e-12);
    let bounds = |low, high| BTreeMap::from([("piqa".to_owned(), arm::Bounds { low, high })]);
    let report = arm::score(&model, &base, &bounds(0.5, 0.55)).unwrap();
    assert!(
        (report.terms.accuracy - 2.5 / 3.0).abs() < 1e-12,
        "above its bound a task counts 1"
    );
    assert!(
        arm::score(&model, &base, &bounds(0.5, 0.5))
            .unwrap_err()
            .to_string()
            .contains("no room")
    );
    // A model that costs more than its baseline saves nothing, and is not punished beyond that.
    let heavy = arm::score(&base, &model, &bounds(0.5, 0.7)).unwrap();
    assert_eq!(
        (heavy.terms.decode, heavy.terms.resident_memory),
        (0.0, 0.0)
    );
}

#[test]
fn arm_score_needs_the_challenges_own_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let base = one(&pair(
        dir.path(),
        "base.gguf",
        [0.35, 0.45, 0.7],
        25.0,
        1000,
    ));
    let mut short = bench("small.gguf", 100.0, 250);
    short["prompt_tokens"] = json!(512);
    let short = [
        eval(dir.path(), "small.gguf", [0.3; 3]),
        written(dir.path(), "s.json", &short),
    ];
    let refused = |files: &[PathBuf]| {
        arm::score(&one(files), &base, &BTreeMap::new())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&short).contains("--prompt 560 --gen 50 --reps 10"));
    assert!(refused(&short[..1]).contains("retort-edge bench small.gguf --json"));
    let speed = written(dir.path(), "f.json", &bench("small.gguf", 100.0, 250));
    assert!(refused(&[speed]).contains("arc_challenge"));
}

#[test]
fn edge_llm_report_lists_missing_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let figures = json!({
        "results": {"commonsense_qa": {"acc": 0.5}, "truthfulqa_mc2": {"acc": 0.4}, "piqa": {"acc": 0.9}},
        "n-shot": {"commonsense_qa": 0, "truthfulqa_mc2": 0, "piqa": 0},
        "config": {"model": "a.gguf"},
    });
    let speed = written(dir.path(), "b.json", &bench("a.gguf", 10.0, 13_000_000_000));
    let model = one(&[written(dir.path(), "e.json", &figures), speed]);
    let report = edge_llm::score(&model).unwrap();
    assert_eq!(
        report.missing,
        ["bbh", "gsm8k", "longbench", "humaneval", "chid"]
    );
    assert!((report.mean_accuracy.unwrap() - 0.45).abs() < 1e-12);
    assert!(!report.within_memory && report.parameters == 2_000_000);
    // What was found elsewhere, and a chain of thought instead of the answer alone.
    let more = json!({
        "results": {"humaneval": {"pass@1": 0.1}, "longbench": {"f1": 0.2}, "bbh": {"exact_match": 0.1}, "bbh_cot": {"exact_match": 0.3}},
        "n-shot": {"humaneval": 0, "longbench": 0, "bbh": 0, "bbh_cot": 3},
        "config": {"model": "a.gguf"},
    });
    let files = ["b.json", "e.json"].map(|name| dir.path().join(name));
    let model = one(&[&files[..], &[written(dir.path(), "m.json", &more)]].concat());
    let report = edge_llm::score(&model).unwrap();
    assert_eq!(report.missing, ["gsm8k", "chid"]);
    assert_eq!(report.accuracies["bbh"], 0.3);
    assert!((report.mean_accuracy.unwrap() - 1.5 / 5.0).abs() < 1e-12);
}
