//! The five ways to ask a model about a row, as tables of a task file.

use serde::Deserialize;

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
    /// Whether the task names no right text, so that completions are kept and not scored.
    pub(super) fn is_unscored(&self) -> bool {
        self.target.is_none() && self.targets.is_none()
    }
}

fn most_tokens() -> usize {
    256
}
