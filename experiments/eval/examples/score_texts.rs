//! Scores given texts as if a model had written them, for `experiments/checks/lm_eval_generation.py`.
//!
//! In: a task, the directory of its data, examples before each question, and a JSON file with a list of texts for
//! each of its first items, as many for every item. Out, a JSON object a line for every item and text: index, prompt,
//! text up to its stop, answer found, target, `exact` and `flexible`.

use std::path::PathBuf;

use retort_eval::Result;
use retort_eval::tasks::{
    Encoder, Likelihood, LoadOptions, LoadedTask, Request, Scorer, Task, evaluate,
};
use serde_json::json;

/// A character an id, so that prompts can be read back.
struct Given {
    encoder: Encoder<'static>,
    texts: std::vec::IntoIter<String>,
    prompts: Vec<String>,
}

impl Scorer for Given {
    fn encoder(&self) -> &Encoder<'_> {
        &self.encoder
    }

    fn max_length(&self) -> usize {
        usize::MAX
    }

    fn score(&mut self, _: &[Request], _: &mut dyn FnMut(usize)) -> Result<Vec<Likelihood>> {
        panic!("the task must be one of generation");
    }

    fn write(
        &mut self,
        prompt: &[u32],
        _: usize,
        _: &mut dyn FnMut(&str) -> bool,
    ) -> Result<String> {
        let prompt = prompt.iter().filter_map(|&id| char::from_u32(id));
        self.prompts.push(prompt.collect());
        Ok(self.texts.next().expect("a text for every item"))
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [task, data, shots, texts] = &arguments[..] else {
        return Err("usage: score_texts TASK DATA SHOTS TEXTS.json".into());
    };
    let texts: Vec<Vec<String>> = serde_json::from_slice(&std::fs::read(texts)?)?;
    let options = LoadOptions {
        dirs: vec![PathBuf::from(data)],
        limit: Some(texts.len()),
        shots: Some(shots.parse()?),
    };
    let loaded = [LoadedTask::new(Task::find(task)?, &options)?];
    for place in 0..texts.first().map_or(0, Vec::len) {
        let column: Vec<String> = texts.iter().map(|all| all[place].clone()).collect();
        let encode = |text: &str| Ok(text.chars().map(u32::from).collect());
        let mut given = Given {
            encoder: Encoder::new(encode, vec![], vec![], 0),
            texts: column.into_iter(),
            prompts: Vec::new(),
        };
        let found = evaluate(&loaded, &mut given, &mut |_, _, _| {})?;
        for (item, prompt) in found[0].items.iter().zip(&given.prompts) {
            let Some(completion) = &item.completion else {
                return Err("the task must be one of generation".into());
            };
            let line = json!({
                "index": item.index, "place": place, "prompt": prompt, "text": completion.text,
                "answer": completion.answer, "target": completion.target, "exact": completion.exact,
                "flexible": completion.flexible,
            });
            println!("{line}");
        }
    }
    Ok(())
}
