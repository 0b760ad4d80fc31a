//! Evaluation: groups, few-shot examples, joined rows, errors of the data, and items handed on as they are answered.

use std::fs;

use retort_eval::Error;
use retort_eval::tasks::{
    Evaluation, LoadedTask, Task, evaluate, evaluate_with, item_json, results_json,
};

use crate::support::{self, FixedScorer, TASK, load, options};

fn known(loaded: LoadedTask) -> Evaluation {
    evaluate(&[loaded], &mut FixedScorer::new(), &mut |_, _, _| {})
        .unwrap()
        .remove(0)
}

#[test]
fn groups_have_their_own_metrics_and_few_shot_examples() {
    let task = TASK.replace("[multiple_choice]", "group_by = \"s\"\n[multiple_choice]")
        + "[few_shot]\nsame = \"s\"\n[[few_shot.source]]\nfiles = [\"dev.jsonl\"]\n";
    let row = |s: &str, q: &str, choices: [&str; 2]| {
        format!(
            "{}\n",
            serde_json::json!({"s": s, "q": q, "choices": choices, "right": 0})
        )
    };
    let test = row("a", "1", ["right", "wrong"])
        + &row("b", "2", ["wrong", "right"])
        + &row("a", "3", ["right", "x"])
        + &row("b", "4", ["right", "xy"]);
    let dev = row("b", "bq", ["ba", "-"]) + &row("a", "aq", ["aa", "-"]);
    let files = [
        ("my_task.jsonl", test.as_str()),
        ("dev.jsonl", dev.as_str()),
    ];
    let loaded = load(&task, &files, Some(1)).unwrap();
    let prompt = "Stories.\nStory: bq\nIt goes on: ba\n\nStory: 2\nIt goes on:";
    assert_eq!(loaded.items[1].prompts[0].context, prompt);
    let found = known(loaded);
    assert_eq!((found.figures[0].value, found.shots), (0.75, 1));
    // Groups: 1 and 1; 0 and 1, whose standard error is 0.5: √((2 · 0.25) / 2 / 4).
    assert!((found.figures[0].stderr.unwrap() - 0.25).abs() < 1e-12);
    let json = results_json(&[found], serde_json::json!({}));
    assert_eq!(json["results"]["my_task_a"]["acc"], 1.0);
    assert_eq!(json["results"]["my_task_b"]["acc"], 0.5);
    let error = load(&task, &files, Some(2)).unwrap_err().to_string();
    assert!(error.contains("item 0: few_shot: only 1 of 2"), "{error}");
}

