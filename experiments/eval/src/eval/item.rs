//! A row made into what a model is asked: contexts, continuations, and which of them is right.
//!
//! The prompt is description, examples and question, put together as lm-evaluation-harness does:
//! an example is its question, the target delimiter, its answer and the few-shot delimiter. The
//! delimiter before the asked answer belongs to the answer.

use minijinja::value::{Value, ValueKind};

use super::encode::is_space;
use super::error::{Error, Result};
use super::task::{Cloze, Generation, MultipleChoice, Task};
use super::template::{Row, Templates, context, text_of};

/// What is asked of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Which row of the data it is, from 0.
    pub index: usize,
    /// The group whose figures it counts into.
    pub group: Option<String>,
    /// Context and continuation; a text by itself has no context.
    pub asks: Vec<(String, String)>,
    /// What counts.
    pub gold: Gold,
}

/// What counts about the likelihoods of an item's continuations.
#[derive(Clone, Debug, PartialEq)]
pub enum Gold {
    /// The likeliest should be one of these.
    Choice {
        /// Positions among the asks.
        right: Vec<usize>,
        /// Characters and bytes of each choice.
        lengths: Vec<[usize; 2]>,
    },
    /// The ones that are true should have all probability.
    True(Vec<bool>),
    /// The only one should be what the model would say.
    Said,
    /// There is none: what the model writes after the context should be one of these, where any is told.
    Written(Vec<String>),
    /// The text should be likely.
    Text {
        /// Its words.
        words: usize,
        /// Its bytes.
        bytes: usize,
    },
}

/// Makes a task's items.
pub(super) struct Maker<'t> {
    task: &'t Task,
    templates: &'t Templates,
}

