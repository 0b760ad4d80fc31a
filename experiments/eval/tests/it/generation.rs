//! Tasks of generation: completions, their scores, and errors of the task file.

use retort_eval::tasks::{Task, evaluate, item_json};

use crate::support::{FixedScorer, load};

const WRITING: &str = r#"
name = "backwards"
metrics = ["exact_match", "flexible_match"]
group_by = "kind"

[generation]
prompt = "{{ q }}"
target = "{{ a }}"
until = ["!"]
max_tokens = 12
extract = '([a-z])\.'
flexible = '[a-z]'

[[source]]
files = ["q.jsonl"]
"#;

#[test]
fn completions_end_at_stops_and_are_scored() {
    let rows = r#"{"q": "c.b.a!x", "a": "x", "kind": "last"}
{"q": "c.b.a", "a": "b", "kind": "first"}
{"q": "z.ab.cdefghijkl", "a": "b", "kind": "first"}
"#;
    let tasks = [load(WRITING, &[("q.jsonl", rows)], None).unwrap()];
    let found = evaluate(&tasks, &mut FixedScorer::new(), &mut |_, _, _| {}).unwrap();
    let texts: Vec<&str> = found[0]
        .items
        .iter()
        .map(|i| &i.completion.as_ref().unwrap().text[..])
        .collect();
    // To the stop, to the end, and as many tokens as are allowed.
    assert_eq!(texts, ["x", "a.b.c", "lkjihgfedc.b"]);
    let values: Vec<f64> = found[0].figures.iter().map(|f| f.value).collect();
    // Strictly "x" has no point after it, a and c come before a point; leniently x, c and b.
    assert_eq!(values, [0.0, 2.0 / 3.0]);
    assert_eq!(found[0].groups[0].name, "first");
    let line: serde_json::Value =
        serde_json::from_str(&item_json(&tasks[0].task, &found[0].items[0])).unwrap();
    assert_eq!(
        (&line["completion"], &line["answer"], &line["target"]),
        (&"x".into(), &"[invalid]".into(), &"x".into())
    );
    let only = WRITING
        .replace("target = \"{{ a }}\"\n", "")
        .replace(r#"["exact_match", "flexible_match"]"#, "[]");
    let tasks = [load(&only, &[("q.jsonl", rows)], None).unwrap()];
    let found = evaluate(&tasks, &mut FixedScorer::new(), &mut |_, _, _| {}).unwrap();
    assert!(
        found[0].figures.is_empty() && found[0].items[0].completion.as_ref().unwrap().text == "x"
    );
    let endless = WRITING.replace("max_tokens = 12", "max_tokens = 10000");
    let tasks = [load(&endless, &[("q.jsonl", rows)], None).unwrap()];
    let error = evaluate(&tasks, &mut FixedScorer::new(), &mut |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains("room for 10000"), "{error}");
}

#[test]
fn generation_task_errors_name_the_field() {
    for (from, to, says) in [
        ("'[a-z]'", "'[a-z'", "generation.flexible: "),
        ("[\"!\"]", "[\"\"]", "no text in until empty"),
        ("12", "0", "at least 1"),
        ("\nflexible = '[a-z]'", "", "flexible_match is not for"),
        ("{{ a }}", "{{ a", "generation.target"),
    ] {
        let text = WRITING.replace(from, to);
        assert_ne!(text, WRITING);
        let error = Task::parse(&text, "t.toml").unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
