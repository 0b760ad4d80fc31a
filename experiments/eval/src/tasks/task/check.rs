//! Checks of a task file beyond its keys: exactly one form, metrics that the form has, templates and
//! expressions that parse. They run before any data is read.

use super::file::Task;
use super::forms::Generation;
use super::sources::Source;
use crate::error::{Error, Result};
use crate::tasks::generation::GenerationScorer;
use crate::tasks::metrics::Metric;
use crate::tasks::template::Templates;

/// A task file's error; the reason becomes one line.
pub(super) fn wrong(task: &str, field: &str, reason: &str) -> Error {
    Error::Task {
        task: task.to_owned(),
        field: field.to_owned(),
        reason: reason.replace('\n', " "),
    }
}

impl Task {
    /// Checks the task read from `path`.
    pub(super) fn check(&self, path: &str) -> Result<()> {
        let named = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.name.is_empty() || !self.name.chars().all(named) {
            let reason = "must be made of letters, digits, '_', '-' and '.'";
            return Err(wrong(path, "name", reason));
        }
        let forms = [
            self.multiple_choice.is_some(),
            self.cloze.is_some(),
            self.continuation.is_some(),
            self.rolling.is_some(),
            self.generation.is_some(),
        ];
        if forms.iter().filter(|&&is| is).count() != 1 {
            let reason = "exactly one of [multiple_choice], [cloze], [continuation], [rolling] and [generation] must be there";
            return Err(wrong(path, "the form", reason));
        }
        if let Some(choice) = &self.multiple_choice
            && choice.target.is_some() == choice.labels.is_some()
        {
            let reason = "give either target or labels";
            return Err(wrong(path, "multiple_choice", reason));
        }
        let possible = self.possible_metrics();
        if let Some(metric) = self.metrics.iter().find(|m| !possible.contains(m)) {
            let names: Vec<_> = possible.iter().map(|m| m.name()).collect();
            let reason = format!(
                "{} is not for tasks of this form; {} are",
                metric.name(),
                names.join(", ")
            );
            return Err(wrong(path, "metrics", &reason));
        }
        if (self.generation.as_ref()).is_some_and(|f| f.target.is_some() && f.targets.is_some()) {
            let reason = "give either target or targets";
            return Err(wrong(path, "generation", reason));
        }
        let is_unscored = (self.generation.as_ref()).is_some_and(Generation::is_unscored);
        if self.metrics.is_empty() && !is_unscored {
            return Err(wrong(path, "metrics", "name at least one"));
        }
        if self.rolling.is_some() && (self.few_shot.is_some() || !self.description.is_empty()) {
            let reason = "has neither description nor few_shot: text stands by itself";
            return Err(wrong(path, "rolling", reason));
        }
        if self.sources().any(|s| s.files.is_empty()) || self.source.is_empty() {
            return Err(wrong(path, "source.files", "name at least one file"));
        }
        self.check_templates(path)
    }

