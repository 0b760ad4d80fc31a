//! The built-in tasks on rows in their publishers' layouts: what is asked is spelled as
//! lm-evaluation-harness spells it.

use retort_eval::eval::{Gold, Loaded, Options, TASKS, Task};
use serde_json::{Value, json};

/// The items of the built-in task `name` from `files`.
fn load(name: &str, files: &[(&str, String)], shots: usize) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let options = Options {
        dirs: vec![dir.path().to_owned()],
        limit: None,
        shots: Some(shots),
    };
    Loaded::new(Task::find(name).unwrap(), &options).unwrap()
}

/// Contexts, continuations and right answers of the one row's item.
fn one(name: &str, file: &str, row: Value) -> (Vec<(String, String)>, Vec<usize>) {
    let mut loaded = load(name, &[(file, row.to_string())], 0);
    let item = loaded.items.remove(0);
    let right = match item.gold {
        Gold::Choice { right, .. } => right,
        Gold::True(truths) => (0..truths.len()).filter(|&i| truths[i]).collect(),
        _ => Vec::new(),
    };
    (item.asks, right)
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
fn arc_in_the_hubs_layout_and_the_authors() {
    let prompt = "Question: Why?\nAnswer:";
    let hub = json!({"question": "Why?", "choices": {"text": ["x", "y"], "label": ["1", "2"]},
        "answerKey": "2"});
    let own = json!({"question": {"stem": "Why?", "choices": [{"text": "x", "label": "A"},
        {"text": "y", "label": "B"}]}, "answerKey": "B"});
    same(
        "arc_challenge",
        "arc_challenge.test.jsonl",
        hub.clone(),
        prompt,
        &[" x", " y"],
        1,
    );
    same(
        "arc_easy",
        "arc_easy.test.jsonl",
        hub,
        prompt,
        &[" x", " y"],
        1,
    );
    same(
        "arc_easy",
        "ARC-V1/ARC-Easy/ARC-Easy-Test.jsonl",
        own,
        prompt,
        &[" x", " y"],
        1,
    );
}

#[test]
fn hellaswag_is_cleaned_where_it_is_raw() {
    let clean = json!({"query": "A: b", "choices": ["c", "d"], "label": 1});
    same(
        "hellaswag",
        "hellaswag.validation.jsonl",
        clean,
        "A: b",
        &[" c", " d"],
        1,
    );
    let raw = json!({"activity_label": " Baking", "ctx_a": "One [title] mixes  [step] flour.",
        "ctx_b": "the Man", "endings": ["[header] bakes  it ", "eats [title] all"], "label": "0"});
    same(
        "hellaswag",
        "hellaswag_val.jsonl",
        raw,
        "Baking: One. mixes  flour. The man",
        &["  bakes it", " eats. all"],
        0,
    );
}

#[test]
fn two_and_five_choices() {
    let row = json!({"goal": "Open it.", "sol1": "push", "sol2": "pull", "label": 1});
    let prompt = "Question: Open it.\nAnswer:";
    same(
        "piqa",
        "piqa.validation.jsonl",
        row,
        prompt,
        &[" push", " pull"],
        1,
    );
    for (file, row) in [
        (
            "BoolQ/val.jsonl",
            json!({"passage": "P.", "question": "is it", "label": true}),
        ),
        (
            "boolq/dev.jsonl",
            json!({"passage": "P.", "question": "is it", "answer": true}),
        ),
        (
            "boolq.validation.jsonl",
            json!({"passage": "P.", "question": "is it", "label": 1}),
        ),
    ] {
        same(
            "boolq",
            file,
            row,
            "P.\nQuestion: is it?\nAnswer:",
            &[" no", " yes"],
            1,
        );
    }
    let row = json!({"question_stem": "The sun", "choices": {"text": ["sets", "sinks"],
        "label": ["A", "B"]}, "answerKey": " B"});
    same(
        "openbookqa",
        "openbookqa.test.jsonl",
        row,
        "The sun",
        &[" sets", " sinks"],
        1,
    );
    let row = json!({"question": " Where? ", "choices": {"text": ["p", "q", "r", "s", "t"],
        "label": ["A", "B", "C", "D", "E"]}, "answerKey": "D"});
    let prompt = "Question: Where?\nA. p\nB. q\nC. r\nD. s\nE. t\nAnswer:";
    let letters = [" A", " B", " C", " D", " E"];
    same(
        "commonsense_qa",
        "commonsense_qa.dev.jsonl",
        row,
        prompt,
        &letters,
        3,
    );
}

#[test]
fn winogrande_asks_the_end_after_either_name() {
    let row = json!({"sentence": "Ann met _ because _ waited. ", "option1": "Bo", "option2": "Cy",
        "answer": "2"});
    let (asks, right) = one("winogrande", "winogrande.validation.jsonl", row);
    let end = " because _ waited.".to_owned();
    let expected = [
        ("Ann met Bo".to_owned(), end.clone()),
        ("Ann met Cy".to_owned(), end),
    ];
    assert_eq!((&asks[..], &right[..]), (&expected[..], &[1][..]));
}

#[test]
fn mmlu_has_its_subject_and_its_first_examples() {
    let row = |subject: &str, question: &str, answer: usize| {
        json!({"subject": subject, "question": question, "answer": answer,
            "choices": ["p", "q", "r", "s"]})
        .to_string()
    };
    let dev = [
        row("us_law", "D1", 1),
        row("art", "D2", 0),
        row("us_law", "D3", 2),
    ]
    .join("\n");
    let files = [
        ("mmlu.test.jsonl", row("us_law", "T? ", 3)),
        ("mmlu.dev.jsonl", dev),
    ];
    let item = load("mmlu", &files, 2).items.remove(0);
    let expected = "The following are multiple choice questions (with answers) about us law.\n\n\
        D1\nA. p\nB. q\nC. r\nD. s\nAnswer: B\n\nD3\nA. p\nB. q\nC. r\nD. s\nAnswer: C\n\n\
        T?\nA. p\nB. q\nC. r\nD. s\nAnswer:";
    assert_eq!(item.asks[3], (expected.to_owned(), " D".to_owned()));
    assert_eq!(item.group.as_deref(), Some("us_law"));
}

#[test]
fn truthfulqa_from_the_hub_and_from_the_authors_table() {
    let hub = json!({"question": "Why?",
        "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["a", "c", "b"], "labels": [1, 1, 0]}});
    let csv = "\u{feff}Type,Question,Best Answer,Correct Answers,Incorrect Answers\n\
        x,Why?,a,a; c;,\" b;\"\n";
    for name in ["truthfulqa_mc1", "truthfulqa_mc2"] {
        let hub = load(name, &[("truthfulqa.validation.jsonl", hub.to_string())], 0);
        let table = load(name, &[("TruthfulQA.csv", csv.to_owned())], 0);
        assert_eq!(hub.items, table.items, "{name}");
        let prompt = &hub.items[0].asks[0].0;
        let start = "Q: What is human life expectancy in the United States?\nA: Human life ";
        assert!(prompt.starts_with(start), "{prompt}");
        assert!(
            prompt.ends_with("held in Barcelona, Spain.\n\nQ: Why?\nA:"),
            "{prompt}"
        );
        let ends: Vec<_> = hub.items[0].asks.iter().map(|ask| ask.1.as_str()).collect();
        match name {
            "truthfulqa_mc1" => assert_eq!(ends, [" a", " b"]),
            _ => assert_eq!(hub.items[0].gold, Gold::True(vec![true, true, false])),
        }
    }
}

#[test]
fn lambada_asks_the_last_word() {
    let row = json!({"text": "He said  it to Bob"});
    let (asks, _) = one("lambada_openai", "lambada_test.jsonl", row);
    assert_eq!(asks, [("He said  it to".to_owned(), " Bob".to_owned())]);
}

#[test]
fn wikitext_is_cut_into_pages_and_detokenized() {
    let raw = " \n = Page One = \n \n It was , he said ; \" quite \" good ( very ) . 3 @.@ 5 ° C .\n \
        = = Part = = \n \n the boys ' N cats 's [ x ] { y } 20 @-@ 30\n = Two = \n a : b\n";
    let loaded = load("wikitext", &[("wiki.test.raw", raw.to_owned())], 0);
    let texts: Vec<_> = loaded
        .items
        .iter()
        .map(|item| item.asks[0].1.as_str())
        .collect();
    // As the harness's own function gives it.
    let first = "= Page One =\n\nIt was, he said; \"quite\" good (very). 3.5°C .\n== Part ==\n\n\
        the boys'N cats's [x] {y} 20-30";
    assert_eq!(texts, [&format!(" {first}"), " = Two =\na: b\n"]);
    // Counted before: what stands between white space, and bytes.
    let page = raw
        .split(" = Two")
        .next()
        .unwrap()
        .trim_start_matches(" \n");
    let page = page.trim_end_matches('\n');
    assert_eq!(page.len(), 138);
    let gold = Gold::Text {
        words: 45,
        bytes: 138,
    };
    assert_eq!(loaded.items[0].gold, gold);
}

#[test]
fn every_built_in_task_is_checked_here() {
    let text = include_str!("builtin_tasks.rs");
    for (name, _) in TASKS {
        assert!(text.contains(&format!("\"{name}\"")), "{name}");
    }
}

#[test]
fn gsm8k_has_five_examples_with_their_reasoning() {
    let train: String = (0..6)
        .map(|i| {
            json!({"question": format!("q{i}"), "answer": format!("r{i}\n#### {i}")}).to_string()
                + "\n"
        })
        .collect();
    let row = json!({"question": "How many?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"});
    let files = [
        ("gsm8k.test.jsonl", row.to_string()),
        ("gsm8k.train.jsonl", train),
    ];
    let item = load("gsm8k", &files, 5).items.remove(0);
    let prompt = &item.asks[0].0;
    assert!(
        prompt.starts_with("Question: q0\nAnswer: r0\n#### 0\n\nQuestion: q1\n"),
        "{prompt}"
    );
    assert!(
        prompt.ends_with("#### 4\n\nQuestion: How many?\nAnswer:"),
        "{prompt}"
    );
    assert_eq!(
        item.gold,
        Gold::Written(vec!["1 + 1 = <<1+1=2>>2\n#### 2".into()])
    );
}

#[test]
fn tasks_that_are_written_ask_with_their_prompts() {
    let rows =
        json!({"canary": "", "examples": [{"input": "True and not True is", "target": "False"}]});
    let files = [
        ("bbh/web_of_lies.json", rows.to_string()),
        ("bbh/boolean_expressions.json", rows.to_string()),
    ];
    let items = load("bbh", &files, 0).items;
    assert_eq!(items[0].asks[0].0, "Q: True and not True is\nA:");
    let kinds: Vec<&str> = items
        .iter()
        .filter_map(|item| item.group.as_deref())
        .collect();
    assert_eq!(kinds, ["boolean_expressions", "web_of_lies"]);
    let row = json!({"task_id": "HumanEval/0", "prompt": "def f(x):\n", "canonical_solution": "", "test": ""});
    let item = load("humaneval", &[("humaneval.jsonl", row.to_string())], 0)
        .items
        .remove(0);
    assert_eq!(
        (&item.asks[0].0[..], item.gold),
        ("def f(x):\n", Gold::Written(vec![]))
    );
}

#[test]
fn big_bench_hards_examples_come_from_the_authors_files() {
    let rows = json!({"examples": [{"input": "3 + 4", "target": "7"}]});
    let example = |n: u32| {
        format!(
            "Q: {n} + 1\nOptions:\n(A) Q\nA: Let's think step by step.\nFirst {n}.\nSo the answer is {}.",
            n + 1
        )
    };
    let text = format!(
        "A canary\n-----\nAdd\nnumbers.\n\n{}\n\n{}\n\n{}\n",
        example(1),
        example(2),
        example(3)
    );
    let files = [
        ("bbh/sums.json", rows.to_string()),
        ("cot-prompts/sums.txt", text.clone()),
        ("cot-prompts/words.txt", text.replace("numbers", "words")),
    ];
    let ask = "Q: 3 + 4\nA: Let's think step by step.\n";
    let (_, examples) = text.trim().split_once("-----\n").unwrap();
    for (shots, prompt) in [
        (3, format!("{examples}\n\n{ask}")),
        (1, format!("Add\nnumbers.\n\n{}\n\n{ask}", example(1))),
        (0, format!("Add\nnumbers.\n\n{ask}")),
    ] {
        assert_eq!(load("bbh_cot", &files, shots).items[0].asks[0].0, prompt);
    }
}

#[test]
fn longbench_asks_what_is_answered_in_words() {
    let row = |dataset: &str, answers: Value| {
        let row = json!({"input": "Who?", "context": "It was Ann.", "answers": answers, "length": 3,
            "dataset": dataset, "language": "en", "all_classes": null, "_id": "1"});
        format!("{row}\n")
    };
    let files = [
        (
            "longbench/hotpotqa.jsonl",
            row("hotpotqa", json!(["Ann", "Ann B."])),
        ),
        ("longbench/lcc.jsonl", row("lcc", json!(["x = 1"]))),
    ];
    let items = load("longbench", &files, 0).items;
    assert_eq!(items.len(), 1, "code is not asked in words");
    assert_eq!(items[0].asks[0].0, "It was Ann.\n\nQuestion: Who?\nAnswer:");
    assert_eq!(
        items[0].gold,
        Gold::Written(vec!["Ann".into(), "Ann B.".into()])
    );
    assert_eq!(items[0].group.as_deref(), Some("hotpotqa"));
}

#[test]
fn chid_puts_each_idiom_into_the_sentence() {
    let row = json!({"id": 1, "content": "他#idiom#了。", "candidates": ["甲", "乙", "丙", "丁", "戊", "己", "庚"],
        "answer": 4});
    let ends = [
        "甲了。",
        "乙了。",
        "丙了。",
        "丁了。",
        "戊了。",
        "己了。",
        "庚了。",
    ];
    same("chid", "chid.test.jsonl", row, "他", &ends, 4);
}