#[test]
fn rows_are_joined_and_kept_by_expressions() {
    let joined =
        "\nkeep = \"n > 1\"\n[source.join]\non = \"s\"\nsource = [{ files = [\"about.jsonl\"] }]\n";
    let task = TASK.replace("Stories.", "{{ about | default('Of nothing') }}.") + joined;
    let row = |s: &str, n: u32| {
        format!(r#"{{"s": "{s}", "n": {n}, "q": "{n}", "choices": ["x", "y"], "right": 0}}"#)
    };
    let rows = [row("a", 1), row("b", 2), row("c", 3)].join("\n");
    let about =
        "{\"s\": \"a\", \"about\": \"Of a\"}\n{\"s\": \"b\", \"about\": \"Of b\", \"q\": \"-\"}\n";
    let files = [("my_task.jsonl", &rows[..]), ("about.jsonl", about)];
    let error = load(&task, &files, None).unwrap_err().to_string();
    let says = r#"item 2: source.join: no row to join has the s of "c""#;
    assert!(error.contains(says), "{error}");
    let optional = format!("{task}optional = true\n");
    let prompts = |files| {
        let items = load(&optional, files, None).unwrap().items;
        items
            .into_iter()
            .map(|mut item| item.prompts.remove(0).context)
            .collect::<Vec<_>>()
    };
    let asked = |about, n| format!("{about}.\nStory: {n}\nIt goes on:");
    assert_eq!(prompts(&files), [asked("Of b", 2), asked("Of nothing", 3)]);
    assert_eq!(
        prompts(&files[..1]),
        [asked("Of nothing", 2), asked("Of nothing", 3)]
    );
    let missing = load(&task, &files[..1], None).unwrap_err();
    assert!(matches!(missing, Error::NoData { .. }));
    let error = Task::parse(&task.replace("n > 1", "n >"), "t.toml").unwrap_err();
    assert!(error.to_string().contains("source.keep"), "{error}");
}

#[test]
fn data_errors_are_one_line_naming_file_and_field() {
    let good = support::questions(2);
    let missing = load(TASK, &[], None).unwrap_err();
    assert!(matches!(missing, Error::NoData { .. }));
    let says = missing.to_string();
    assert!(
        says.contains("task my_task: no file in ") && says.contains("my_task.jsonl; put"),
        "{says}"
    );
    let files = [("my_task.jsonl", good.as_str())];
    let error = load(TASK, &files, Some(1)).unwrap_err().to_string();
    assert!(error.contains("names no examples"), "{error}");
    for (content, says) in [
        (good.clone() + "{", "my_task.jsonl: line 3: EOF"),
        (
            good.replace("\"right\":1", "\"right\":9"),
            "item 1: multiple_choice.target: \"9\" is none",
        ),
        (
            good.replace("\"right\"", "\"wrong\""),
            "item 0: multiple_choice.target",
        ),
        (
            good.replace("\"choices\":[", "\"choices\":[],\"x\":["),
            "multiple_choice.choices: is empty",
        ),
    ] {
        let error = load(TASK, &[("my_task.jsonl", &content)], None)
            .unwrap_err()
            .to_string();
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
    }
    let unknown = TASK.replace("\"choices\"", "\"choices | shuffled\"");
    let error = load(&unknown, &files, None).unwrap_err().to_string();
    assert!(error.contains("choices: unknown filter"), "{error}");
    // A choice that merges into its prompt has nothing to be scored.
    let content = good.replace("\"choices\":[\"", "\"choices\":[\"\",\"");
    let task = TASK.replace("metrics", "target_delimiter = ''\nmetrics");
    let loaded = load(&task, &[("my_task.jsonl", &content)], None).unwrap();
    let error = evaluate(&[loaded], &mut FixedScorer::new(), &mut |_, _, _| {}).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("task my_task: item 0: the continuation \"\" has no token")
    );
    let empty = load(TASK, &[("my_task.jsonl", "\n")], None).unwrap();
    let error = evaluate(&[empty], &mut FixedScorer::new(), &mut |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains("has no items"));
}

/// Regression: items were written at the end alone, and a run that was killed left none.
#[test]
fn items_are_handed_on_as_they_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my_task.jsonl"), support::questions(150)).unwrap();
    let path = dir.path().join("my.toml");
    fs::write(&path, TASK).unwrap();
    let task = Task::find(path.to_str().unwrap()).unwrap();
    let loaded = [LoadedTask::new(task, &options(dir.path())).unwrap()];
    let mut seen = Vec::new();
    let found = evaluate_with(
        &loaded,
        &mut FixedScorer::new(),
        &mut |_, _, _| {},
        &mut |task, item| {
            assert_eq!(task.name, "my_task");
            seen.push((item.index, item_json(task, item)));
            Ok(())
        },
    )
    .unwrap();
    let all = found[0].items.iter();
    let all: Vec<_> = all
        .map(|i| (i.index, item_json(&loaded[0].task, i)))
        .collect();
    assert_eq!(seen, all);
    // What is answered before the end is there before the end.
    let mut count = 0;
    let stopped = evaluate_with(
        &loaded,
        &mut FixedScorer::new(),
        &mut |_, _, _| {},
        &mut |_, _| {
            count += 1;
            match count {
                100 => Err(Error::Model("enough".into())),
                _ => Ok(()),
            }
        },
    );
    assert_eq!(
        (count, stopped.unwrap_err().to_string()),
        (100, "enough".into())
    );
}
