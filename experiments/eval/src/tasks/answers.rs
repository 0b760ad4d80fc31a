//! The right answers of a row: choices, labels, texts to write, counts of words.

use minijinja::value::{Value, ValueKind};

use super::encoder::is_space;
use super::item::Target;
use super::task::{Cloze, Generation, MultipleChoice};
use super::template::{Templates, text_of};

/// A field of the task file, and what is wrong with its value.
pub(super) type Wrong = (&'static str, String);

/// Names the field of an error.
pub(super) fn at<T>(field: &'static str, result: Result<T, String>) -> Result<T, Wrong> {
    result.map_err(|reason| (field, reason))
}

/// The right texts; none where the task is not scored.
pub(super) fn texts(t: &Templates, form: &Generation, row: &Value) -> Result<Vec<String>, Wrong> {
    if let Some(targets) = &form.targets {
        return at("generation.targets", t.texts(targets, row));
    }
    let target = form.target.as_ref().map(|target| t.text(target, row));
    let target = at("generation.target", target.transpose())?;
    Ok(target.into_iter().collect())
}

/// Contexts, their common end, and which is right.
pub(super) fn cloze(
    t: &Templates,
    form: &Cloze,
    row: &Value,
) -> Result<(Vec<String>, String, usize), Wrong> {
    let contexts = at("cloze.contexts", t.texts(&form.contexts, row))?;
    let end = at("cloze.continuation", t.text(&form.continuation, row))?;
    let target = at("cloze.target", t.value(&form.target, row))?;
    let right = at("cloze.target", position(&target, &contexts))?;
    Ok((contexts, end, right))
}

/// The right choices; at least one.
pub(super) fn right(
    t: &Templates,
    form: &MultipleChoice,
    choices: &[String],
    row: &Value,
) -> Result<Vec<usize>, Wrong> {
    let field = "multiple_choice.target";
    let target = form.target.as_deref().unwrap_or_default();
    let target = at(field, t.value(target, row))?;
    if !matches!(target.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(vec![at(field, position(&target, choices))?]);
    }
    let several = target.try_iter().map_err(|e| (field, e.to_string()))?;
    let right: Result<Vec<usize>, String> = several.map(|t| position(&t, choices)).collect();
    match at(field, right)? {
        right if right.is_empty() => Err((field, "is an empty list".into())),
        right => Ok(right),
    }
}

pub(super) fn labels(
    t: &Templates,
    labels: &str,
    choices: &[String],
    row: &Value,
) -> Result<Target, Wrong> {
    let field = "multiple_choice.labels";
    let labels = at(field, t.texts(labels, row))?;
    let truths = labels.iter().map(|label| match label.as_str() {
        "1" | "true" | "True" => Ok(true),
        "0" | "false" | "False" => Ok(false),
        other => Err((field, format!("{other:?} is neither 1 nor 0"))),
    });
    let truths = truths.collect::<Result<Vec<bool>, Wrong>>()?;
    if truths.len() == choices.len() {
        Ok(Target::Labels(truths))
    } else {
        let (labels, choices) = (truths.len(), choices.len());
        Err((field, format!("{labels} for {choices} choices")))
    }
}

/// The choice that `target` names: a position from 0, the choice's text, or a position's digits.
fn position(target: &Value, choices: &[String]) -> Result<usize, String> {
    let text = text_of(target);
    let among = choices.iter().position(|c| target.as_str() == Some(c));
    let position = among.or_else(|| text.trim().parse().ok());
    position
        .filter(|&position| position < choices.len())
        .ok_or_else(|| {
            let n = choices.len();
            format!(
                "{text:?} is none of the {n} choices nor a position from 0 to {}",
                n - 1
            )
        })
}

/// The number of words, as Python's `len(re.split(r"\s+", text))` counts them.
pub(super) fn words(text: &str) -> usize {
    let mut inside = false;
    let mut runs = 0;
    for c in text.chars() {
        let space = is_space(c);
        runs += usize::from(space && !inside);
        inside = space;
    }
    runs + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_pythons_split_does() {
        for (text, n) in [("", 1), ("a", 1), (" a  b\n", 4), ("a\u{1c}b\u{a0}c", 3)] {
            assert_eq!(words(text), n, "{text:?}");
        }
    }
}
