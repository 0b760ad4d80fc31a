//! A task as its TOML file says it: where the rows are, what is asked of each, what is measured.
//!
//! Exactly one of the tables `[multiple_choice]`, `[cloze]`, `[continuation]`, `[rolling]` and `[generation]`
//! says how a row is asked. A field called a template is text with `{{ … }}`; an expression is what
//! stands between such braces (see [`super::template`]). Unknown keys are errors; what else a file must
//! be is `task/check.rs`, which files there are `task/find.rs`.

mod check;
mod find;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::Error;
use super::metrics::Metric;

pub use find::TASKS;

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

fn wrong(task: &str, field: &str, reason: &str) -> Error {
    Error::Task {
        task: task.to_owned(),
        field: field.to_owned(),
        reason: reason.replace('\n', " "),
    }
}
