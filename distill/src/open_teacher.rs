//! Opens the teacher that a recipe names: a model, or a cache of one's logits.

use burn::tensor::Device;
use retort_tokenizer::Tokenizer;

use crate::cache::{LogitCache, RowFormat};
use crate::config::TeacherConfig;
use crate::error::{Error, Result};
use crate::teacher::{Teacher, load_teacher};

/// Opens the teacher of `config` for a student with `tokenizer` that trains on `device` on rows
/// of the form `rows`. A cache stands for its teacher: a `path` beside it may name a model that is
/// not on this machine, and only one that is here is compared with what the cache was written from.
///
/// # Errors
/// Anything wrong with the model or the cache; [`Error::Vocabulary`] with the first id whose
/// token is not the student's.
pub fn open_teacher(
    config: &TeacherConfig,
    tokenizer: &Tokenizer,
    device: &Device,
    rows: &RowFormat,
) -> Result<Box<dyn Teacher>> {
    match (&config.cache, &config.path) {
        (Some(cache), path) => {
            let cache = LogitCache::open(cache)?;
            cache.check(config, tokenizer, rows)?;
            if let Some(path) = path.as_ref().filter(|path| path.exists()) {
                cache.check_teacher(path)?;
            }
            Ok(Box::new(cache))
        }
        (None, Some(path)) => load_teacher(path, tokenizer, device),
        (None, None) => Err(Error::NoTeacher),
    }
}
