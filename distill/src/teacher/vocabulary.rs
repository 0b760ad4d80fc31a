//! Checks that a teacher has the student's tokens.

use std::path::Path;

use retort_tokenizer::Tokenizer;

use crate::error::{Error, Result};

/// Checks that the tokens of the `teacher` are the `student`'s, id by id up to the larger of both
/// vocabularies. Ids without a token (padding of the embedding) must have none in both.
///
/// # Errors
/// [`Error::Vocabulary`] with the first id that differs.
pub(super) fn check_vocabulary(
    teacher: &Path,
    theirs: impl Fn(u32) -> Option<String>,
    their_size: usize,
    student: &Tokenizer,
) -> Result<()> {
    let size = their_size.max(student.vocab_size()) as u32;
    for id in 0..size {
        let (a, b) = (theirs(id), student.token(id));
        if a != b {
            let show = |t: Option<String>| t.map_or("absent".into(), |t| format!("{t:?}"));
            return Err(Error::Vocabulary {
                teacher: teacher.to_owned(),
                id,
                theirs: show(a),
                ours: show(b),
            });
        }
    }
    Ok(())
}
