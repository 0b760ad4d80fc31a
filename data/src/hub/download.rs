//! One file from the hub into the cache: resumed where a part of it is there, hashed as it comes,
//! and given its name only when size and digest are those the listing says.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::cache::{RepoCache, create_folder, is_whole};
use super::client::{Answer, Client};
use super::digest::Hasher;
use super::listing::HubFile;
use super::retry::{Patience, Trouble, guarded, passing};
use crate::error::{Error, Result};

/// Bytes that count as getting on, after which failures are counted anew.
const HEADWAY: u64 = 64 << 10;

/// Brings `file` of `commit` into the snapshot; whether this call fetched its bytes, rather than
/// found them brought by another process.
///
/// # Errors
///
/// [`Error::Verification`] if what comes is wrong twice, [`Error::Hub`] if it does not come,
/// [`Error::Io`] if it cannot be written.
pub(crate) fn download(
    client: &Client,
    cache: &RepoCache,
    commit: &str,
    file: &HubFile,
    name: &str,
) -> Result<bool> {
    let blob = cache.blob(file);
    create_folder(blob.parent().unwrap_or(&blob))?;
    let Some(_lock) = cache.lock(file.digest.hex(), client.stop())? else {
        return Err(Trouble::Stopped.error(name));
    };
    if is_whole(&blob, file.size) {
        cache.link(commit, file)?;
        return Ok(false);
    }
    let part = cache.part(file);
    let remove = || std::fs::remove_file(&part).map_err(Error::io(&part));
    let mut tried = transfer(client, commit, file, &part, name);
    if let Err(Trouble::Wrong { .. }) = tried {
        // Once: the part may have been left by a run that was cut by a crash, or a proxy may have
        // garbled it.
        remove()?;
        tried = transfer(client, commit, file, &part, name);
    }
    match tried {
        Ok(()) => {
            retort_files::rename(&part, &blob).map_err(Error::io(&blob))?;
            cache.link(commit, file)?;
            Ok(true)
        }
        Err(trouble) => {
            if let Trouble::Wrong { .. } = trouble {
                remove()?;
            }
            Err(trouble.error(name))
        }
    }
}

/// What has come so far.
struct PartialFile<'a> {
    path: &'a Path,
    file: File,
    wanted: &'a HubFile,
    hasher: Hasher,
    length: u64,
}

/// Makes the part whole and verifies it.
fn transfer(
    client: &Client,
    commit: &str,
    file: &HubFile,
    path: &Path,
    name: &str,
) -> Result<(), Trouble> {
    let mut part = PartialFile::open(path, file)?;
    let mut patience = Patience::new(client.config(), client.stop());
    while part.length < file.size {
        let before = part.length;
        let tried = guarded(name, || {
            let answer = client.file(commit, &file.path, part.length)?;
            part.take(client, answer, name)
        });
        if part.length >= before.saturating_add(HEADWAY) {
            patience.restore();
        }
        match tried {
            Ok(()) => {}
            Err(wrong @ Trouble::Wrong { .. }) => return Err(wrong),
            Err(trouble) => patience.wait(trouble, name)?,
        }
    }
    let found = part.hasher.hex();
    if found != file.digest.hex() {
        return Err(Trouble::Wrong {
            expected: file.digest.hex().to_owned(),
            found,
        });
    }
    Ok(())
}

impl<'a> PartialFile<'a> {
    /// Opens or creates the part and hashes what it holds.
    fn open(path: &'a Path, wanted: &'a HubFile) -> Result<Self> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(Error::io(path))?;
        let mut part = Self {
            path,
            file,
            wanted,
            hasher: wanted.digest.hasher(wanted.size),
            length: 0,
        };
        if part.file.metadata().map_err(Error::io(path))?.len() > wanted.size {
            part.clear()?;
        }
        let mut bytes = vec![0; 1 << 16];
        loop {
            let n = part.file.read(&mut bytes).map_err(Error::io(path))?;
            if n == 0 {
                return Ok(part);
            }
            part.hasher.update(&bytes[..n]);
            part.length += n as u64;
        }
    }

    /// Back to nothing.
    fn clear(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(Error::io(self.path))?;
        self.hasher = self.wanted.digest.hasher(self.wanted.size);
        self.length = 0;
        Ok(())
    }

    /// Appends an answer's bytes.
    fn take(&mut self, client: &Client, mut answer: Answer, name: &str) -> Result<(), Trouble> {
        let size = self.wanted.size;
        let wrong_size = |found: String| Trouble::Wrong {
            expected: format!("{size} bytes"),
            found,
        };
        let whole = match answer.status {
            // The whole file, although a part was asked for: not every server knows ranges.
            200 => {
                self.clear()?;
                answer.length
            }
            206 => match answer.range {
                Some((first, whole)) if first == self.length => whole,
                _ => {
                    self.clear()?;
                    return Err(passing(
                        "the server sends another range than it was asked for",
                    ));
                }
            },
            416 if self.length > 0 => {
                self.clear()?;
                return Err(passing("the server knows no such range"));
            }
            _ => return Err(client.refusal(&answer, name)),
        };
        if let Some(whole) = whole
            && whole != size
        {
            return Err(wrong_size(format!("{whole} bytes")));
        }
        let mut bytes = vec![0; 1 << 16];
        loop {
            if client.stop().is_set() {
                return Err(Trouble::Stopped);
            }
            let n = match answer.body.read(&mut bytes) {
                Ok(0) if self.length < size => return Err(passing("the connection was cut")),
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(passing(&client.clean(&e.to_string()))),
            };
            if n as u64 > size - self.length {
                return Err(wrong_size(format!("more than {size} bytes")));
            }
            self.file
                .write_all(&bytes[..n])
                .map_err(Error::io(self.path))?;
            self.hasher.update(&bytes[..n]);
            self.length += n as u64;
        }
    }
}
