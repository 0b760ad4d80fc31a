//! A task as its TOML file says it: where the rows are, what is asked of each, what is measured.
//!
//! Exactly one of the tables `[multiple_choice]`, `[cloze]`, `[continuation]`, `[rolling]` and `[generation]`
//! says how a row is asked. A field called a template is text with `{{ … }}`; an expression is what
//! stands between such braces (see [`super::template`]). Unknown keys are errors.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::error::{Error, Result};
use super::metrics::Metric;
use super::template::Templates;
use super::written::Judge;

macro_rules! builtin {
    ($name:literal) => {
        ($name, include_str!(concat!("../../tasks/", $name, ".toml")))
    };
}

/// The built-in tasks: name and file.
pub const TASKS: &[(&str, &str)] = &[
    builtin!("arc_challenge"),
    builtin!("arc_easy"),
    builtin!("bbh"),
    builtin!("bbh_cot"),
    builtin!("boolq"),
    builtin!("chid"),
    builtin!("commonsense_qa"),
    builtin!("gsm8k"),
    builtin!("hellaswag"),
    builtin!("humaneval"),
    builtin!("lambada_openai"),
    builtin!("longbench"),
    builtin!("mmlu"),
    builtin!("openbookqa"),
    builtin!("piqa"),
    builtin!("truthfulqa_mc1"),
    builtin!("truthfulqa_mc2"),
    builtin!("wikitext"),
    builtin!("winogrande"),
];

/// Bytes of the largest task file that is read.
const LARGEST_FILE: u64 = 1 << 20;

/// A task file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What its figures go by.
    pub name: String,
    /// What stands before everything else in a prompt: a template of the row.
    #[serde(default)]
    pub description: String,
    /// Figures to report; none where a task only writes.
    pub metrics: Vec<Metric>,
    /// A column; its values' figures are reported apart as `NAME_VALUE`.
    pub group_by: Option<String>,
    /// What stands between a prompt and its answer.
    #[serde(default = "space")]
    pub target_delimiter: String,
    /// What stands after an example's answer.
    #[serde(default = "blank_line")]
    pub few_shot_delimiter: String,
    /// Several answers after one prompt.
    pub multiple_choice: Option<MultipleChoice>,
    /// One answer after several prompts.
    pub cloze: Option<Cloze>,
    /// One answer after one prompt.
    pub continuation: Option<Continuation>,
    /// Text as such.
    pub rolling: Option<Rolling>,
    /// What the model writes.
    pub generation: Option<Generation>,
    /// Where the rows are: the first of these that is there.
    pub source: Vec<Source>,
    /// Examples before the question.
    pub few_shot: Option<FewShot>,
}

/// Which of several answers is likeliest after the prompt.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultipleChoice {
    /// A template.
    pub prompt: String,
    /// An expression: a list of texts.
    pub choices: String,
    /// An expression: the right choice's position from 0, a list of such, or its text.
    pub target: Option<String>,
    /// Instead of `target`, an expression: a list of 1 (true) and 0. `acc` is then the share that
    /// the true choices have of all choices' probability.
    pub labels: Option<String>,
}

/// After which of several beginnings the same end is likeliest (partial evaluation).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cloze {
    /// An expression: a list of texts.
    pub contexts: String,
    /// A template: the end.
    pub continuation: String,
    /// An expression: the right context's position from 0.
    pub target: String,
}

/// Whether the answer is what the model would say, and how likely it is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continuation {
    /// A template.
    pub prompt: String,
    /// A template. The target delimiter is not put before it.
    pub continuation: String,
}

/// How likely a text is, in windows of the model's context.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rolling {
    /// An expression: the text.
    pub text: String,
    /// An expression: the text whose words and bytes are counted, where it is another.
    pub counted: Option<String>,
}

/// What the model writes after the prompt, always the likeliest token next.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// A template.
    pub prompt: String,
    /// A template: what should be written. Without it and `targets` the text is only kept (`--items`).
    pub target: Option<String>,
    /// Instead of `target`, an expression: a list of texts, any of which is right.
    pub targets: Option<String>,
    /// The text ends before the first of these.
    #[serde(default)]
    pub until: Vec<String>,
    /// Tokens at most.
    #[serde(default = "most_tokens")]
    pub max_tokens: usize,
    /// A regular expression that finds the answer: its first match, of that the first group that is not empty.
    pub extract: Option<String>,
    /// The same for `flexible_match`, which takes the last match.
    pub flexible: Option<String>,
    /// Regular expressions whose matches do not count, neither in the answer nor in the target.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Whether capitals count as small letters.
    #[serde(default)]
    pub ignore_case: bool,
    /// Whether a prompt that is too long for the model loses its middle instead of its beginning.
    #[serde(default)]
    pub cut_middle: bool,
}

