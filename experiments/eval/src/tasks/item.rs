//! What a row asks a model, and the answer that counts as right.

/// A row made into prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The row of the data, from 0.
    pub index: usize,
    /// The group whose figures it counts into.
    pub group: Option<String>,
    /// One for each likelihood, or the one to write after.
    pub prompts: Vec<Prompt>,
    /// The answer that counts as right.
    pub target: Target,
}

/// A text the model is given, and the text whose likelihood after it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Empty where a text is scored by itself.
    pub context: String,
    /// Empty where the model writes.
    pub continuation: String,
}

/// The right answer of an item, by the form of its task.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The likeliest continuation should be one of these.
    Choice {
        /// Positions among the prompts.
        right: Vec<usize>,
        /// Characters and bytes of each choice.
        lengths: Vec<[usize; 2]>,
    },
    /// All probability should lie on the choices labelled true.
    Labels(Vec<bool>),
    /// The only continuation should be the model's greedy one.
    Greedy,
    /// The model writes: its completion should be one of these; empty where nothing is scored.
    Texts(Vec<String>),
    /// The text itself should be likely.
    Rolling {
        /// Its words.
        words: usize,
        /// Its bytes.
        bytes: usize,
    },
}
