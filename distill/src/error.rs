//! What can go wrong with a teacher.

use std::path::PathBuf;

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of `[teacher]` and of the model it names.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe has no `[teacher]`.
    #[error(
        "the recipe has no [teacher]: add one with path = \"DIRECTORY\", or run `retort train`"
    )]
    NoTeacher,
    /// A key of `[teacher]` is unknown, missing or out of range.
    #[error("teacher.{0}")]
    Config(String),
    /// The teacher's tokenizer gives other ids than the student's.
    #[error(
        "{teacher}: the teacher's tokenizer is not the student's (id {id} is {theirs} there and \
         {ours} here): set data.tokenizer to the teacher's directory"
    )]
    Vocabulary {
        /// The teacher's directory.
        teacher: PathBuf,
        /// The first id that differs.
        id: u32,
        /// The teacher's token.
        theirs: String,
        /// The student's token.
        ours: String,
    },
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] retort_model::Error),
    /// From the data crate.
    #[error(transparent)]
    Data(#[from] retort_data::Error),
}
