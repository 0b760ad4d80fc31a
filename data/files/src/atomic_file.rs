//! Files and directories that are complete or absent.
//!
//! Both are written under a temporary name of their own beside their place (`.NAME.RANDOM.tmp`),
//! synced, renamed, and their parent directory is synced. After a crash the old one is there or
//! the new one. One that is dropped before it is committed leaves nothing behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

/// Writes `bytes` to `path`, replacing what is there.
///
/// # Errors
/// The system's; what was at `path` is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Gives the complete file `from` the name `to`, replacing what is there: for files that are
/// written over several runs, under a name of their own.
///
/// # Errors
/// The system's.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    sync_directory(parent(to))
}

/// A file being written.
#[derive(Debug)]
pub struct AtomicFile {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl AtomicFile {
    /// Starts a file that [`commit`](Self::commit) puts at `path`.
    ///
    /// # Errors
    /// `path` is no name of a file; the system's.
    pub fn create(path: &Path) -> io::Result<Self> {
        let prefix = prefix(path)?;
        let mut builder = Builder::new();
        permissions(&mut builder, 0o666);
        let builder = builder.prefix(&prefix).suffix(".tmp");
        Ok(Self {
            temporary: builder.tempfile_in(parent(path))?,
            target: path.to_owned(),
        })
    }

    /// The file under its temporary name.
    pub fn as_file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// The temporary name.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Syncs the file and gives it its name, replacing what is there.
    ///
    /// # Errors
    /// The system's; what was there before is then still there.
    pub fn commit(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.target)?;
        sync_directory(parent(&self.target))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.as_file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.as_file().flush()
    }
}

/// A directory being written.
#[derive(Debug)]
pub struct AtomicDirectory {
    temporary: TempDir,
    target: PathBuf,
}

impl AtomicDirectory {
    /// Checks that a directory can be written to `path`: nothing is there, or an empty directory.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if something is there;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `path` is no name; the system's.
    pub fn check(path: &Path) -> io::Result<()> {
        prefix(path)?;
        match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "already exists and is not empty; name another directory",
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Starts a directory that [`commit`](Self::commit) puts at `path`; creates the parents that
    /// are missing.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::check(path)?;
        fs::create_dir_all(parent(path))?;
        let prefix = prefix(path)?;
        let mut builder = Builder::new();
        permissions(&mut builder, 0o777);
        let builder = builder.prefix(&prefix).suffix(".tmp");
        Ok(Self {
            temporary: builder.tempdir_in(parent(path))?,
            target: path.to_owned(),
        })
    }

    /// The directory under its temporary name: files are written into it.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Syncs everything in it and gives it its name.
    ///
    /// # Errors
    /// The system's; nothing is then at its place.
    pub fn commit(self) -> io::Result<()> {
        sync_all(self.path())?;
        fs::rename(self.path(), &self.target)?;
        // Nothing is left to remove under the temporary name.
        let _ = self.temporary.keep();
        sync_directory(parent(&self.target))
    }
}

/// Syncs every file in `directory` and in those below, then the directories themselves.
///
/// # Errors
/// The system's.
pub fn sync_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    sync_directory(directory)
}

/// Makes a new name in `directory` durable, where the file system can.
#[cfg_attr(not(unix), allow(unused_variables, clippy::unnecessary_wraps))]
fn sync_directory(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    match File::open(directory)?.sync_all() {
        // Not every file system lets a directory be synced.
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            return Err(error);
        }
        _ => {}
    }
    Ok(())
}

/// The directory that `path` lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// How temporary names beside `path` begin.
fn prefix(path: &Path) -> io::Result<String> {
    let name = path.file_name().map(OsStr::to_string_lossy);
    let name = name.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "is no name that can be written to",
        )
    })?;
    Ok(format!(".{name}."))
}

/// Files that others may read, as the process's mask allows; `tempfile`'s own are private.
#[cfg_attr(not(unix), allow(unused_variables))]
fn permissions(builder: &mut Builder<'_, '_>, mode: u32) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(mode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn atomic_file_replaces_on_commit_and_leaves_nothing_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"one").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        let other = AtomicFile::create(&path).unwrap();
        assert_ne!(file.path(), other.path());
        file.write_all(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        file.commit().unwrap();
        drop(other);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["a.json"]);
        assert!(write(&dir.path().join("no/such/file"), b"").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn atomic_file_has_the_permissions_of_an_ordinary_file() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, plain) = (dir.path().join("ours"), dir.path().join("plain"));
        write(&ours, b"").unwrap();
        fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn atomic_directory_appears_on_commit_and_refuses_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parent/model");
        drop(AtomicDirectory::create(&path).unwrap());
        assert!(names(path.parent().unwrap()).is_empty());
        let model = AtomicDirectory::create(&path).unwrap();
        fs::create_dir(model.path().join("inner")).unwrap();
        fs::write(model.path().join("inner/file"), b"x").unwrap();
        assert!(!path.exists());
        model.commit().unwrap();
        assert_eq!(fs::read(path.join("inner/file")).unwrap(), b"x");
        assert_eq!(names(path.parent().unwrap()), ["model"]);
        let refused = AtomicDirectory::create(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    }
}
