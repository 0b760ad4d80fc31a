//! Evaluation end to end on a made-up model: a task that is a TOML file and nothing else, and the
//! engine's shortcuts, which change no likelihood.

use std::fs;
use std::path::Path;

use super::support;
use retort_engine::Model;
use retort_engine::perplexity::negative_log_likelihood;
use retort_eval::eval::{
    Encoder, EngineScorer, Error, Evaluation, Likelihood, Loaded, Metric, Options, Request, Result,
    Scorer, Task, evaluate, evaluate_with, item_json, results_json,
};

const TASK: &str = r#"
name = "my_task"
description = "Stories.\n"
metrics = ["acc", "acc_norm"]

[multiple_choice]
prompt = "Story: {{ q }}\nIt goes on:"
choices = "choices"
target = "right"

[[source]]
files = ["my_task.jsonl"]
"#;

fn options(dir: &Path) -> Options {
    Options {
        dirs: vec![dir.to_owned()],
        ..Options::default()
    }
}

/// Writes files of `content` and loads the task in `toml`.
fn load(toml: &str, content: &[(&str, &str)], shots: Option<usize>) -> Result<Loaded> {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in content {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let options = Options {
        shots,
        ..options(dir.path())
    };
    Loaded::new(Task::parse(toml, "task.toml")?, &options)
}

/// The likelihood of a request by a pass of its own.
fn alone(model: &Model, request: &Request) -> Likelihood {
    let input: Vec<u32> = request.input().collect();
    let mut session = model.engine.session(input.len()).unwrap();
    let (mut log_likelihood, mut greedy) = (0.0, true);
    let first = request.context.len() - 1;
    session
        .forward_all(&input, 0, |from, rows| {
            let rows = rows.chunks_exact(model.engine.config().vocab_size);
            for (i, logits) in rows.enumerate() {
                let Some(place) = (from + i).checked_sub(first) else {
                    continue;
                };
                let target = request.continuation[place];
                log_likelihood -= negative_log_likelihood(logits, target);
                greedy &= logits.iter().all(|&l| l <= logits[target as usize]);
            }
        })
        .unwrap();
    Likelihood {
        log_likelihood,
        greedy,
    }
}

#[test]
fn kept_prefixes_change_no_likelihood() {
    let dir = tempfile::tempdir().unwrap();
    let (_, gguf) = support::model(dir.path());
    let model = Model::open(&gguf).unwrap();
    let mut scorer = EngineScorer::new(&model, None).unwrap();
    let mut requests = Vec::new();
    for context in [
        "One day a cat",
        "One day a dog ran",
        "One day a dog ran",
        "Two",
    ] {
        for continuation in [" sat", " sat down on", " sat down in", " s", "\n"] {
            let encoder = scorer.encoder();
            requests.push(
                encoder
                    .pair(context, continuation, support::CONTEXT)
                    .unwrap(),
            );
        }
    }
    // Longer than the context, a text alone, and short again.
    let long = "a big red ball and ".repeat(30);
    let encoder = scorer.encoder();
    requests.push(encoder.pair(&long, " a cat", support::CONTEXT).unwrap());
    requests.extend(encoder.rolling(&long, support::CONTEXT).unwrap());
    requests.push(encoder.pair("", "One", support::CONTEXT).unwrap());
    assert!(
        requests
            .iter()
            .any(|r| r.input().count() == support::CONTEXT)
    );
    let mut counts = Vec::new();
    let found = scorer
        .score(&requests, &mut |done| counts.push(done))
        .unwrap();
    assert_eq!(counts.last(), Some(&requests.len()));
    for (found, request) in found.iter().zip(&requests) {
        let expected = alone(&model, request);
        let difference = (found.log_likelihood - expected.log_likelihood).abs();
        assert!(difference < 1e-4, "{found:?} {expected:?}");
        assert_eq!(found.greedy, expected.greedy);
    }
    // In another order the same.
    requests.reverse();
    let again = scorer.score(&requests, &mut |_| {}).unwrap();
    for (a, b) in again.iter().rev().zip(&found) {
        assert!((a.log_likelihood - b.log_likelihood).abs() < 1e-4);
    }
}

#[test]
fn a_task_is_a_toml_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (_, gguf) = support::model(dir.path());
    let path = dir.path().join("my.toml");
    fs::write(&path, TASK).unwrap();
    fs::write(dir.path().join("my_task.jsonl"), support::questions(12)).unwrap();
    let task = Task::find(path.to_str().unwrap()).unwrap();
    let loaded = Loaded::new(task, &options(dir.path())).unwrap();
    let model = Model::open(&gguf).unwrap();
    let mut scorer = EngineScorer::new(&model, None).unwrap();
    let mut last = 0;
    let found = evaluate(
        std::slice::from_ref(&loaded),
        &mut scorer,
        &mut |name, done, all| {
            assert!(name == "my_task" && done >= last && done <= all && all == 12);
            last = done;
        },
    )
    .unwrap();
    assert_eq!(last, 12);
    let (mut right, mut right_by_length) = (0, 0);
    for (item, result) in loaded.items.iter().zip(&found[0].items) {
        let logs: Vec<f64> = result.found.iter().map(|f| f.log_likelihood).collect();
        for ((context, continuation), log) in item.asks.iter().zip(&logs) {
            assert!(context.starts_with("Stories.\nStory: "));
            let request = scorer
                .encoder()
                .pair(context, continuation, support::CONTEXT);
            let expected = alone(&model, &request.unwrap()).log_likelihood;
            assert!((log - expected).abs() < 1e-4, "{log} {expected}");
        }
        let best = |scale: &dyn Fn(usize) -> f64| {
            (0..4).fold(0, |b, i| {
                if logs[i] / scale(i) > logs[b] / scale(b) {
                    i
                } else {
                    b
                }
            })
        };
        // The delimiter is not counted.
        let characters = |i: usize| (item.asks[i].1.chars().count() - 1) as f64;
        right += usize::from(best(&|_| 1.0) == item.index % 4);
        right_by_length += usize::from(best(&characters) == item.index % 4);
        assert_eq!(
            result.predictions().unwrap()[..2],
            [best(&|_| 1.0), best(&characters)]
        );
    }
    let value = |metric| {
        found[0]
            .figures
            .iter()
            .find(|f| f.metric == metric)
            .unwrap()
            .value
    };
    assert_eq!(value(Metric::Acc), right as f64 / 12.0);
    assert_eq!(value(Metric::AccNorm), right_by_length as f64 / 12.0);
    let json = results_json(&found, serde_json::json!({}));
    assert_eq!(json["results"]["my_task"]["acc"], value(Metric::Acc));
    assert!(json["results"]["my_task"]["acc_norm_stderr"].is_number());
    assert_eq!(json["n-samples"]["my_task"], 12);
    let line = item_json(&loaded.task, &found[0].items[3]);
    assert_eq!((line.lines().count(), line.ends_with('\n')), (1, true));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["index"], &line["gold"][0]), (&3.into(), &3.into()));
    assert_eq!(line["log_likelihoods"].as_array().unwrap().len(), 4);
}

