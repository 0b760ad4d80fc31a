//! The built-in tasks on rows in their publishers' layouts: prompts are those of lm-evaluation-harness.

mod choices;
mod generation;
mod texts;

use retort_eval::tasks::{LoadOptions, LoadedTask, TASKS, Target, Task};
use serde_json::Value;

/// The items of the built-in task `name` from `files`.
fn load(name: &str, files: &[(&str, String)], shots: usize) -> LoadedTask {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let options = LoadOptions {
        dirs: vec![dir.path().to_owned()],
        limit: None,
        shots: Some(shots),
    };
    LoadedTask::new(Task::find(name).unwrap(), &options).unwrap()
}

/// Contexts, continuations and right choices of the only row's item.
fn one(name: &str, file: &str, row: Value) -> (Vec<(String, String)>, Vec<usize>) {
    let mut loaded = load(name, &[(file, row.to_string())], 0);
    let item = loaded.items.remove(0);
    let right = match item.target {
        Target::Choice { right, .. } => right,
        Target::Labels(truths) => (0..truths.len()).filter(|&i| truths[i]).collect(),
        _ => Vec::new(),
    };
    let prompts = item.prompts.into_iter();
    (
        prompts.map(|p| (p.context, p.continuation)).collect(),
        right,
    )
}

fn same(name: &str, file: &str, row: Value, context: &str, continuations: &[&str], right: usize) {
    let (asks, found) = one(name, file, row);
    let expected: Vec<_> = continuations
        .iter()
        .map(|c| (context.to_owned(), (*c).to_owned()))
        .collect();
    assert_eq!((asks, found), (expected, vec![right]), "{name}");
}

#[test]
fn every_built_in_task_has_a_test_here() {
    let tests = [
        include_str!("choices.rs"),
        include_str!("generation.rs"),
        include_str!("texts.rs"),
    ];
    for (name, _) in TASKS {
        let quoted = format!("\"{name}\"");
        assert!(tests.iter().any(|text| text.contains(&quoted)), "{name}");
    }
}
