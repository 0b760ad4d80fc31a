//! Writes the student's directory, which is complete or absent.
//!
//! In: the parent's files and the indices kept. Out: a Hugging Face directory that `transformers`
//! opens and training starts from, its weights in the parent's precision. One tensor of the
//! student is in memory at a time.

use std::path::Path;

use retort_files::AtomicDirectory;
use retort_format::checkpoint::{
    CheckpointReader, MAX_SHARD_BYTES, TensorHeader, copy_companions, write_config, write_weights,
};
use retort_format::{ModelConfig, TensorSpec};
use retort_tokenizer::Tokenizer;

use crate::error::{Error, Result};
use crate::slicing::KeptIndices;
use crate::vocabulary::KeptVocabulary;

/// A student to be written.
pub(crate) struct Student<'a> {
    /// The parent's directory.
    pub parent_directory: &'a Path,
    /// The parent's weights.
    pub parent: &'a CheckpointReader,
    /// The student's config.
    pub config: &'a ModelConfig,
    /// The indices kept of the parent.
    pub kept: &'a KeptIndices,
    /// Its tokenizer, if it is not the parent's.
    pub vocabulary: Option<&'a KeptVocabulary>,
}

impl Student<'_> {
    /// Writes it to `output`. `progress` is given the number of weights written.
    ///
    /// # Errors
    /// A file that cannot be read or written; the error of `progress`. Nothing is left then.
    pub(crate) fn write(&self, output: &Path, progress: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let student = AtomicDirectory::create(output).map_err(Error::io(output))?;
        let directory = student.path();
        self.write_weights(directory, progress)?;
        write_config(directory, self.config, self.parent.precision())?;
        copy_companions(self.parent_directory, directory)?;
        let is_there = |name: &str| self.parent_directory.join(name).exists();
        if is_there("qwen.tiktoken") && !is_there("tokenizer.json") {
            Tokenizer::from_file(self.parent_directory, None)?.save(directory)?;
        }
        if let Some(vocabulary) = self.vocabulary {
            vocabulary.write(self.parent_directory, directory)?;
            self.check_tokenizer(vocabulary, directory)?;
        }
        // A directory that cannot be opened is an error now.
        CheckpointReader::open(directory)?;
        student.commit().map_err(Error::io(output))
    }

    fn write_weights(&self, directory: &Path, progress: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let slices = self.kept.tensor_slices(self.parent.config(), self.config);
        let specs: Vec<TensorSpec> = slices.iter().map(|slice| slice.student.clone()).collect();
        let headers = TensorHeader::all(&specs, self.parent.precision());
        let mut done = 0;
        write_weights(directory, &headers, MAX_SHARD_BYTES, |i, sink| {
            progress(done)?;
            let s = &slices[i];
            done += s.student.elements() as u64;
            let bytes = self.parent.gather(&s.parent, &s.rows, &s.columns, s.scale);
            Ok::<(), Error>(sink.write(&bytes)?)
        })?;
        Ok(())
    }

    /// Checks that the new tokenizer can be read and has the parent's tokens.
    fn check_tokenizer(&self, vocabulary: &KeptVocabulary, directory: &Path) -> Result<()> {
        let [ours, theirs] =
            [directory, self.parent_directory].map(|d| Tokenizer::from_file(d, None));
        let (ours, theirs) = (ours?, theirs?);
        let same = vocabulary.ids.iter().zip(0..).all(|(&old, new)| {
            let old = old as u32;
            ours.token(new) == theirs.token(old)
        });
        let size = ours.vocab_size() == vocabulary.ids.len();
        let eot = vocabulary.new_id(theirs.eot()) == Some(ours.eot());
        if same && size && eot {
            return Ok(());
        }
        let reason = "cannot be cut: with fewer tokens it reads as another tokenizer";
        Err(Error::tokenizer(
            &self.parent_directory.join("tokenizer.json"),
            reason,
        ))
    }
}
