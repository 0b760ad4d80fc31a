//! A source as the user writes it (a parquet file, a glob, a directory) to a sorted list of
//! shards.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Lists the shards that `source` names, in an order that does not depend on the file system.
///
/// A file is taken as it is; a directory gives its `*.parquet` sorted by name; anything else is a
/// glob (`**` crosses directories).
///
/// # Errors
///
/// [`Error::Missing`] if nothing is there, [`Error::NoShards`] if no parquet file is,
/// [`Error::Source`] for a malformed glob or a source that is not local.
pub fn resolve(source: &str) -> Result<Vec<PathBuf>> {
    if source.trim().is_empty() {
        return Err(Error::Source {
            source_text: "an empty source".into(),
            reason: "give a parquet file, a glob or a directory".into(),
        });
    }
    if source.contains("://") {
        return Err(Error::Source {
            source_text: source.into(),
            reason: "only local shards are read; download them (`hf download --repo-type dataset \
                     NAME --local-dir DIR`) and give the directory"
                .into(),
        });
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

fn directory(source: &str, path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, "list the directory", e))?;
    let mut shards = Vec::new();
    for entry in entries {
        let shard = entry
            .map_err(|e| Error::io(path, "list the directory", e))?
            .path();
        let hidden = shard
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if shard.extension().is_some_and(|e| e == "parquet") && !hidden && shard.is_file() {
            shards.push(shard);
        }
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
    let matches = glob::glob(source).map_err(|e| Error::Source {
        source_text: source.into(),
        reason: format!("not a valid glob: {e}"),
    })?;
    let mut shards = Vec::new();
    for found in matches {
        let shard = found.map_err(|e| {
            let path = e.path().to_owned();
            Error::io(&path, "list the directory", e.into())
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
