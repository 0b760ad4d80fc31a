//! Rows made into items: prompts, and the right answer among them.
//!
//! A prompt is description, examples and question, joined as lm-evaluation-harness joins them: an
//! example is its question, the target delimiter, its answer and the few-shot delimiter. The
//! delimiter before the asked answer belongs to the answer.

use minijinja::value::Value;

use super::answers::{self, Wrong, at, words};
use super::item::{Item, Prompt, Target};
use super::task::Task;
use super::template::{Row, Templates, context, text_of};
use crate::error::{Error, Result};

/// Builds a task's items.
pub(super) struct ItemBuilder<'t> {
    task: &'t Task,
    templates: &'t Templates,
}

impl<'t> ItemBuilder<'t> {
    /// A builder for `task`.
    pub(super) fn new(task: &'t Task, templates: &'t Templates) -> Self {
        Self { task, templates }
    }

    /// The error in `field` for the row `index`.
    pub(super) fn wrong(&self, index: usize, field: &str, reason: String) -> Error {
        Error::Item {
            task: self.task.name.clone(),
            index,
            field: field.to_owned(),
            reason,
        }
    }

    /// The item of `row`, with `examples` before the question.
    pub(super) fn build(&self, index: usize, row: &Row, examples: &[&Row]) -> Result<Item> {
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
        let (prompts, target) = self.prompts(&before, &row).map_err(wrong)?;
        Ok(Item {
            index,
            group,
            prompts,
            target,
        })
    }

    /// The prompts of `row` after `before`, which is description and examples, and the target.
    fn prompts(&self, before: &str, row: &Value) -> Result<(Vec<Prompt>, Target), Wrong> {
        let (t, delimiter) = (self.templates, &self.task.target_delimiter);
        let ask = |context: &str, continuation: String| Prompt {
            context: format!("{before}{context}"),
            continuation,
        };
        if let Some(form) = &self.task.multiple_choice {
            let prompt = at("multiple_choice.prompt", t.text(&form.prompt, row))?;
            let choices = at("multiple_choice.choices", t.texts(&form.choices, row))?;
            let target = match &form.labels {
                Some(labels) => answers::labels(t, labels, &choices, row)?,
                None => Target::Choice {
                    right: answers::right(t, form, &choices, row)?,
                    lengths: choices
                        .iter()
                        .map(|c| [c.chars().count(), c.len()])
                        .collect(),
                },
            };
            let choices = choices.iter();
            let prompts = choices.map(|choice| ask(&prompt, format!("{delimiter}{choice}")));
            return Ok((prompts.collect(), target));
        }
        if let Some(form) = &self.task.cloze {
            let (contexts, end, right) = answers::cloze(t, form, row)?;
            let target = Target::Choice {
                right: vec![right],
                lengths: vec![[1, 1]; contexts.len()],
            };
            let contexts = contexts.iter();
            let prompts = contexts.map(|context| ask(context, format!("{delimiter}{end}")));
            return Ok((prompts.collect(), target));
        }
        if let Some(form) = &self.task.continuation {
            let prompt = at("continuation.prompt", t.text(&form.prompt, row))?;
            let continuation = at("continuation.continuation", t.text(&form.continuation, row))?;
            return Ok((vec![ask(&prompt, continuation)], Target::Greedy));
        }
        if let Some(form) = &self.task.generation {
            let prompt = at("generation.prompt", t.text(&form.prompt, row))?;
            let target = Target::Texts(answers::texts(t, form, row)?);
            return Ok((vec![ask(&prompt, String::new())], target));
        }
        let Some(form) = &self.task.rolling else {
            return Err(("the form", "the task asks nothing".into()));
        };
        let text = text_of(&at("rolling.text", t.value(&form.text, row))?);
        let counted = match &form.counted {
            Some(counted) => text_of(&at("rolling.counted", t.value(counted, row))?),
            None => text.clone(),
        };
        let target = Target::Rolling {
            words: words(&counted),
            bytes: counted.len(),
        };
        let prompt = Prompt {
            context: String::new(),
            continuation: text,
        };
        Ok((vec![prompt], target))
    }