#[test]
fn text_in_windows_is_scored_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (_, gguf) = support::model(dir.path());
    // The corpus is parquet with a column `text`.
    let task = r#"
        name = "stories"
        metrics = ["word_perplexity", "byte_perplexity", "bits_per_byte"]
        [rolling]
        text = "text"
        [[source]]
        files = ["corpus/*.parquet"]
    "#;
    let options = Options {
        limit: Some(5),
        ..options(dir.path())
    };
    let loaded = Loaded::new(Task::parse(task, "t").unwrap(), &options).unwrap();
    assert_eq!(loaded.items.len(), 5);
    let model = Model::open(&gguf).unwrap();
    let mut scorer = EngineScorer::new(&model, None).unwrap();
    let (mut sum, mut bytes, mut windows) = (0.0, 0, 0);
    for item in &loaded.items {
        let text = &item.asks[0].1;
        bytes += text.len();
        for request in scorer.encoder().rolling(text, support::CONTEXT).unwrap() {
            sum += alone(&model, &request).log_likelihood;
            windows += 1;
        }
    }
    assert!(windows > 5, "stories longer than the context");
    let found = evaluate(&[loaded], &mut scorer, &mut |_, _, _| {}).unwrap();
    let bits = -sum / bytes as f64 / std::f64::consts::LN_2;
    let figure = found[0].figures[2];
    assert!(
        (figure.value / bits - 1.0).abs() < 1e-6,
        "{figure:?} {bits}"
    );
    assert_eq!(figure.stderr, None);
}

