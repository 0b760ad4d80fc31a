//! The evaluation itself: items to requests, requests to a model, its answers to figures.
//!
//! A training loop calls [`evaluate`] as the command does: the tasks are loaded once, the scorer
//! wraps the model of the moment.

use std::time::Instant;

use super::error::{Error, Result};
use super::item::{Gold, Item};
use super::metrics::{Figure, pooled_stderr};
use super::score::{part, predictions};
use super::scorer::{Likelihood, Scorer};
use super::source::Loaded;
use super::task::{Generation, Task};
use super::written::{Judge, Written};

/// Items that are answered together, and so handed on together.
const ITEMS: usize = 16;

/// What an evaluation of a task found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The task's name.
    pub name: String,
    /// Items.
    pub n: usize,
    /// Examples before each question.
    pub shots: usize,
    /// The figures.
    pub figures: Vec<Figure>,
    /// The figures of each group: its name, its items and figures, in the order of the names.
    pub groups: Vec<(String, usize, Vec<Figure>)>,
    /// What each item came to.
    pub items: Vec<ItemResult>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// What an item came to.
#[derive(Clone, Debug)]
pub struct ItemResult {
    /// Which row of the data it is, from 0.
    pub index: usize,
    /// Its group.
    pub group: Option<String>,
    /// What counted.
    pub gold: Gold,
    /// How likely each continuation was; of a text, each window.
    pub found: Vec<Likelihood>,
    /// What the model wrote, where that is what was asked.
    pub written: Option<Written>,
}

impl ItemResult {
    /// The likeliest choice, the likeliest a character and the likeliest a byte.
    pub fn predictions(&self) -> Option<[usize; 3]> {
        let p = predictions(&self.gold, &self.found)?;
        Some([p.plain, p.by_characters, p.by_bytes])
    }
}

/// Asks `scorer` about every item of `tasks`. `progress` gets the task's name, items done and items
/// in all.
///
/// # Errors
///
/// [`Error::Item`] for an item that the model cannot be asked about, [`Error::Data`] of a task
/// without items, and the scorer's.
pub fn evaluate(
    tasks: &[Loaded],
    scorer: &mut dyn Scorer,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Evaluation>> {
    evaluate_with(tasks, scorer, progress, &mut |_, _| Ok(()))
}

/// The same, and every item goes to `each` soon after it is answered, in the order of the data: sixteen
/// together, or one by one where the model writes.
///
/// # Errors
///
/// As [`evaluate`], and those of `each`, which end it.
pub fn evaluate_with(
    tasks: &[Loaded],
    scorer: &mut dyn Scorer,
    progress: &mut dyn FnMut(&str, usize, usize),
    each: &mut Each<'_>,
) -> Result<Vec<Evaluation>> {
    tasks
        .iter()
        .map(|task| one(task, scorer, progress, each))
        .collect()
}

/// What [`evaluate_with`] gives an item of a task to.
pub type Each<'e> = dyn FnMut(&Task, &ItemResult) -> Result<()> + 'e;

fn one(
    loaded: &Loaded,
    scorer: &mut dyn Scorer,
    progress: &mut dyn FnMut(&str, usize, usize),
    each: &mut Each<'_>,
) -> Result<Evaluation> {
    let start = Instant::now();
    let (name, total) = (&loaded.task.name, loaded.items.len());
    if total == 0 {
        return Err(Error::Model(format!("task {name}: has no items")));
    }
    if let Some(form) = &loaded.task.generation {
        let items = write(loaded, form, scorer, progress, each)?;
        return Ok(evaluation(loaded, items, start));
    }
    let mut items = Vec::with_capacity(total);
    for chunk in loaded.items.chunks(ITEMS) {
        let mut requests = Vec::new();
        let mut counts = Vec::with_capacity(chunk.len());
        for item in chunk {
            let before = requests.len();
            let length = scorer.max_length();
            for (context, continuation) in &item.asks {
                let encoder = scorer.encoder();
                match item.gold {
                    Gold::Text { .. } => requests.extend(encoder.rolling(continuation, length)?),
                    _ => requests.push(
                        encoder
                            .pair(context, continuation, length)
                            .map_err(|e| at(name, item, &e))?,
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
                gold: item.gold.clone(),
                found: answers.by_ref().take(n).collect(),
                written: None,
            };
            each(&loaded.task, &item)?;
            items.push(item);
        }
    }
    Ok(evaluation(loaded, items, start))
}

/// Lets the model write after every item's prompt.
fn write(
    loaded: &Loaded,
    form: &Generation,
    scorer: &mut dyn Scorer,
    progress: &mut dyn FnMut(&str, usize, usize),
    each: &mut Each<'_>,
) -> Result<Vec<ItemResult>> {
    let (name, total) = (&loaded.task.name, loaded.items.len());
    let judge = Judge::new(form)
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
        let context = item.asks.first().map_or("", |ask| &ask.0);
        let most = length - form.max_tokens;
        let prompt = scorer.encoder().prompt(context, most, form.cut_middle)?;
        let mut enough = |text: &str| judge.end(text).is_some();
        let text = scorer.write(&prompt, form.max_tokens, &mut enough)?;
        let targets = match &item.gold {
            Gold::Written(targets) => &targets[..],
            _ => &[],
        };
        let item = ItemResult {
            index: item.index,
            group: item.group.clone(),
            gold: item.gold.clone(),
            found: Vec::new(),
            written: Some(judge.judge(&text, targets)),
        };
        each(&loaded.task, &item)?;
        items.push(item);
        progress(name, items.len(), total);
    }
    Ok(items)
}

fn evaluation(loaded: &Loaded, items: Vec<ItemResult>, start: Instant) -> Evaluation {
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

fn at(task: &str, item: &Item, error: &Error) -> Error {
    Error::Model(format!("task {task}: item {}: {error}", item.index))
}

type Groups = Vec<(String, usize, Vec<Figure>)>;

fn figures(loaded: &Loaded, items: &[ItemResult]) -> (Vec<Figure>, Groups) {
    let of = |items: &[&ItemResult]| -> Vec<Figure> {
        let metrics = loaded.task.metrics.iter();
        metrics
            .map(|&metric| {
                let parts = items
                    .iter()
                    .map(|item| part(metric, &item.gold, &item.found, item.written.as_ref()));
                metric.figure(&parts.collect::<Vec<_>>())
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
    let groups: Groups = members
        .into_iter()
        .map(|(name, items)| (name.to_owned(), items.len(), of(&items)))
        .collect();
    if !groups.is_empty() {
        for (i, figure) in all.iter_mut().enumerate() {
            let parts: Vec<(usize, f64)> = groups
                .iter()
                .map(|(_, n, figures)| (*n, figures[i].stderr.unwrap_or(f64::NAN)))
                .collect();
            figure.stderr = pooled_stderr(&parts);
        }
    }
    (all, groups)
}