    /// All sources: of the rows, of the examples, and those they join.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let examples = self.few_shot.iter().flat_map(|few| &few.source);
        self.source
            .iter()
            .chain(examples)
            .flat_map(Source::with_joined)
    }

    /// The metrics that this form has.
    fn possible_metrics(&self) -> &'static [Metric] {
        if let Some(form) = &self.generation {
            return match (form.is_unscored(), &form.flexible) {
                (true, _) => &[],
                (_, None) => &[Metric::ExactMatch, Metric::F1],
                _ => &[Metric::ExactMatch, Metric::F1, Metric::FlexibleMatch],
            };
        }
        match (&self.multiple_choice, &self.cloze, &self.continuation) {
            (Some(choice), _, _) if choice.labels.is_some() => &[Metric::Acc],
            (Some(_), _, _) => &[Metric::Acc, Metric::AccNorm, Metric::AccBytes],
            (_, Some(_), _) => &[Metric::Acc],
            (_, _, Some(_)) => &[Metric::Acc, Metric::Perplexity],
            _ => &[
                Metric::WordPerplexity,
                Metric::BytePerplexity,
                Metric::BitsPerByte,
            ],
        }
    }

    /// Parses every template and expression once, so that mistakes show before any data is read.
    fn check_templates(&self, path: &str) -> Result<()> {
        let templates = Templates::new();
        let text = |field: &str, source: &str| {
            templates
                .check_text(source)
                .map_err(|reason| wrong(path, field, &reason))
        };
        let value = |field: &str, source: &str| {
            templates
                .check_value(source)
                .map_err(|reason| wrong(path, field, &reason))
        };
        text("description", &self.description)?;
        if let Some(form) = &self.multiple_choice {
            text("multiple_choice.prompt", &form.prompt)?;
            value("multiple_choice.choices", &form.choices)?;
            for target in form.target.iter().chain(&form.labels) {
                value("multiple_choice.target", target)?;
            }
        }
        if let Some(form) = &self.cloze {
            value("cloze.contexts", &form.contexts)?;
            text("cloze.continuation", &form.continuation)?;
            value("cloze.target", &form.target)?;
        }
        if let Some(form) = &self.continuation {
            text("continuation.prompt", &form.prompt)?;
            text("continuation.continuation", &form.continuation)?;
        }
        if let Some(form) = &self.rolling {
            value("rolling.text", &form.text)?;
            value("rolling.counted", form.counted.as_deref().unwrap_or("0"))?;
        }
        if let Some(form) = &self.generation {
            text("generation.prompt", &form.prompt)?;
            text(
                "generation.target",
                form.target.as_deref().unwrap_or_default(),
            )?;
            value("generation.targets", form.targets.as_deref().unwrap_or("0"))?;
            if let Err((field, reason)) = GenerationScorer::new(form) {
                return Err(wrong(path, field, &reason));
            }
            if form.max_tokens == 0 || form.until.iter().any(String::is_empty) {
                let reason = "max_tokens must be at least 1, and no text in until empty";
                return Err(wrong(path, "generation", reason));
            }
        }
        for source in self.sources() {
            for (name, expression) in &source.columns {
                value(&format!("source.columns.{name}"), expression)?;
            }
            if let Some(expression) = &source.keep {
                value("source.keep", expression)?;
            }
            if let Some(pattern) = &source.row_starts {
                regex::Regex::new(pattern).map_err(|e| {
                    let reason = e.to_string().replace('\n', " ");
                    wrong(path, "source.row_starts", &reason)
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
name = "t"
metrics = ["acc"]
[multiple_choice]
prompt = "{{ q }}"
choices = "c"
target = "t"
[[source]]
files = ["t.jsonl"]
"#;

    #[test]
    fn mistakes_name_the_file_the_field_and_the_remedy() {
        Task::parse(TEXT, "t.toml").unwrap();
        for (from, to, says) in [
            (
                "prompt =",
                "promt =",
                "t.toml: line 5: unknown field `promt`",
            ),
            ("\"acc\"", "\"accuracy\"", "t.toml: line 3: unknown variant"),
            (
                "\"acc\"",
                "\"perplexity\"",
                "metrics: perplexity is not for",
            ),
            ("[\"acc\"]", "[]", "metrics: name at least one"),
            ("{{ q }}", "{{ q", "multiple_choice.prompt: "),
            ("\"c\"", "\"c |\"", "multiple_choice.choices: "),
            ("target = \"t\"", "", "give either target or labels"),
            (
                "[multiple_choice]",
                "[rolling]\ntext='t'\n[multiple_choice]",
                "exactly one of",
            ),
            (
                "[\"t.jsonl\"]",
                "[]",
                "source.files: name at least one file",
            ),
            ("name = \"t\"", "name = \"a/b\"", "name: must be made of"),
        ] {
            let text = TEXT.replace(from, to);
            assert_ne!(text, TEXT);
            let error = Task::parse(&text, "t.toml").unwrap_err().to_string();
            assert!(
                error.starts_with("t.toml: ") && error.contains(says),
                "{error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