impl Generation {
    /// Whether nothing is said to be right.
    pub(super) fn only_writes(&self) -> bool {
        self.target.is_none() && self.targets.is_none()
    }
}

/// Files of rows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Names or globs below the data directory. All files of the first that matches are read, in
    /// the order of their names.
    pub files: Vec<String>,
    /// How they are read, where their names do not say it.
    pub format: Option<Format>,
    /// Columns to add: name and expression of the columns in the file.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// For JSON: the key of the rows, where a file is an object that holds them.
    pub rows: Option<String>,
    /// A column to add: the name of the row's file, without its ending.
    pub file_column: Option<String>,
    /// For text: a line that this regular expression matches begins a row.
    pub row_starts: Option<String>,
    /// Columns of other files' rows, added before `columns` are.
    pub join: Option<Join>,
    /// An expression of the file's and joined columns: rows for which it is false are passed over.
    pub keep: Option<String>,
}

/// Rows that go with a source's rows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The column in which both have the same. Where several rows have, it is the first.
    pub on: String,
    /// Where they are.
    pub source: Vec<Source>,
    /// Whether they may be absent, all or one: nothing is added then.
    #[serde(default)]
    pub optional: bool,
}

impl Source {
    /// It and what it joins.
    fn all(&self) -> Vec<&Source> {
        let joined = self.join.iter().flat_map(|join| &join.source);
        let joined = joined.flat_map(Source::all);
        std::iter::once(self).chain(joined).collect()
    }
}

/// How rows lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object a line, or one array of objects.
    Json,
    /// Comma-separated values with a first line of names.
    Csv,
    /// Parquet.
    Parquet,
    /// Plain text, in the column `text`.
    Text,
}

/// Where examples come from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FewShot {
    /// How many, where the caller does not say.
    #[serde(default)]
    pub shots: usize,
    /// Where they are.
    pub source: Vec<Source>,
    /// A column that an example has in common with the row.
    pub same: Option<String>,
}

fn space() -> String {
    " ".into()
}

fn most_tokens() -> usize {
    256
}

fn blank_line() -> String {
    "\n\n".into()
}

impl Task {
    /// The built-in task called `name`, or the one in the TOML file at that path.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::Io`], [`Error::Task`].
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = TASKS.iter().find(|(known, _)| *known == name) {
            return Self::parse(text, name);
        }
        let path = Path::new(name);
        if !name.ends_with(".toml") {
            let known: Vec<_> = TASKS.iter().map(|(name, _)| *name).collect();
            return Err(Error::Unknown {
                name: name.to_owned(),
                known: known.join(", "),
            });
        }
        let read = |e| Error::io(path, "read the task", e);
        if std::fs::metadata(path).map_err(read)?.len() > LARGEST_FILE {
            return Err(wrong(name, "the file", "larger than 1 MiB, so no task"));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(read)?, name)
    }

    /// Parses a task file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Task`].
    pub fn parse(text: &str, path: &str) -> Result<Self> {
        let task: Self = toml::from_str(text).map_err(|e| {
            let line = e
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            wrong(path, &format!("line {line}"), e.message())
        })?;
        task.check(path)?;
        Ok(task)
    }

    fn check(&self, path: &str) -> Result<()> {
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
        let possible = self.possible();
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
        let only_writes = (self.generation.as_ref()).is_some_and(Generation::only_writes);
        if self.metrics.is_empty() && !only_writes {
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

    /// All sources: the rows', the examples' and what these join.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let examples = self.few_shot.iter().flat_map(|few| &few.source);
        self.source.iter().chain(examples).flat_map(Source::all)
    }

    /// What can be measured of this form.
    fn possible(&self) -> &'static [Metric] {
        if let Some(form) = &self.generation {
            return match (form.only_writes(), &form.flexible) {
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
            if let Err((field, reason)) = Judge::new(form) {
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

fn wrong(task: &str, field: &str, reason: &str) -> Error {
    Error::Task {
        task: task.to_owned(),
        field: field.to_owned(),
        reason: reason.replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_tasks_parse_and_are_called_as_their_files() {
        for (name, text) in TASKS {
            assert_eq!(Task::parse(text, name).unwrap().name, *name);
        }
    }

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

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let error = Task::find("arc").unwrap_err().to_string();
        assert!(
            error.contains("no task \"arc\"") && error.contains("arc_easy"),
            "{error}"
        );
        assert!(Task::find("/nowhere/x.toml").is_err());
    }
}
