//! Teachers that run beside the student.
//!
//! In: a batch of the student's. Out: the [`TeacherLogits`] about its positions, row by row.

mod burn;
mod engine;
mod fingerprint;
mod load;
mod vocabulary;

use retort_model::TeacherLogits;
use retort_train::BatchTensors;

pub use burn::{BurnTeacher, HiddenStates, RequestedStates};
pub use engine::EngineTeacher;
pub use fingerprint::fingerprint;
pub use load::load_teacher;

use crate::error::Result;

/// A source of distributions over the next id.
pub trait Teacher {
    /// The logits of the `B · T` positions of `batch`.
    ///
    /// # Errors
    /// They cannot be computed or read.
    fn logits(&self, batch: &BatchTensors) -> Result<TeacherLogits>;

    /// The number of ids in a distribution.
    fn vocab_size(&self) -> usize;
}
