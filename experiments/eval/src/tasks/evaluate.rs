//! The evaluation loop: items to requests, a scorer's answers to metrics.
//!
//! In: loaded tasks and a [`Scorer`]. Out: an [`Evaluation`] for each task. The training loop calls
//! [`evaluate`] as the command does, with tasks loaded once and a scorer over the current weights.

use std::time::Instant;

use super::generation::{Completion, GenerationScorer};
use super::item::{Item, Target};
use super::item_score::{Predictions, item_score, predictions};
use super::load::LoadedTask;
use super::metrics::{Figure, pooled_stderr};
use super::scorer::{Likelihood, Scorer};
use super::task::{Generation, Task};
use crate::error::{Error, Result};

/// Items that are answered, and handed on, together.
const ITEMS: usize = 16;

/// The results of a task.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The task's name.
    pub name: String,
    /// Number of items.
    pub n: usize,
    /// Examples before each question.
    pub shots: usize,
    /// The metrics over all items.
    pub figures: Vec<Figure>,
    /// The metrics of each group, in the order of the names.
    pub groups: Vec<GroupFigures>,
    /// The result of each item.
    pub items: Vec<ItemResult>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// The metrics of a group of items.
#[derive(Clone, Debug)]
pub struct GroupFigures {
    /// The group's name.
    pub name: String,
    /// Number of items.
    pub n: usize,
    /// The metrics.
    pub figures: Vec<Figure>,
}

/// The result of an item.
#[derive(Clone, Debug)]
pub struct ItemResult {
    /// The row of the data, from 0.
    pub index: usize,
    /// Its group.
    pub group: Option<String>,
    /// The right answer.
    pub target: Target,
    /// The likelihood of each continuation; of a text by itself, of each window.
    pub likelihoods: Vec<Likelihood>,
    /// The model's completion, for a task of generation.
    pub completion: Option<Completion>,
}

impl ItemResult {
    /// The predicted choices, where the item has choices.
    pub fn predictions(&self) -> Option<Predictions> {
        predictions(&self.target, &self.likelihoods)
    }
}

