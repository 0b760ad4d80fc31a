//! A task file: its rows, the questions asked of them, the metrics reported.
//!
//! Exactly one of the tables `[multiple_choice]`, `[cloze]`, `[continuation]`, `[rolling]` and
//! `[generation]` says how a row is asked. A *template* field is text with `{{ … }}`; an
//! *expression* field is the inside of such braces (`template.rs`). Unknown keys are errors;
//! `check.rs` checks the rest.

use serde::Deserialize;

use super::forms::{Cloze, Continuation, Generation, MultipleChoice, Rolling};
use super::sources::{FewShot, Source};
use crate::tasks::metrics::Metric;

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

fn space() -> String {
    " ".into()
}

fn blank_line() -> String {
    "\n\n".into()
}