/// Finds "right" likely, and otherwise the short.
struct Known(Encoder<'static>);

impl Known {
    fn new() -> Self {
        let encode = |text: &str| Ok(text.chars().map(u32::from).collect());
        Self(Encoder::new(encode, vec![], vec![], 0))
    }
}

impl Scorer for Known {
    /// The prompt backwards, a character at a time.
    fn write(
        &mut self,
        prompt: &[u32],
        most: usize,
        enough: &mut dyn FnMut(&str) -> bool,
    ) -> Result<String> {
        let mut text = String::new();
        let backwards = prompt.iter().rev().filter_map(|&c| char::from_u32(c));
        for c in backwards.take(most) {
            text.push(c);
            if enough(&text) {
                break;
            }
        }
        Ok(text)
    }
    fn encoder(&self) -> &Encoder<'_> {
        &self.0
    }
    fn max_length(&self) -> usize {
        10_000
    }
    fn score(
        &mut self,
        requests: &[Request],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Likelihood>> {
        done(requests.len());
        let answer = |request: &Request| {
            let text: String = request
                .continuation
                .iter()
                .filter_map(|&c| char::from_u32(c))
                .collect();
            let greedy = text == " right";
            Likelihood {
                log_likelihood: if greedy { -0.5 } else { -(text.len() as f64) },
                greedy,
            }
        };
        Ok(requests.iter().map(answer).collect())
    }
}

fn known(loaded: Loaded) -> Evaluation {
    evaluate(&[loaded], &mut Known::new(), &mut |_, _, _| {})
        .unwrap()
        .remove(0)
}

#[test]
fn groups_have_their_own_figures_and_examples() {
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
    assert_eq!(loaded.items[1].asks[0].0, prompt);
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
fn rows_are_joined_with_others_and_some_are_passed_over() {
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
            .map(|mut item| item.asks.remove(0).0)
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
fn what_is_wrong_with_the_data_is_one_line() {
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
    let error = evaluate(&[loaded], &mut Known::new(), &mut |_, _, _| {}).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("task my_task: item 0: the continuation \"\" has no token")
    );
    let empty = load(TASK, &[("my_task.jsonl", "\n")], None).unwrap();
    let error = evaluate(&[empty], &mut Known::new(), &mut |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains("has no items"));
}

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
fn what_is_written_is_judged() {
    let rows = r#"{"q": "c.b.a!x", "a": "x", "kind": "last"}
{"q": "c.b.a", "a": "b", "kind": "first"}
{"q": "z.ab.cdefghijkl", "a": "b", "kind": "first"}
"#;
    let tasks = [load(WRITING, &[("q.jsonl", rows)], None).unwrap()];
    let found = evaluate(&tasks, &mut Known::new(), &mut |_, _, _| {}).unwrap();
    let texts: Vec<&str> = found[0]
        .items
        .iter()
        .map(|i| &i.written.as_ref().unwrap().text[..])
        .collect();
    // To the stop, to the end, and as many tokens as are allowed.
    assert_eq!(texts, ["x", "a.b.c", "lkjihgfedc.b"]);
    let values: Vec<f64> = found[0].figures.iter().map(|f| f.value).collect();
    // Strictly "x" has no point after it, a and c come before a point; leniently x, c and b.
    assert_eq!(values, [0.0, 2.0 / 3.0]);
    assert_eq!(found[0].groups[0].0, "first");
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
    let found = evaluate(&tasks, &mut Known::new(), &mut |_, _, _| {}).unwrap();
    assert!(found[0].figures.is_empty() && found[0].items[0].written.as_ref().unwrap().text == "x");
    let endless = WRITING.replace("max_tokens = 12", "max_tokens = 10000");
    let tasks = [load(&endless, &[("q.jsonl", rows)], None).unwrap()];
    let error = evaluate(&tasks, &mut Known::new(), &mut |_, _, _| {}).unwrap_err();
    assert!(error.to_string().contains("room for 10000"), "{error}");
}

#[test]
fn mistakes_in_a_task_that_writes_are_named() {
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

/// Regression: items were written at the end alone, and a run that was killed left none.
#[test]
fn items_are_handed_on_as_they_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my_task.jsonl"), support::questions(150)).unwrap();
    let path = dir.path().join("my.toml");
    fs::write(&path, TASK).unwrap();
    let task = Task::find(path.to_str().unwrap()).unwrap();
    let loaded = [Loaded::new(task, &options(dir.path())).unwrap()];
    let mut seen = Vec::new();
    let found = evaluate_with(
        &loaded,
        &mut Known::new(),
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
        &mut Known::new(),
        &mut |_, _, _| {},
        &mut |_, _| {
            count += 1;
            match count {
                100 => Err(retort_eval::eval::Error::Model("enough".into())),
                _ => Ok(()),
            }
        },
    );
    assert_eq!(
        (count, stopped.unwrap_err().to_string()),
        (100, "enough".into())
    );
}
