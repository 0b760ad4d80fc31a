//! Who teaches: a model in Burn, a quantized one in the edge engine, or a cache of what one
//! said.
//!
//! In: a batch of the student's. Out: a [`TeacherLogits`] about its positions, counted row by row.

mod burn;
mod engine;
mod fingerprint;
mod takes;

use std::path::Path;

use ::burn::tensor::Device;
use retort_data::Tokenizer;
use retort_model::TeacherLogits;
use retort_train::BatchTensors;

pub use burn::{BurnTeacher, States, Wanted};
pub use engine::EngineTeacher;
pub use fingerprint::fingerprint;
pub use takes::takes;

use crate::cache::{self, Cache};
use crate::config::TeacherConfig;
use crate::error::{Error, Result};

/// Says what the next ids might be.
pub trait Teach {
    /// What it says about the `B · T` positions of `batch`.
    ///
    /// # Errors
    /// It cannot be had.
    fn lesson(&self, batch: &BatchTensors) -> Result<TeacherLogits>;

    /// Ids that its distributions are over.
    fn vocabulary(&self) -> usize;
}

/// The teacher of `config`, for a student with `tokenizer` that trains on `device`, with
/// rows as `rows` describes.
///
/// # Errors
/// Anything wrong with the model or the cache; [`Error::Vocabulary`] with the first id that
/// is not the student's.
pub fn open(
    config: &TeacherConfig,
    tokenizer: &Tokenizer,
    device: &Device,
    rows: &cache::Rows,
) -> Result<Box<dyn Teach>> {
    match (&config.cache, &config.path) {
        (Some(cache), path) => {
            let cache = Cache::open(cache)?;
            cache.check(config, tokenizer, rows)?;
            if let Some(path) = path {
                cache.check_teacher(path)?;
            }
            Ok(Box::new(cache))
        }
        (None, Some(path)) => run(path, tokenizer, device),
        (None, None) => Err(Error::NoTeacher),
    }
}

/// The model at `path`, ready to run for a student with `tokenizer` on `device`.
///
/// # Errors
/// As [`open`].
pub fn run(path: &Path, tokenizer: &Tokenizer, device: &Device) -> Result<Box<dyn Teach>> {
    Ok(match path.extension().is_some_and(|e| e == "gguf") {
        true => Box::new(EngineTeacher::load(path, tokenizer)?),
        false => Box::new(BurnTeacher::load(path, tokenizer, device)?),
    })
}

/// Holds the teacher's tokens to the student's, id by id up to the longer of both. Rows
/// past the last token are padding and no token is there.
fn check_vocabulary(
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
