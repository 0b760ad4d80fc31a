//! Tiny models, questions, and a scorer without a model.

use std::fs;
use std::path::{Path, PathBuf};

use retort_data::stories;
use retort_eval::Result;
use retort_eval::tasks::{Encoder, Likelihood, LoadOptions, LoadedTask, Request, Scorer, Task};
use retort_format::GgmlType;

pub use retort_test_kit::CONTEXT;

/// Writes a tiny model into `dir/model`; returns its F32 GGUF.
pub fn gguf(dir: &Path) -> PathBuf {
    retort_test_kit::write_checkpoint(dir);
    let gguf = dir.join("model.gguf");
    retort_convert::export::export(&dir.join("model"), &gguf, GgmlType::F32, |_| {}).unwrap();
    gguf
}

/// Questions with four choices of different lengths: JSON lines.
pub fn questions(n: usize) -> String {
    let stories = stories::generate(7, 4 * n);
    let mut lines = String::new();
    for (i, four) in stories.chunks(4).enumerate() {
        let words: Vec<Vec<&str>> = four
            .iter()
            .map(|story| story.text.split(' ').take(9).collect())
            .collect();
        let choices: Vec<String> = words
            .iter()
            .enumerate()
            .map(|(j, w)| w[..1 + (i + 3 * j) % 6].join(" "))
            .collect();
        let line = serde_json::json!({
            "q": words[i % 4].join(" "), "choices": choices, "right": i % 4,
        });
        lines += &format!("{line}\n");
    }
    lines
}

/// A task of choices over the rows of [`questions`].
pub const TASK: &str = r#"
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

/// Loads from `dir`.
pub fn options(dir: &Path) -> LoadOptions {
    LoadOptions {
        dirs: vec![dir.to_owned()],
        ..LoadOptions::default()
    }
}

/// Writes files of `content` and loads the task in `toml`.
pub fn load(toml: &str, content: &[(&str, &str)], shots: Option<usize>) -> Result<LoadedTask> {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in content {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let options = LoadOptions {
        shots,
        ..options(dir.path())
    };
    LoadedTask::new(Task::parse(toml, "task.toml")?, &options)
}

/// A scorer without a model: " right" is the likeliest, else the shorter the likelier; it completes a prompt
/// with its characters backwards.
pub struct FixedScorer(Encoder<'static>);

impl FixedScorer {
    pub fn new() -> Self {
        let encode = |text: &str| Ok(text.chars().map(u32::from).collect());
        Self(Encoder::new(encode, vec![], vec![], 0))
    }
}

impl Scorer for FixedScorer {
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
