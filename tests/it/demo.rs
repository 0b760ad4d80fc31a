//! The demo, whole, as the README's first command runs it.

use assert_cmd::Command;

#[test]
fn demo_taught_student_beats_both_controls_and_answers() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::cargo_bin("retort")
        .unwrap()
        .args(["demo", "--out", "demo-out"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let out = dir.path().join("demo-out");
    let results = std::fs::read_to_string(out.join("results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    let loss = |name: &str| {
        let models = results["models"].as_array().unwrap();
        let model = models.iter().find(|m| m["name"] == name).expect(name);
        model["loss"].as_f64().unwrap()
    };
    let entropy = results["entropy"].as_f64().unwrap();
    let teacher = loss("teacher");
    let taught = loss("student, cut out and taught");
    let int4 = loss("student, cut out and taught, int4");
    assert!(entropy < teacher && teacher < taught, "{text}");
    for control in ["student, from scratch", "student, cut out"] {
        assert!(taught < loss(control) - 0.02, "{control}: {text}");
    }
    assert!((int4 - taught).abs() < 0.05, "{text}");
    for file in [
        "student-q4_0.gguf",
        "report/index.html",
        "teacher/metrics.jsonl",
    ] {
        assert!(out.join(file).exists(), "{file}");
    }
    // Three completions.
    assert_eq!(text.matches('\u{2502}').count(), 3, "{text}");
    // The line that says how to talk to the model works as it is printed.
    let line = text.lines().find(|line| line.contains(" run demo-out/"));
    let talk = std::process::Command::new("sh")
        .args(["-c", line.expect(&text)])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&talk.stdout);
    assert!(talk.status.success() && answer.len() > 20, "{talk:?}");
}
