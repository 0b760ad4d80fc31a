//! A directory that appears complete or not at all: filled under another name, synced, renamed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use retort_format::{Error, Result};

/// A directory that is to be written.
pub(super) struct Directory {
    target: PathBuf,
    parent: PathBuf,
    aside: PathBuf,
}

/// The directory under its temporary name; removed when dropped before it is finished.
pub(super) struct Aside {
    directory: Directory,
    finished: bool,
}

impl Directory {
    /// Checks that `target` is a name that can be written: absent, or an empty directory. Nothing
    /// is created yet.
    pub(super) fn new(target: &Path) -> Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(Error::format(target, "is no directory name to write to"));
        };
        let aside = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
        let directory = Self {
            target: target.to_owned(),
            parent: match target.parent() {
                Some(parent) if parent != Path::new("") => parent.to_owned(),
                _ => PathBuf::from("."),
            },
            aside: target.with_file_name(aside),
        };
        match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(directory),
            Ok(false) => {
                let problem = "already exists and is not empty; name another directory";
                Err(Error::format(target, problem))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(directory),
            Err(error) => Err(Error::io(target)(error)),
        }
    }

    /// Creates it under its temporary name, and its parents where they are missing.
    pub(super) fn create(self) -> Result<Aside> {
        fs::create_dir_all(&self.parent).map_err(Error::io(&self.parent))?;
        fs::create_dir(&self.aside).map_err(Error::io(&self.aside))?;
        Ok(Aside {
            directory: self,
            finished: false,
        })
    }
}

impl Aside {
    /// Where the file `name` is written.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.aside.join(name)
    }

    /// Writes a JSON file, indented by two spaces as Hugging Face's libraries do, and syncs it.
    pub(super) fn write_json(&self, name: &str, value: &Value) -> Result<()> {
        let path = self.path(name);
        let text = format!("{value:#}\n");
        let write = |mut file: File| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        File::create_new(&path)
            .and_then(write)
            .map_err(Error::io(&path))
    }

    /// Syncs the directory and gives it its name.
    pub(super) fn finish(mut self) -> Result<()> {
        let Directory {
            target,
            parent,
            aside,
        } = &self.directory;
        // Not every file system allows syncing a directory.
        let sync = |path: &Path| File::open(path).and_then(|directory| directory.sync_all());
        let _ = sync(aside);
        fs::rename(aside, target).map_err(Error::io(target))?;
        let _ = sync(parent);
        self.finished = true;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_dir_all(&self.directory.aside);
        }
    }
}
