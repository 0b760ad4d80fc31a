//! Tasks of generation.

use retort_eval::tasks::Target;
use serde_json::{Value, json};

use super::load;

#[test]
fn gsm8k_prompt_has_five_examples_with_their_reasoning() {
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
    let prompt = &item.prompts[0].context;
    assert!(
        prompt.starts_with("Question: q0\nAnswer: r0\n#### 0\n\nQuestion: q1\n"),
        "{prompt}"
    );
    assert!(
        prompt.ends_with("#### 4\n\nQuestion: How many?\nAnswer:"),
        "{prompt}"
    );
    assert_eq!(
        item.target,
        Target::Texts(vec!["1 + 1 = <<1+1=2>>2\n#### 2".into()])
    );
}

#[test]
fn bbh_and_humaneval_prompts_are_the_harness_ones() {
    let rows =
        json!({"canary": "", "examples": [{"input": "True and not True is", "target": "False"}]});
    let files = [
        ("bbh/web_of_lies.json", rows.to_string()),
        ("bbh/boolean_expressions.json", rows.to_string()),
    ];
    let items = load("bbh", &files, 0).items;
    assert_eq!(items[0].prompts[0].context, "Q: True and not True is\nA:");
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
        (&item.prompts[0].context[..], item.target),
        ("def f(x):\n", Target::Texts(vec![]))
    );
}

#[test]
fn bbh_cot_examples_are_read_from_the_authors_files() {
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
        assert_eq!(
            load("bbh_cot", &files, shots).items[0].prompts[0].context,
            prompt
        );
    }
}

#[test]
fn longbench_asks_questions_that_are_answered_in_words() {
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
    assert_eq!(
        items[0].prompts[0].context,
        "It was Ann.\n\nQuestion: Who?\nAnswer:"
    );
    assert_eq!(
        items[0].target,
        Target::Texts(vec!["Ann".into(), "Ann B.".into()])
    );
    assert_eq!(items[0].group.as_deref(), Some("hotpotqa"));
}