    /// A row with its answer: the prompt that asks for the right one.
    fn example(&self, row: &Value) -> Result<String, Wrong> {
        let (prompts, target) = self.prompts("", row)?;
        let right = match &target {
            Target::Choice { right, .. } => right[0],
            Target::Greedy | Target::Texts(_) => 0,
            Target::Labels(_) => {
                let reason = "is needed for examples; labels are not enough";
                return Err(("multiple_choice.target", reason.into()));
            }
            Target::Rolling { .. } => {
                return Err(("few_shot", "a text by itself has no examples".into()));
            }
        };
        let Prompt {
            context,
            continuation,
        } = &prompts[right];
        let (delimiter, end) = (&self.task.target_delimiter, &self.task.few_shot_delimiter);
        let Target::Texts(texts) = &target else {
            return Ok(format!("{context}{continuation}{end}"));
        };
        match texts.first() {
            Some(text) => Ok(format!("{context}{delimiter}{text}{end}")),
            None => Err(("few_shot", "examples need generation.target".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(context: &str, continuation: &str) -> Prompt {
        Prompt {
            context: context.to_owned(),
            continuation: continuation.to_owned(),
        }
    }

    fn make(task: &str, row: serde_json::Value, examples: &[serde_json::Value]) -> Result<Item> {
        let task = format!("name='t'\n{task}\n[[source]]\nfiles=['x']");
        let task = Task::parse(&task, "t")?;
        let examples: Vec<&Row> = examples.iter().map(|e| e.as_object().unwrap()).collect();
        let templates = Templates::new();
        ItemBuilder::new(&task, &templates).build(3, row.as_object().unwrap(), &examples)
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
    fn prompt_is_description_then_examples_then_question() {
        let row = json!({"s": "x", "q": "one", "c": ["é", "bb"], "t": 1});
        let example = json!({"s": "y", "q": "two", "c": ["yes", "no"], "t": "no"});
        let item = make(CHOICE, row, &[example]).unwrap();
        let prompt = "About x.\n\nQ: two\nA: no\n\nQ: one\nA:";
        assert_eq!(item.prompts[0], ask(prompt, " é"));
        assert_eq!(item.prompts[1], ask(prompt, " bb"));
        let (right, lengths) = (vec![1], vec![[1, 2], [2, 2]]);
        assert_eq!(item.target, Target::Choice { right, lengths });
        assert_eq!((item.index, item.group.as_deref()), (3, Some("x")));
    }

    #[test]
    fn multiple_choice_target_may_be_position_text_digits_or_list() {
        for (target, right) in [
            (json!(0), vec![0]),
            (json!("b"), vec![1]),
            (json!("1"), vec![1]),
            (json!([0, 2]), vec![0, 2]),
        ] {
            let row = json!({"s": "", "q": "", "c": ["a", "b", "2"], "t": target});
            let Target::Choice { right: found, .. } = make(CHOICE, row, &[]).unwrap().target else {
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
    fn cloze_asks_one_continuation_after_several_contexts() {
        let task = r#"
            metrics = ['acc']
            [cloze]
            contexts = "[(s | split('_'))[0] ~ a, (s | split('_'))[0] ~ b]"
            continuation = "{{ (s | split('_', 1))[1] | trim }}"
            target = "answer | int - 1"
        "#;
        let row = json!({"s": "The _ is _ big.", "a": "cup", "b": "box", "answer": "2"});
        let item = make(task, row.clone(), &[row]).unwrap();
        let context = "The box is _ big.\n\nThe cup";
        assert_eq!(item.prompts[0], ask(context, " is _ big."));
        let Target::Choice { right, .. } = item.target else {
            panic!("a choice");
        };
        assert_eq!(right, [1]);
    }

    #[test]
    fn labels_that_do_not_match_the_choices_are_an_error() {
        let task = CHOICE.replace("target =", "labels =");
        let row = |t| json!({"s": "", "q": "", "c": ["a", "b"], "t": t});
        let target = make(&task, row(json!([1, 0])), &[]).unwrap().target;
        assert_eq!(target, Target::Labels(vec![true, false]));
        for bad in [json!([1]), json!([1, 2]), json!(1)] {
            assert!(make(&task, row(bad), &[]).is_err());
        }
        assert!(make(&task, row(json!([1, 0])), &[row(json!([1, 0]))]).is_err());
    }
}
