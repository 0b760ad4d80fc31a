//! Tasks of choices.

use retort_eval::tasks::Target;
use serde_json::json;

use super::{load, one, same};

#[test]
fn arc_is_read_in_the_hubs_and_in_the_authors_layout() {
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
fn hellaswag_raw_rows_are_cleaned() {
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
fn piqa_boolq_openbookqa_and_commonsense_qa_prompts_are_the_harness_ones() {
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
fn mmlu_prompt_has_its_subject_and_its_first_examples() {
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
    let asked = &item.prompts[3];
    assert_eq!(
        (&asked.context[..], &asked.continuation[..]),
        (expected, " D")
    );
    assert_eq!(item.group.as_deref(), Some("us_law"));
}

#[test]
fn truthfulqa_is_read_from_the_hub_and_from_the_authors_csv() {
    let hub = json!({"question": "Why?",
        "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["a", "c", "b"], "labels": [1, 1, 0]}});
    let csv = "\u{feff}Type,Question,Best Answer,Correct Answers,Incorrect Answers\n\
        x,Why?,a,a; c;,\" b;\"\n";
    for name in ["truthfulqa_mc1", "truthfulqa_mc2"] {
        let hub = load(name, &[("truthfulqa.validation.jsonl", hub.to_string())], 0);
        let table = load(name, &[("TruthfulQA.csv", csv.to_owned())], 0);
        assert_eq!(hub.items, table.items, "{name}");
        let prompt = &hub.items[0].prompts[0].context;
        let start = "Q: What is human life expectancy in the United States?\nA: Human life ";
        assert!(prompt.starts_with(start), "{prompt}");
        assert!(
            prompt.ends_with("held in Barcelona, Spain.\n\nQ: Why?\nA:"),
            "{prompt}"
        );
        let prompts = hub.items[0].prompts.iter();
        let ends: Vec<_> = prompts.map(|prompt| &prompt.continuation[..]).collect();
        match name {
            "truthfulqa_mc1" => assert_eq!(ends, [" a", " b"]),
            _ => assert_eq!(hub.items[0].target, Target::Labels(vec![true, true, false])),
        }
    }
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
