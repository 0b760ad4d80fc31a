//! The student's directory, complete or absent: filled under another name, synced, renamed.
//!
//! In: the parent's files, what is kept of them. Out: a Hugging Face directory as `transformers`
//! opens it and training starts from, its weights stored as the parent's. One tensor of the
//! student is in memory at a time.

use std::path::Path;

use retort_data::Tokenizer;
use retort_files::AtomicDirectory;
use retort_format::checkpoint::{
    CheckpointReader, MAX_SHARD_BYTES, TensorHeader, copy_companions, write_config, write_weights,
};
use retort_format::{ModelConfig, TensorSpec};

use super::cut::Cut;
use super::error::{Error, Result};
use super::vocabulary::Vocabulary;

/// A student to be written.
pub(super) struct Student<'a> {
    /// The parent's directory.
    pub directory: &'a Path,
    /// The parent's weights.
    pub parent: &'a CheckpointReader,
    /// The student's shape.
    pub config: &'a ModelConfig,
    /// What is kept.
    pub cut: &'a Cut,
    /// Its tokenizer, if it is not the parent's.
    pub vocabulary: Option<&'a Vocabulary>,
}

impl Student<'_> {
    /// Writes all of it to `target`. `progress` is told weights written.
    ///
    /// # Errors
    /// A file that cannot be read or written; what `progress` answers. Nothing is left then.
    pub(super) fn write(&self, target: &Path, progress: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let student = AtomicDirectory::create(target).map_err(Error::io(target))?;
        let directory = student.path();
        self.weights(directory, progress)?;
        write_config(directory, self.config, self.parent.precision())?;
        copy_companions(self.directory, directory)?;
        if let Some(vocabulary) = self.vocabulary {
            vocabulary.write(self.directory, directory)?;
            self.check_tokenizer(vocabulary, directory)?;
        }
        // What is wrong with it is to be known now, not when it is opened.
        CheckpointReader::open(directory)?;
        student.commit().map_err(Error::io(target))
    }

    fn weights(&self, directory: &Path, progress: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let pieces = self.cut.pieces(self.parent.config(), self.config);
        let specs: Vec<TensorSpec> = pieces.iter().map(|piece| piece.student.clone()).collect();
        let precision = self.parent.precision();
        let headers = TensorHeader::all(&specs, precision);
        let mut done = 0;
        write_weights(directory, &headers, MAX_SHARD_BYTES, |i, sink| {
            progress(done)?;
            let p = &pieces[i];
            done += p.student.elements() as u64;
            let bytes = self.parent.gather(&p.parent, &p.rows, &p.columns, p.scale);
            Ok::<(), Error>(sink.write(&bytes)?)
        })?;
        Ok(())
    }

    /// Checks that the new tokenizer reads as one and spells its tokens as the parent's does.
    fn check_tokenizer(&self, vocabulary: &Vocabulary, directory: &Path) -> Result<()> {
        let [ours, theirs] = [directory, self.directory].map(|d| Tokenizer::from_file(d, None));
        let (ours, theirs) = (ours?, theirs?);
        let same = vocabulary.kept.iter().zip(0..).all(|(&old, new)| {
            let old = old as u32;
            ours.token(new) == theirs.token(old)
        });
        let size = ours.vocab_size() == vocabulary.kept.len();
        let eot = vocabulary.new_id(theirs.eot()) == Some(ours.eot());
        if same && size && eot {
            return Ok(());
        }
        let reason = "cannot be cut: with fewer tokens it reads as another tokenizer";
        Err(Error::tokenizer(
            &self.directory.join("tokenizer.json"),
            reason,
        ))
    }
}
