//! A local source (a file, a glob, a directory) to a sorted list of shards.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

/// Lists the shards that `source` names, in an order that does not depend on the file system.
///
/// A file is taken as it is; a directory gives its parquet and JSON lines (`.parquet`,
/// `.jsonl` or `.ndjson`, these and `.json` with `.gz`; `.json` only if there is none of these, since
/// beside shards such files describe them) sorted by name; anything else is a glob (`**` crosses directories).
///
/// # Errors
///
/// [`Error::Missing`] if nothing is there, [`Error::NoShards`] if no parquet file is,
/// [`Error::Source`] for a malformed glob or a source that is not local.
pub fn resolve(source: &str) -> Result<Vec<PathBuf>> {
    if source.trim().is_empty() {
        return Err(Error::source(
            "an empty source",
            "give a parquet file, a glob or a directory",
        ));
    }
    if source.contains("://") {
        return Err(Error::source(
            source,
            "not a local path, and the only other sources are hf://OWNER/NAME/CONFIG; \
             download what else there is and give the directory",
        ));
    }
    let path = Path::new(source);
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if path.is_dir() {
        return directory(source, path);
    }
    if source.contains(['*', '?', '[']) {
        return pattern(source);
    }
    Err(Error::Missing {
        source_text: source.into(),
    })
}

/// The endings of files that are shards wherever they lie.
const SHARDS: [&str; 6] = [
    ".parquet",
    ".json.gz",
    ".jsonl.gz",
    ".jsonl",
    ".ndjson.gz",
    ".ndjson",
];

fn directory(source: &str, path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(Error::io(path))?;
    let mut shards = Vec::new();
    let mut json = Vec::new();
    for entry in entries {
        let shard = entry.map_err(Error::io(path))?.path();
        let name = shard
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with('.') || !shard.is_file() {
            continue;
        }
        if SHARDS.iter().any(|end| name.ends_with(end)) {
            shards.push(shard);
        } else if name.ends_with(".json") {
            json.push(shard);
        }
    }
    if shards.is_empty() {
        shards = json;
    }
    if shards.is_empty() {
        return Err(Error::NoShards {
            source_text: source.into(),
            remedy: format!(
                "if they lie in subdirectories give a glob, '{}/**/*.parquet'",
                source.trim_end_matches('/')
            ),
        });
    }
    shards.sort();
    Ok(shards)
}

fn pattern(source: &str) -> Result<Vec<PathBuf>> {
    let matches =
        glob::glob(source).map_err(|e| Error::source(source, format!("not a valid glob: {e}")))?;
    let mut shards = Vec::new();
    for found in matches {
        let shard = found.map_err(|e| {
            let path = e.path().to_owned();
            Error::io(&path)(e.into())
        })?;
        if shard.is_file() {
            shards.push(shard);
        }
    }
    if shards.is_empty() {
        return Err(Error::NoShards {
            source_text: source.into(),
            remedy: "the glob matches no file".into(),
        });
    }
    shards.sort();
    Ok(shards)
}

/// A local shard as it was when the source was resolved.
pub(super) struct LocalShard {
    /// Where it lies.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// XXH3 of its last 64 KiB, where parquet keeps what it says of all the rest.
    pub tail: u64,
}

impl LocalShard {
    /// Looks at the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read.
    pub fn new(path: PathBuf) -> Result<Self> {
        let look = || -> std::io::Result<(u64, u64)> {
            let mut file = std::fs::File::open(&path)?;
            let size = file.metadata()?.len();
            let mut tail = Vec::new();
            file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
            file.take(TAIL).read_to_end(&mut tail)?;
            Ok((size, xxh3_64(&tail)))
        };
        let (size, tail) = look().map_err(Error::io(&path))?;
        Ok(Self { path, size, tail })
    }
}

const TAIL: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_sorted_and_only_parquet() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.parquet", "a.parquet", "notes.txt", ".hidden.parquet"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let names: Vec<_> = resolve(dir.path().to_str().unwrap())
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["a.parquet", "b.parquet"]);
        let glob = format!("{}/[b-z]*.parquet", dir.path().display());
        assert_eq!(resolve(&glob).unwrap().len(), 1);
    }

    #[test]
    fn json_lines_are_shards_and_json_beside_shards_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let names = || -> Vec<_> {
            resolve(dir.path().to_str().unwrap())
                .unwrap()
                .iter()
                .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
                .collect()
        };
        std::fs::write(dir.path().join("b.json"), b"x").unwrap();
        assert_eq!(names(), ["b.json"]);
        for name in [
            "d.jsonl",
            "a.json.gz",
            "c.jsonl.gz",
            "f.ndjson",
            "e.ndjson.gz",
        ] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let expected = [
            "a.json.gz",
            "c.jsonl.gz",
            "d.jsonl",
            "e.ndjson.gz",
            "f.ndjson",
        ];
        assert_eq!(names(), expected);
        let file = dir.path().join("b.json");
        assert_eq!(resolve(file.to_str().unwrap()).unwrap(), [file]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().to_str().unwrap();
        assert!(matches!(resolve(empty), Err(Error::NoShards { .. })));
        assert!(matches!(
            resolve(&format!("{empty}/*.parquet")),
            Err(Error::NoShards { .. })
        ));
        assert!(matches!(
            resolve(&format!("{empty}/a***")),
            Err(Error::Source { .. })
        ));
        assert!(matches!(
            resolve("hf://allenai/c4/en"),
            Err(Error::Source { .. })
        ));
        assert!(matches!(resolve("  "), Err(Error::Source { .. })));
        let missing = format!("{empty}/none.parquet");
        assert!(
            resolve(&missing)
                .unwrap_err()
                .to_string()
                .contains("none.parquet")
        );
    }
}