/// A field of the task file and what is wrong with what it gives.
type Wrong = (&'static str, String);

fn at<T>(field: &'static str, result: Result<T, String>) -> Result<T, Wrong> {
    result.map_err(|reason| (field, reason))
}

impl<'t> Maker<'t> {
    pub(super) fn new(task: &'t Task, templates: &'t Templates) -> Self {
        Self { task, templates }
    }

    pub(super) fn wrong(&self, index: usize, field: &str, reason: String) -> Error {
        Error::Item {
            task: self.task.name.clone(),
            index,
            field: field.to_owned(),
            reason,
        }
    }

    /// The item of `row`, with `examples` before the question.
    pub(super) fn item(&self, index: usize, row: &Row, examples: &[&Row]) -> Result<Item> {
        let wrong = |(field, reason): Wrong| self.wrong(index, field, reason);
        let group = match &self.task.group_by {
            None => None,
            Some(column) => Some(match row.get(column) {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => {
                    let reason = format!("the row has no column {column}");
                    return Err(self.wrong(index, "group_by", reason));
                }
            }),
        };
        let row = context(row);
        let description = self.templates.text(&self.task.description, &row);
        let mut before = at("description", description).map_err(wrong)?;
        for example in examples {
            let example = self.example(&context(example));
            before += &example.map_err(|(field, reason)| {
                self.wrong(index, field, format!("an example of it: {reason}"))
            })?;
        }
        let (asks, gold) = self.asks(&before, &row).map_err(wrong)?;
        Ok(Item {
            index,
            group,
            asks,
            gold,
        })
    }

    fn asks(&self, before: &str, row: &Value) -> Result<(Vec<(String, String)>, Gold), Wrong> {
        let (t, delimiter) = (self.templates, &self.task.target_delimiter);
        if let Some(form) = &self.task.multiple_choice {
            let prompt = at("multiple_choice.prompt", t.text(&form.prompt, row))?;
            let prompt = format!("{before}{prompt}");
            let choices = at("multiple_choice.choices", t.texts(&form.choices, row))?;
            let gold = match &form.labels {
                Some(labels) => self.labels(labels, &choices, row)?,
                None => Gold::Choice {
                    right: self.right(form, &choices, row)?,
                    lengths: choices
                        .iter()
                        .map(|c| [c.chars().count(), c.len()])
                        .collect(),
                },
            };
            let ask = |choice| (prompt.clone(), format!("{delimiter}{choice}"));
            return Ok((choices.iter().map(ask).collect(), gold));
        }
        if let Some(form) = &self.task.cloze {
            let (contexts, end, right) = self.cloze(form, row)?;
            let lengths = vec![[1, 1]; contexts.len()];
            let ask = |c| (format!("{before}{c}"), format!("{delimiter}{end}"));
            let right = vec![right];
            return Ok((
                contexts.iter().map(ask).collect(),
                Gold::Choice { right, lengths },
            ));
        }
        if let Some(form) = &self.task.continuation {
            let prompt = at("continuation.prompt", t.text(&form.prompt, row))?;
            let said = at("continuation.continuation", t.text(&form.continuation, row))?;
            return Ok((vec![(format!("{before}{prompt}"), said)], Gold::Said));
        }
        if let Some(form) = &self.task.generation {
            let prompt = at("generation.prompt", t.text(&form.prompt, row))?;
            let ask = (format!("{before}{prompt}"), String::new());
            return Ok((vec![ask], Gold::Written(self.targets(form, row)?)));
        }
        let Some(form) = &self.task.rolling else {
            return Err(("the form", "the task asks nothing".into()));
        };
        let text = text_of(&at("rolling.text", t.value(&form.text, row))?);
        let counted = match &form.counted {
            Some(counted) => text_of(&at("rolling.counted", t.value(counted, row))?),
            None => text.clone(),
        };
        let gold = Gold::Text {
            words: words(&counted),
            bytes: counted.len(),
        };
        Ok((vec![(String::new(), text)], gold))
    }

    /// A row with its answer.
    fn example(&self, row: &Value) -> Result<String, Wrong> {
        let (t, task) = (self.templates, self.task);
        let (delimiter, end) = (&task.target_delimiter, &task.few_shot_delimiter);
        if let Some(form) = &task.multiple_choice {
            let prompt = at("multiple_choice.prompt", t.text(&form.prompt, row))?;
            let choices = at("multiple_choice.choices", t.texts(&form.choices, row))?;
            let right = self.right(form, &choices, row)?;
            return Ok(format!("{prompt}{delimiter}{}{end}", choices[right[0]]));
        }
        if let Some(form) = &task.cloze {
            let (contexts, answer, right) = self.cloze(form, row)?;
            return Ok(format!("{}{delimiter}{answer}{end}", contexts[right]));
        }
        if let Some(form) = &task.generation {
            let prompt = at("generation.prompt", t.text(&form.prompt, row))?;
            let targets = self.targets(form, row)?;
            let Some(target) = targets.first() else {
                return Err(("few_shot", "examples need generation.target".into()));
            };
            return Ok(format!("{prompt}{delimiter}{target}{end}"));
        }
        let Some(form) = &task.continuation else {
            return Err(("few_shot", "a text by itself has no examples".into()));
        };
        let prompt = at("continuation.prompt", t.text(&form.prompt, row))?;
        let said = at("continuation.continuation", t.text(&form.continuation, row))?;
        Ok(format!("{prompt}{said}{end}"))
    }

    /// What should be written; nothing where the task does not say.
    fn targets(&self, form: &Generation, row: &Value) -> Result<Vec<String>, Wrong> {
        let t = self.templates;
        if let Some(targets) = &form.targets {
            return at("generation.targets", t.texts(targets, row));
        }
        let target = form.target.as_ref().map(|target| t.text(target, row));
        let target = at("generation.target", target.transpose())?;
        Ok(target.into_iter().collect())
    }

    /// Contexts, their common end, and which is right.
    fn cloze(&self, form: &Cloze, row: &Value) -> Result<(Vec<String>, String, usize), Wrong> {
        let t = self.templates;
        let contexts = at("cloze.contexts", t.texts(&form.contexts, row))?;
        let end = at("cloze.continuation", t.text(&form.continuation, row))?;
        let target = at("cloze.target", t.value(&form.target, row))?;
        let right = at("cloze.target", place(&target, &contexts))?;
        Ok((contexts, end, right))
    }

    /// The right choices; at least one.
    fn right(
        &self,
        form: &MultipleChoice,
        choices: &[String],
        row: &Value,
    ) -> Result<Vec<usize>, Wrong> {
        let field = "multiple_choice.target";
        let Some(target) = &form.target else {
            return Err((
                field,
                "is needed for examples; labels are not enough".into(),
            ));
        };
        let target = at(field, self.templates.value(target, row))?;
        if !matches!(target.kind(), ValueKind::Seq | ValueKind::Iterable) {
            return Ok(vec![at(field, place(&target, choices))?]);
        }
        let several = target.try_iter().map_err(|e| (field, e.to_string()))?;
        let right: Result<Vec<usize>, String> = several.map(|t| place(&t, choices)).collect();
        match at(field, right)? {
            right if right.is_empty() => Err((field, "is an empty list".into())),
            right => Ok(right),
        }
    }

    fn labels(&self, labels: &str, choices: &[String], row: &Value) -> Result<Gold, Wrong> {
        let field = "multiple_choice.labels";
        let labels = at(field, self.templates.texts(labels, row))?;
        let truths = labels.iter().map(|label| match label.as_str() {
            "1" | "true" | "True" => Ok(true),
            "0" | "false" | "False" => Ok(false),
            other => Err((field, format!("{other:?} is neither 1 nor 0"))),
        });
        let truths = truths.collect::<Result<Vec<bool>, Wrong>>()?;
        match truths.len() == choices.len() {
            true => Ok(Gold::True(truths)),
            false => Err((
                field,
                format!("{} for {} choices", truths.len(), choices.len()),
            )),
        }
    }
}

/// The choice that `target` names: a position from 0, the choice's text, or a position's digits.
fn place(target: &Value, choices: &[String]) -> Result<usize, String> {
    let text = text_of(target);
    let among = choices.iter().position(|c| target.as_str() == Some(c));
    let place = among.or_else(|| text.trim().parse().ok());
    place.filter(|&place| place < choices.len()).ok_or_else(|| {
        let n = choices.len();
        format!(
            "{text:?} is none of the {n} choices nor a position from 0 to {}",
            n - 1
        )
    })
}

/// What stands between runs of white space, as Python's `re.split(r"\s+", text)` counts.
fn words(text: &str) -> usize {
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
    use serde_json::json;

    use super::*;

    fn make(task: &str, row: serde_json::Value, examples: &[serde_json::Value]) -> Result<Item> {
        let task = format!("name='t'\n{task}\n[[source]]\nfiles=['x']");
        let task = Task::parse(&task, "t")?;
        let examples: Vec<&Row> = examples.iter().map(|e| e.as_object().unwrap()).collect();
        let templates = Templates::new();
        Maker::new(&task, &templates).item(3, row.as_object().unwrap(), &examples)
    }

    const CHOICE: &str = r#"
        metrics = ['acc']
        description = "About {{ s }}.\n\n"
        group_by = 's'
        [multiple_choice]
        prompt = "Q: {{ q }}\nA:"
        choices = "c"
        target = "t"
    "#;

    #[test]
    fn a_prompt_is_description_examples_and_question() {
        let row = json!({"s": "x", "q": "one", "c": ["é", "bb"], "t": 1});
        let example = json!({"s": "y", "q": "two", "c": ["yes", "no"], "t": "no"});
        let item = make(CHOICE, row, &[example]).unwrap();
        let prompt = "About x.\n\nQ: two\nA: no\n\nQ: one\nA:";
        assert_eq!(item.asks[0], (prompt.to_owned(), " é".to_owned()));
        assert_eq!(item.asks[1], (prompt.to_owned(), " bb".to_owned()));
        let (right, lengths) = (vec![1], vec![[1, 2], [2, 2]]);
        assert_eq!(item.gold, Gold::Choice { right, lengths });
        assert_eq!((item.index, item.group.as_deref()), (3, Some("x")));
    }

    #[test]
    fn targets_are_places_texts_digits_and_lists() {
        for (target, right) in [
            (json!(0), vec![0]),
            (json!("b"), vec![1]),
            (json!("1"), vec![1]),
            (json!([0, 2]), vec![0, 2]),
        ] {
            let row = json!({"s": "", "q": "", "c": ["a", "b", "2"], "t": target});
            let Gold::Choice { right: found, .. } = make(CHOICE, row, &[]).unwrap().gold else {
                panic!("a choice");
            };
            assert_eq!(found, right);
        }
        for (target, says) in [
            (
                json!(3),
                "\"3\" is none of the 3 choices nor a position from 0 to 2",
            ),
            (json!(-1), "-1"),
            (json!("c"), "\"c\" is none"),
            (json!([]), "an empty list"),
            (json!(null), "none"),
            (json!({"a": 1}), "is none of"),
        ] {
            let row = json!({"s": "", "q": "", "c": ["a", "b", "2"], "t": target});
            let error = make(CHOICE, row, &[]).unwrap_err().to_string();
            assert!(
                error.starts_with("task t: item 3: multiple_choice.target: ")
                    && error.contains(says),
                "{error}"
            );
        }
        let error = make(CHOICE, json!({"s": "", "c": ["a"], "t": 0}), &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("multiple_choice.prompt: undefined"),
            "{error}"
        );
    }

    #[test]
    fn a_cloze_asks_one_end_after_several_beginnings() {
        let task = r#"
            metrics = ['acc']
            [cloze]
            contexts = "[(s | split('_'))[0] ~ a, (s | split('_'))[0] ~ b]"
            continuation = "{{ (s | split('_', 1))[1] | trim }}"
            target = "answer | int - 1"
        "#;
        let row = json!({"s": "The _ is _ big.", "a": "cup", "b": "box", "answer": "2"});
        let item = make(task, row.clone(), &[row]).unwrap();
        let context = "The box is _ big.\n\nThe cup".to_owned();
        assert_eq!(item.asks[0], (context, " is _ big.".to_owned()));
        let Gold::Choice { right, .. } = item.gold else {
            panic!("a choice");
        };
        assert_eq!(right, [1]);
    }

    #[test]
    fn labels_need_a_choice_each() {
        let task = CHOICE.replace("target =", "labels =");
        let row = |t| json!({"s": "", "q": "", "c": ["a", "b"], "t": t});
        let gold = make(&task, row(json!([1, 0])), &[]).unwrap().gold;
        assert_eq!(gold, Gold::True(vec![true, false]));
        for bad in [json!([1]), json!([1, 2]), json!(1)] {
            assert!(make(&task, row(bad), &[]).is_err());
        }
        assert!(make(&task, row(json!([1, 0])), &[row(json!([1, 0]))]).is_err());
    }

    #[test]
    fn words_are_counted_as_pythons_split_does() {
        for (text, n) in [("", 1), ("a", 1), (" a  b\n", 4), ("a\u{1c}b\u{a0}c", 3)] {
            assert_eq!(words(text), n, "{text:?}");
        }
    }
}
