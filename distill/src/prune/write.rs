//! The student's directory, complete or absent: filled under another name, synced, renamed.
//!
//! In: the parent's files, what is kept of them. Out: a Hugging Face directory as `transformers`
//! opens it and training starts from, its weights stored as the parent's. One tensor of the
//! student is in memory at a time.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use retort_data::Tokenizer;
use retort_model::{
    ModelConfig, SaveOptions, Stored, TensorSpec, copy_companions, write_config, write_weights,
};

use super::cut::Cut;
use super::error::{Error, Result};
use super::vocabulary::Vocabulary;

/// A student to be written.
pub(super) struct Student<'a> {
    /// The parent's directory.
    pub directory: &'a Path,
    /// The parent's weights.
    pub parent: &'a Stored,
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
    pub(super) fn write(
        &self,
        target: &Target,
        progress: &dyn Fn(u64) -> Result<()>,
    ) -> Result<()> {
        let aside = target.create()?;
        let directory = aside.path.as_path();
        self.weights(directory, progress)?;
        write_config(directory, self.config, self.parent.precision())?;
        copy_companions(self.directory, directory)?;
        if let Some(vocabulary) = self.vocabulary {
            vocabulary.write(self.directory, directory)?;
            self.check_tokenizer(vocabulary, directory)?;
        }
        // What is wrong with it is to be known now, not when it is opened.
        Stored::open(directory)?;
        aside.finish(target)
    }

    fn weights(&self, directory: &Path, progress: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let pieces = self.cut.pieces(self.parent.config(), self.config);
        let specs: Vec<TensorSpec> = pieces.iter().map(|piece| piece.student.clone()).collect();
        let precision = self.parent.precision();
        let (done, failed) = (Cell::new(0), Cell::new(None));
        let bytes = |spec: &TensorSpec| {
            let outcome = progress(done.get());
            done.set(done.get() + spec.elements() as u64);
            if let Err(error) = outcome {
                // The writer asks for bytes whatever happens: the file is thrown away.
                failed.set(Some(error));
                return vec![0; spec.elements() * precision.size()];
            }
            let piece = pieces.iter().find(|piece| piece.student.name == spec.name);
            let p = piece.expect("what is written are the pieces");
            self.parent.gather(&p.parent, &p.rows, &p.columns, p.scale)
        };
        let largest = SaveOptions::default().max_shard_bytes;
        write_weights(directory, &specs, precision, largest, &bytes)?;
        failed.into_inner().map_or(Ok(()), Err)
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

/// The name that the directory will have.
pub(super) struct Target(PathBuf);

/// The directory under its temporary name; removed when dropped before it is finished.
struct Aside {
    path: PathBuf,
    finished: bool,
}

impl Target {
    /// Checks that `path` can be written: absent, or an empty directory.
    ///
    /// # Errors
    /// [`Error::Exists`] if something is there.
    pub(super) fn new(path: &Path) -> Result<Self> {
        if path.file_name().is_none() {
            return Err(Error::option("out", "is no name of a directory"));
        }
        match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(Self(path.to_owned())),
            Ok(false) => Err(Error::Exists {
                path: path.to_owned(),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self(path.to_owned())),
            Err(e) => Err(Error::io(path)(e)),
        }
    }

    fn parent(&self) -> &Path {
        match self.0.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    fn create(&self) -> Result<Aside> {
        fs::create_dir_all(self.parent()).map_err(Error::io(self.parent()))?;
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        let aside = format!(".{name}.{}.tmp", std::process::id());
        let path = self.0.with_file_name(aside);
        fs::create_dir(&path).map_err(Error::io(&path))?;
        Ok(Aside {
            path,
            finished: false,
        })
    }
}

impl Aside {
    /// Syncs what is in it and gives it its name.
    fn finish(mut self, target: &Target) -> Result<()> {
        let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
        for entry in fs::read_dir(&self.path).map_err(Error::io(&self.path))? {
            let path = entry.map_err(Error::io(&self.path))?.path();
            sync(&path).map_err(Error::io(&path))?;
        }
        // Not every file system allows syncing a directory.
        let _ = sync(&self.path);
        fs::rename(&self.path, &target.0).map_err(Error::io(&target.0))?;
        self.finished = true;
        let _ = sync(target.parent());
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
