//! One dataset in the cache that `huggingface_hub` and `hf-hub` share:
//!
//! ```text
//! datasets--OWNER--NAME/blobs/DIGEST              the bytes, named by SHA-256 or git's id
//!                      /blobs/DIGEST.incomplete   as far as they have come
//!                      /snapshots/COMMIT/PATH     a link to the blob
//!                      /refs/REVISION             the commit it was last seen at
//!                      /.listings/COMMIT.json     ours: names, sizes and digests, for offline use
//! .locks/datasets--OWNER--NAME/DIGEST.lock        held by whoever writes the blob
//! ```
//!
//! A blob takes its name only once its bytes are verified, so a file of the right size under that
//! name is taken as it is and not hashed again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::Cache;

use super::address::Address;
use super::listing::HubFile;
use super::stop::Stop;
use crate::error::{Error, Result};

/// The paths of one dataset.
pub(crate) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The dataset's place under `cache_dir`; nothing is created.
    pub fn new(cache_dir: &Path, address: &Address) -> Self {
        let folder = address.repo(address.revision()).folder_name();
        let cache = Cache::new(cache_dir.to_owned());
        Self {
            root: cache.path().join(&folder),
            locks: cache.path().join(".locks").join(folder),
        }
    }

    /// The file's bytes.
    pub fn blob(&self, file: &HubFile) -> PathBuf {
        self.root.join("blobs").join(file.digest.hex())
    }

    /// The bytes that have come so far, named as `huggingface_hub` names them.
    pub fn part(&self, file: &HubFile) -> PathBuf {
        let name = format!("{}.incomplete", file.digest.hex());
        self.root.join("blobs").join(name)
    }

    /// The files of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Where a commit's listing is kept.
    pub fn listing(&self, commit: &str) -> PathBuf {
        self.root.join(".listings").join(format!("{commit}.json"))
    }

    /// Where the commit of a revision is kept.
    pub fn reference(&self, revision: &str) -> PathBuf {
        self.root.join("refs").join(revision)
    }

    /// Waits until no other process or thread writes what `name` stands for; until the file that
    /// is returned is dropped, others wait. `None` if stopped while waiting.
    pub fn lock(&self, name: &str, stop: &Stop) -> Result<Option<File>> {
        create_folder(&self.locks)?;
        let path = self.locks.join(format!("{name}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(std::fs::TryLockError::WouldBlock) => {
                    if stop.sleep(Duration::from_millis(50)) {
                        return Ok(None);
                    }
                }
                Err(std::fs::TryLockError::Error(e)) => {
                    return Err(Error::io(&path)(e));
                }
            }
        }
    }

    /// Opens the file in the snapshot if it is whole, so that no process here evicts it while
    /// what is returned lives; links it there if only its blob is.
    pub fn hold(&self, commit: &str, file: &HubFile) -> Result<Option<(PathBuf, File)>> {
        let pointer = self.snapshot(commit).join(&file.path);
        if !is_whole(&pointer, file.size) {
            if !is_whole(&self.blob(file), file.size) {
                return Ok(None);
            }
            self.link(commit, file)?;
        }
        let Ok(opened) = File::open(&pointer) else {
            return Ok(None);
        };
        // Where files cannot be locked (some network file systems) two processes that share a
        // cache must not both have a budget.
        let _ = opened.lock_shared();
        // It may have been evicted before the lock was had.
        Ok(is_whole(&pointer, file.size).then_some((pointer, opened)))
    }

    /// Whether [`RepoCache::hold`] would find the file.
    pub fn has(&self, commit: &str, file: &HubFile) -> bool {
        is_whole(&self.snapshot(commit).join(&file.path), file.size)
            || is_whole(&self.blob(file), file.size)
    }

    /// Points the snapshot's path to the blob.
    pub fn link(&self, commit: &str, file: &HubFile) -> Result<()> {
        let pointer = self.snapshot(commit).join(&file.path);
        let blob = self.blob(file);
        create_folder(pointer.parent().unwrap_or(&self.root))?;
        // What is there is a dangling link or an unfinished file.
        if pointer.symlink_metadata().is_ok() && !is_whole(&pointer, file.size) {
            std::fs::remove_file(&pointer).map_err(Error::io(&pointer))?;
        }
        let up = "../".repeat(file.path.split('/').count() + 1);
        let target = format!("{up}blobs/{}", file.digest.hex());
        match symlink(Path::new(&target), &pointer) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            // As `huggingface_hub` does where there are no symbolic links.
            Err(_) => std::fs::rename(&blob, &pointer).map_err(Error::io(&pointer)),
            Ok(()) => Ok(()),
        }
    }

    /// Removes the file's link and blob unless a process here holds it; whether it did.
    pub fn evict(&self, commit: &str, file: &HubFile) -> bool {
        let pointer = self.snapshot(commit).join(&file.path);
        let opened = match File::open(&pointer) {
            Ok(opened) => opened,
            // Gone already, by another hand.
            Err(e) => return e.kind() == std::io::ErrorKind::NotFound,
        };
        if let Err(std::fs::TryLockError::WouldBlock) = opened.try_lock() {
            return false;
        }
        let unlinked = std::fs::remove_file(&pointer).is_ok();
        let blob = self.blob(file);
        unlinked && (!blob.exists() || std::fs::remove_file(&blob).is_ok())
    }
}

/// Whether a file is there with all its bytes.
pub(crate) fn is_whole(path: &Path, size: u64) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.len() == size)
}

/// Creates a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::io(path))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
