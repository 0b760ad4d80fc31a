//! Reports on runs that the tests write, whole and damaged.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use retort_eval::run_metrics::TrainingRun;
use retort_eval::{Error, report};

/// A run of `steps` steps with an evaluation every 50.
fn run(dir: &Path, name: &str, steps: u32) -> PathBuf {
    let mut lines = String::new();
    for step in 1..=steps {
        let t = f64::from(step) / f64::from(steps);
        let noise = f64::from(step * 7919 % 101) / 400.0;
        let loss = 2.0 + 4.0 * (-6.0 * t).exp() + noise;
        let (tokens, lr) = (step * 4096, 3e-4 * (1.0 + (3.0 * t).cos()) / 2.0);
        let speed = 50_000.0 + f64::from(step % 13) * 100.0;
        let seconds = f64::from(tokens) / speed;
        writeln!(lines, r#"{{"step":{step},"tokens":{tokens},"loss":{loss},"lr":{lr},"grad_norm":1.0,"tokens_per_second":{speed},"seconds":{seconds},"kl":0.5}}"#).unwrap();
        if step % 50 == 0 {
            let loss = loss - noise + 0.1;
            writeln!(lines, r#"{{"step":{step},"tokens":{tokens},"validation_loss":{loss},"seconds":{seconds}}}"#).unwrap();
            writeln!(lines, r#"{{"step":{step},"tokens":{tokens},"tasks":{{"arc_easy/acc":{t},"piqa/acc":0.5}},"tasks_seconds":1.0}}"#).unwrap();
        }
    }
    let run = dir.join(name);
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("metrics.jsonl"), lines).unwrap();
    run
}

#[test]
fn report_page_loads_nothing_else_and_escapes_names() {
    let dir = tempfile::tempdir().unwrap();
    let runs = [
        run(dir.path(), "teacher", 400),
        run(dir.path(), "student <b> & co", 700),
    ];
    let out = dir.path().join("deep/report");
    let index = report::write::<_, PathBuf>(&runs, &[], &out).unwrap();
    let page = std::fs::read_to_string(&index).unwrap();
    assert!(page.contains("teacher") && page.contains("student &lt;b&gt; &amp; co"));
    assert!(!page.contains("<b>"), "names are escaped");
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(page.contains("prefers-color-scheme"));
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http"), "nothing is loaded");
    let mut files: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let wanted = [
        "gradient-norm.svg",
        "index.html",
        "learning-rate.svg",
        "loss.svg",
        "metrics.csv",
        "tasks.svg",
        "throughput.svg",
    ];
    assert_eq!(files, wanted);
    let csv = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 400 + 8 + 700 + 14);
    let svg = std::fs::read_to_string(out.join("loss.svg")).unwrap();
    for label in ["teacher train", "teacher validation", "tokens"] {
        assert!(svg.contains(label), "{label}");
    }
    let tasks = std::fs::read_to_string(out.join("tasks.svg")).unwrap();
    assert!(tasks.contains("teacher arc_easy/acc") && tasks.contains("piqa/acc"));
    assert!(!svg.contains("010203"), "ink takes the page's colour");
    report::write::<_, PathBuf>(&runs, &[], &out).unwrap();
}

#[test]
fn metrics_with_a_torn_last_line_are_read_and_other_damage_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "killed", 60);
    let path = run.join("metrics.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let complete = TrainingRun::read(&run).unwrap();
    assert_eq!((complete.steps.len(), complete.evaluations.len()), (60, 1));

    std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    assert_eq!(TrainingRun::read(&run).unwrap().steps, complete.steps[..59]);

    std::fs::write(&path, whole.replacen("\"step\":2,", "\"ste", 1)).unwrap();
    let error = TrainingRun::read(&run).unwrap_err();
    assert!(
        matches!(error, Error::MetricsLine { line: 2, .. }),
        "{error}"
    );
    assert!(report::write::<_, PathBuf>(&[&run], &[], &dir.path().join("out")).is_err());
    assert!(!dir.path().join("out").exists(), "nothing is written");
}

#[test]
fn resumed_run_keeps_the_later_record_of_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let line =
        |step: u32, loss: f32| format!("{{\"step\":{step},\"tokens\":{step},\"loss\":{loss}}}\n");
    let lines = [
        line(1, 5.0),
        line(2, 4.0),
        line(3, 3.0),
        line(2, 4.5),
        line(3, 3.5),
    ]
    .concat();
    std::fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
    let losses: Vec<f64> = TrainingRun::read(dir.path())
        .unwrap()
        .steps
        .iter()
        .filter_map(|r| r.loss)
        .collect();
    assert_eq!(losses, [5.0, 4.5, 3.5]);
}

#[test]
fn report_on_missing_or_empty_runs_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    assert!(matches!(
        report::write::<PathBuf, PathBuf>(&[], &[], &out),
        Err(Error::NoRuns)
    ));
    let missing = report::write::<_, PathBuf>(&[dir.path().join("none")], &[], &out).unwrap_err();
    assert!(
        missing.to_string().contains("none/metrics.jsonl"),
        "{missing}"
    );
    std::fs::write(dir.path().join("metrics.jsonl"), "\n").unwrap();
    assert!(matches!(
        report::write::<_, PathBuf>(&[dir.path()], &[], &out),
        Err(Error::EmptyRun { .. })
    ));
    // One step whose loss was not finite, and one run named twice.
    let one = dir.path().join("one");
    std::fs::create_dir(&one).unwrap();
    std::fs::write(
        one.join("metrics.jsonl"),
        "{\"step\":1,\"tokens\":8,\"loss\":null,\"lr\":0.1}\n",
    )
    .unwrap();
    report::write::<_, PathBuf>(&[&one, &one], &[], &out).unwrap();
    assert!(
        std::fs::read_to_string(out.join("index.html"))
            .unwrap()
            .contains("one (2)")
    );
}
