//! A source as the user writes it (a file, a glob, a directory, a dataset on the hub) to shards
//! in a fixed order, each of which is on disk when it is opened.
//!
//! ```text
//! "c4/*.parquet"                local ─┐
//!                                      ├─► Shards ─► open(i, next) ─► ShardLease (a path)
//! "hf://allenai/c4/en@REV"      hub ───┘             brings `next` meanwhile
//! ```

mod local;

use std::ops::Deref;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::hub::digest::hex;
use crate::hub::{Fetcher, HubConfig, HubLease, HubShards};
use crate::source_options::SourceOptions;
use local::{LocalShard, resolve};

/// What a source resolved to: shards in a fixed order, wherever they lie.
///
/// Dropping it ends the downloads ahead; what has come of them is resumed by the next run.
pub struct Shards(ShardList);

enum ShardList {
    Local(Vec<LocalShard>),
    Hub(HubShards),
}

/// A shard that is on disk, whole, and stays there until this is dropped.
pub struct ShardLease(LeasedFile);

enum LeasedFile {
    Local(PathBuf),
    Hub(HubLease),
}

impl Deref for ShardLease {
    type Target = Path;

    fn deref(&self) -> &Path {
        match &self.0 {
            LeasedFile::Local(path) => path,
            LeasedFile::Hub(lease) => &lease.path,
        }
    }
}

impl Shards {
    /// Resolves a file, a directory (all its parquet and JSON-lines files) or a glob, or
    /// `hf://OWNER/NAME[/CONFIG[/SPLIT]][@REVISION]`, with [`HubConfig::from_env`].
    ///
    /// Without a revision, a hub dataset is read from the hub's own conversion to parquet. One
    /// configuration, or one called `default`, need not be named. No shard is downloaded yet.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::NoShards`] and [`Error::Source`] for a source that names
    /// nothing; [`Error::Io`] for a local shard that cannot be read; [`Error::Hub`] and
    /// [`Error::NotCached`] for a dataset whose files cannot be listed; [`Error::Config`] for a
    /// budget smaller than a shard.
    pub fn resolve(source: &str, options: &SourceOptions) -> Result<Self> {
        if is_hub(source) {
            Self::resolve_with(source, options, &HubConfig::from_env()?)
        } else {
            Self::local(source)
        }
    }

    /// As [`Shards::resolve`], with the hub as `config` says.
    ///
    /// # Errors
    ///
    /// As [`Shards::resolve`].
    pub fn resolve_with(source: &str, options: &SourceOptions, config: &HubConfig) -> Result<Self> {
        if is_hub(source) {
            HubShards::resolve(source, options, config).map(|hub| Self(ShardList::Hub(hub)))
        } else {
            Self::local(source)
        }
    }

    fn local(source: &str) -> Result<Self> {
        let shards = resolve(source)?
            .into_iter()
            .map(LocalShard::new)
            .collect::<Result<_>>()?;
        Ok(Self(ShardList::Local(shards)))
    }