/// Evaluates the model of `scorer` on `tasks`. `progress` gets the task's name, the items done and the
/// total of items.
///
/// # Errors
///
/// [`Error::Item`] for an item that the model cannot be asked about, [`Error::Data`] of a task
/// without items, and the scorer's.
pub fn evaluate(
    tasks: &[LoadedTask],
    scorer: &mut dyn Scorer,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Evaluation>> {
    evaluate_with(tasks, scorer, progress, &mut |_, _| Ok(()))
}

/// The same, and `on_item` gets every item soon after it is answered, in the order of the data: after
/// every sixteen items, or after each where the model writes.
///
/// # Errors
///
/// As [`evaluate`], and those of `on_item`, which end the evaluation.
pub fn evaluate_with(
    tasks: &[LoadedTask],
    scorer: &mut dyn Scorer,
    progress: &mut dyn FnMut(&str, usize, usize),
    on_item: &mut OnItem<'_>,
) -> Result<Vec<Evaluation>> {
    tasks
        .iter()
        .map(|task| evaluate_task(task, scorer, progress, on_item))
        .collect()
}

/// The callback of [`evaluate_with`].
pub type OnItem<'e> = dyn FnMut(&Task, &ItemResult) -> Result<()> + 'e;

fn evaluate_task(
    loaded: &LoadedTask,
    scorer: &mut dyn Scorer,
    progress: &mut dyn FnMut(&str, usize, usize),
    on_item: &mut OnItem<'_>,
) -> Result<Evaluation> {
    let start = Instant::now();
    let (name, total) = (&loaded.task.name, loaded.items.len());
    if total == 0 {
        return Err(Error::Model(format!("task {name}: has no items")));
    }
    if let Some(form) = &loaded.task.generation {
        let items = complete_items(loaded, form, scorer, progress, on_item)?;
        return Ok(evaluation(loaded, items, start));
    }
    let mut items = Vec::with_capacity(total);
    for chunk in loaded.items.chunks(ITEMS) {
        let mut requests = Vec::new();
        let mut counts = Vec::with_capacity(chunk.len());
        for item in chunk {
            let before = requests.len();
            let length = scorer.max_length();
            for prompt in &item.prompts {
                let encoder = scorer.encoder();
                match item.target {
                    Target::Rolling { .. } => {
                        requests.extend(encoder.rolling(&prompt.continuation, length)?)
                    }
                    _ => requests.push(
                        encoder
                            .pair(&prompt.context, &prompt.continuation, length)
                            .map_err(|e| item_error(name, item, &e))?,
                    ),
                }
            }
            counts.push(requests.len() - before);
        }
        let (done, all) = (items.len(), requests.len().max(1));
        let mut answers = scorer
            .score(&requests, &mut |answered| {
                progress(name, done + chunk.len() * answered / all, total);
            })?
            .into_iter();
        for (item, n) in chunk.iter().zip(counts) {
            let item = ItemResult {
                index: item.index,
                group: item.group.clone(),
                target: item.target.clone(),
                likelihoods: answers.by_ref().take(n).collect(),
                completion: None,
            };
            on_item(&loaded.task, &item)?;
            items.push(item);
        }
    }
    Ok(evaluation(loaded, items, start))
}

/// Has the model write after every item's prompt.
fn complete_items(
    loaded: &LoadedTask,
    form: &Generation,
    scorer: &mut dyn Scorer,
    progress: &mut dyn FnMut(&str, usize, usize),
    on_item: &mut OnItem<'_>,
) -> Result<Vec<ItemResult>> {
    let (name, total) = (&loaded.task.name, loaded.items.len());
    let scoring = GenerationScorer::new(form)
        .map_err(|(field, reason)| Error::Model(format!("task {name}: {field}: {reason}")))?;
    let length = scorer.max_length();
    if form.max_tokens >= length {
        return Err(Error::Model(format!(
            "task {name}: writes up to {} tokens, and the model's context has room for {length}",
            form.max_tokens
        )));
    }
    let mut items = Vec::with_capacity(total);
    for item in &loaded.items {
        let context = item.prompts.first().map_or("", |prompt| &prompt.context);
        let most = length - form.max_tokens;
        let prompt = scorer.encoder().prompt(context, most, form.cut_middle)?;
        let mut enough = |text: &str| scoring.end(text).is_some();
        let text = scorer.write(&prompt, form.max_tokens, &mut enough)?;
        let targets = match &item.target {
            Target::Texts(targets) => &targets[..],
            _ => &[],
        };
        let item = ItemResult {
            index: item.index,
            group: item.group.clone(),
            target: item.target.clone(),
            likelihoods: Vec::new(),
            completion: Some(scoring.score(&text, targets)),
        };
        on_item(&loaded.task, &item)?;
        items.push(item);
        progress(name, items.len(), total);
    }
    Ok(items)
}

fn evaluation(loaded: &LoadedTask, items: Vec<ItemResult>, start: Instant) -> Evaluation {
    let (figures, groups) = figures(loaded, &items);
    Evaluation {
        name: loaded.task.name.clone(),
        n: items.len(),
        shots: loaded.shots,
        figures,
        groups,
        items,
        seconds: start.elapsed().as_secs_f64(),
    }
}

fn item_error(task: &str, item: &Item, error: &Error) -> Error {
    Error::Model(format!("task {task}: item {}: {error}", item.index))
}

/// The metrics over all items, and of each group.
fn figures(loaded: &LoadedTask, items: &[ItemResult]) -> (Vec<Figure>, Vec<GroupFigures>) {
    let of = |items: &[&ItemResult]| -> Vec<Figure> {
        let metrics = loaded.task.metrics.iter();
        metrics
            .map(|&metric| {
                let score = |item: &&ItemResult| {
                    let completion = item.completion.as_ref();
                    item_score(metric, &item.target, &item.likelihoods, completion)
                };
                metric.figure(&items.iter().map(score).collect::<Vec<_>>())
            })
            .collect()
    };
    let mut all = of(&items.iter().collect::<Vec<_>>());
    let mut members = std::collections::BTreeMap::<&str, Vec<&ItemResult>>::new();
    for item in items {
        if let Some(group) = &item.group {
            members.entry(group).or_default().push(item);
        }
    }
    let groups: Vec<GroupFigures> = (members.into_iter())
        .map(|(name, items)| GroupFigures {
            name: name.to_owned(),
            n: items.len(),
            figures: of(&items),
        })
        .collect();
    if !groups.is_empty() {
        for (i, figure) in all.iter_mut().enumerate() {
            let errors: Vec<(usize, f64)> = groups
                .iter()
                .map(|group| (group.n, group.figures[i].stderr.unwrap_or(f64::NAN)))
                .collect();
            figure.stderr = pooled_stderr(&errors);
        }
    }
    (all, groups)
}