    /// How many there are; never 0.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a source without shards does not resolve"
    )]
    pub fn len(&self) -> usize {
        match &self.0 {
            ShardList::Local(shards) => shards.len(),
            ShardList::Hub(hub) => hub.fetcher.files().len(),
        }
    }

    /// Shard `i` for messages: its path, or `hf://OWNER/NAME@COMMIT/PATH`.
    ///
    /// # Panics
    ///
    /// If `i` is not less than [`Shards::len`].
    pub fn name(&self, i: usize) -> String {
        match &self.0 {
            ShardList::Local(shards) => shards[i].path.display().to_string(),
            ShardList::Hub(hub) => hub.fetcher.name(i),
        }
    }

    /// A hexadecimal digest that is equal if and only if the data is: of names, sizes and, from
    /// the hub, SHA-256, or of local shards their ends. Local shards count by their file names
    /// alone, so that a directory may be moved.
    pub fn identity(&self) -> String {
        let mut hasher = Sha256::new();
        let mut add = |name: &[u8], size: u64, digest: &[u8]| {
            // Lengths first, so that no two lists of shards read alike.
            for part in [name, &size.to_le_bytes(), digest] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        };
        match &self.0 {
            ShardList::Local(shards) => {
                for shard in shards {
                    let name = shard.path.file_name().unwrap_or_default();
                    add(
                        name.as_encoded_bytes(),
                        shard.size,
                        &shard.tail.to_le_bytes(),
                    );
                }
            }
            ShardList::Hub(hub) => {
                for file in hub.fetcher.files() {
                    add(
                        file.path.as_bytes(),
                        file.size,
                        file.digest.hex().as_bytes(),
                    );
                }
            }
        }
        hex(&hasher.finalize())
    }

    /// From the hub, the source with the commit that it resolved to,
    /// `hf://OWNER/NAME/CONFIG/SPLIT@COMMIT`: it resolves to the same shards when the branch has
    /// moved.
    pub fn pinned(&self) -> Option<String> {
        match &self.0 {
            ShardList::Local(_) => None,
            ShardList::Hub(hub) => Some(hub.pinned.clone()),
        }
    }

    /// The bytes of all shards.
    pub fn bytes(&self) -> u64 {
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        match &self.0 {
            ShardList::Local(shards) => sum(&mut shards.iter().map(|s| s.size)),
            ShardList::Hub(hub) => sum(&mut hub.fetcher.files().iter().map(|f| f.size)),
        }
    }

    /// Waits until shard `i` is on disk and verified; the first [`SourceOptions::prefetch`] of
    /// `next` are fetched meanwhile and afterwards, in that order, in the background.
    ///
    /// With a disk budget, let go of one shard before opening another, or the budget has to hold
    /// both.
    ///
    /// # Errors
    ///
    /// From the hub: [`Error::Hub`] if it does not come, [`Error::Verification`] if something
    /// else comes, [`Error::NotCached`] offline, [`Error::Config`] if the shards held and this
    /// one exceed the budget, [`Error::Io`] if it cannot be written.
    ///
    /// # Panics
    ///
    /// If `i` is not less than [`Shards::len`].
    pub fn open(&self, i: usize, next: &[usize]) -> Result<ShardLease> {
        match &self.0 {
            ShardList::Local(shards) => Ok(ShardLease(LeasedFile::Local(shards[i].path.clone()))),
            ShardList::Hub(hub) => {
                Fetcher::open(&hub.fetcher, i, next).map(|lease| ShardLease(LeasedFile::Hub(lease)))
            }
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        if let ShardList::Hub(hub) = &self.0 {
            hub.fetcher.stop();
        }
    }
}

fn is_hub(source: &str) -> bool {
    source.trim_start().starts_with("hf://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, files: &[(&str, &[u8])]) -> Shards {
        for (name, bytes) in files {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        let source = dir.to_str().unwrap();
        Shards::resolve(source, &SourceOptions::default()).unwrap()
    }

    #[test]
    fn local_shards_are_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let shards = write(
            dir.path(),
            &[("b.parquet", b"12345"), ("a.jsonl.gz", b"123")],
        );
        assert_eq!((shards.len(), shards.bytes()), (2, 8));
        assert_eq!(shards.pinned(), None);
        let path = dir.path().join("b.parquet");
        assert_eq!(*shards.open(1, &[0]).unwrap(), *path);
        assert_eq!(shards.name(1), path.display().to_string());
    }

    #[test]
    fn local_identity_is_of_names_sizes_and_ends_wherever_they_lie() {
        let identity = |files: &[(&str, &[u8])]| {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), files).identity()
        };
        let long = vec![7; 100_000];
        let one = identity(&[("a.parquet", &long), ("b.parquet", b"b")]);
        assert_eq!(one, identity(&[("a.parquet", &long), ("b.parquet", b"b")]));
        let mut other_end = long.clone();
        other_end[99_999] = 8;
        for other in [
            identity(&[("a.parquet", &other_end), ("b.parquet", b"b")]),
            identity(&[("a.parquet", &long[1..]), ("b.parquet", b"b")]),
            identity(&[("c.parquet", &long), ("b.parquet", b"b")]),
            identity(&[("a.parquet", &long)]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn options_have_defaults_and_no_unknown_keys() {
        let options: SourceOptions = serde_json::from_str("{\"prefetch\": 3}").unwrap();
        assert_eq!((&*options.split, options.prefetch), ("train", 3));
        assert!(serde_json::from_str::<SourceOptions>("{\"prefech\": 3}").is_err());
    }
}
