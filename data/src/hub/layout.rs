//! Which of a dataset's files are the shards of one split of one configuration.
//!
//! Datasets on the hub keep their text in one of three layouts, and the first of them that a
//! repository has files in is taken:
//!
//! 1. the hub's parquet conversion: `CONFIG/SPLIT/0000.parquet`, where `SPLIT` may read
//!    `partial-SPLIT` (the first part of a large dataset) and end in `-partN`;
//! 2. parquet as `datasets` pushes it: `CONFIG/SPLIT-00000-of-00002.parquet`, or in `data/` or at
//!    the root for the configuration `default`;
//! 3. compressed JSON lines as C4 keeps them: `CONFIG/c4-SPLIT.00000-of-01024.json.gz`, and
//!    the names of 2 ending in `.json.gz`, `.jsonl` or `.ndjson`, the last two also with `.gz`.
//!
//! The order is that of the paths' bytes, whatever the order of the hub's answer.

use std::collections::BTreeSet;

use super::address::is_name;

/// The layouts, the preferred one first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Conversion,
    Parquet,
    Json,
}

/// What a path says of the file.
#[derive(Debug, PartialEq)]
struct ShardPath<'a> {
    layout: Layout,
    config: &'a str,
    split: &'a str,
    partial: bool,
}

/// The configuration that was meant and its files, as positions in what was given, in the order
/// they are to be read.
#[derive(Debug, PartialEq)]
pub(crate) struct Choice {
    /// The configuration, told from the files if it was not given.
    pub config: String,
    /// At least one.
    pub files: Vec<usize>,
}

/// Chooses the files of `split` in `config`, or says what there is instead.
pub(crate) fn choose(paths: &[&str], config: Option<&str>, split: &str) -> Result<Choice, String> {
    let shard_paths: Vec<(usize, ShardPath)> = paths
        .iter()
        .enumerate()
        .filter_map(|(i, path)| Some((i, shard_path(path)?)))
        .collect();
    for layout in [Layout::Conversion, Layout::Parquet, Layout::Json] {
        let here = || shard_paths.iter().filter(|(_, p)| p.layout == layout);
        let Some(config) = the_config(config, here().map(|(_, p)| p.config).collect())? else {
            continue;
        };
        let files = |partial| -> Vec<usize> {
            here()
                .filter(|(_, p)| p.config == config && p.split == split && p.partial == partial)
                .map(|(i, _)| *i)
                .collect()
        };
        let mut files = match files(false) {
            // A partial conversion counts only where there is no whole one.
            none if none.is_empty() => files(true),
            whole => whole,
        };
        if !files.is_empty() {
            files.sort_by_key(|&i| paths[i]);
            return Ok(Choice {
                config: config.to_owned(),
                files,
            });
        }
    }
    Err(lacking(&shard_paths, config, split))
}

/// The configuration meant in one layout, `None` if the layout is not used.
fn the_config<'a>(
    given: Option<&'a str>,
    there: BTreeSet<&'a str>,
) -> Result<Option<&'a str>, String> {
    match given {
        _ if there.is_empty() => Ok(None),
        Some(given) => Ok(Some(given)),
        None if there.contains("default") => Ok(Some("default")),
        None if there.len() == 1 => Ok(there.first().copied()),
        None => Err(format!(
            "it has several configurations: name one of them, {}",
            names(there)
        )),
    }
}

fn lacking(shard_paths: &[(usize, ShardPath)], config: Option<&str>, split: &str) -> String {
    let configs: BTreeSet<&str> = shard_paths.iter().map(|(_, p)| p.config).collect();
    let splits: BTreeSet<&str> = shard_paths
        .iter()
        .filter(|(_, p)| config.is_none_or(|c| c == p.config))
        .map(|(_, p)| p.split)
        .collect();
    match config {
        _ if configs.is_empty() => "it holds no shard in a layout known here \
             (CONFIG/SPLIT/0000.parquet, CONFIG/SPLIT-*.parquet, CONFIG/*-SPLIT.*.json.gz): \
             leave out the revision to read the hub's parquet conversion, or download it and give \
             a glob"
            .into(),
        Some(config) if !configs.contains(config) => format!(
            "there is no configuration `{config}`; there is {}",
            names(configs)
        ),
        _ => format!("there is no split `{split}`; there is {}", names(splits)),
    }
}

fn names(names: BTreeSet<&str>) -> String {
    const SHOWN: usize = 20;
    let count = names.len();
    let mut text = names
        .into_iter()
        .take(SHOWN)
        .map(|n| n.escape_debug().to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if count > SHOWN {
        text += &format!(" and {} more", count - SHOWN);
    }
    text
}

/// Reads a path; `None` for what is no shard, and for every path that could name a place outside
/// the snapshot it is to be put in.
fn shard_path(path: &str) -> Option<ShardPath<'_>> {
    let parts: Vec<&str> = path.split('/').collect();
    let plain = |part: &str| {
        !part.starts_with('.') && !part.contains(['\\', ':']) && !part.chars().any(char::is_control)
    };
    let (&file, folders) = parts.split_last()?;
    if path.len() > 1000 || !plain(file) || !folders.iter().all(|f| is_name(f)) {
        return None;
    }
    if let [config, folder] = folders
        && file
            .strip_suffix(".parquet")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    {
        let (split, partial) = match folder.strip_prefix("partial-") {
            Some(split) => (split, true),
            None => (*folder, false),
        };
        let split = match split.rsplit_once("-part") {
            Some((split, n)) if n.bytes().all(|b| b.is_ascii_digit()) => split,
            _ => split,
        };
        return Some(ShardPath {
            layout: Layout::Conversion,
            config,
            split,
            partial,
        });
    }
    let config = match folders {
        [] | ["data"] => "default",
        [config] | ["data", config] => config,
        _ => return None,
    };
    let json = [".json.gz", ".jsonl.gz", ".jsonl", ".ndjson.gz", ".ndjson"];
    let (layout, split) = if let Some(stem) = file.strip_suffix(".parquet") {
        (Layout::Parquet, first(stem))
    } else {
        let stem = json.iter().find_map(|end| file.strip_suffix(end))?;
        (Layout::Json, json_split(stem))
    };
    (is_name(split) && split.starts_with(|c: char| c.is_ascii_alphabetic())).then_some(ShardPath {
        layout,
        config,
        split,
        partial: false,
    })
}

/// `train` of `train-00000-of-00002`: the name of a split holds no `-`.
fn first(stem: &str) -> &str {
    stem.split('-').next().unwrap_or(stem)
}

/// `train` of `c4-train.00000-of-01024`, and of `train-00000-of-00002`.
fn json_split(stem: &str) -> &str {
    match stem.split_once('.').map(|(name, _)| name.rsplit_once('-')) {
        Some(Some((_, split))) => split,
        _ => first(stem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen<'a>(paths: &[&'a str], config: Option<&str>, split: &str) -> Vec<&'a str> {
        choose(paths, config, split)
            .unwrap()
            .files
            .iter()
            .map(|&i| paths[i])
            .collect()
    }

    #[test]
    fn the_conversion_is_preferred_and_sorted() {
        let paths = [
            "en/train/0001.parquet",
            "data/train-00000-of-00001.parquet",
            "en/train/0000.parquet",
            "en/partial-train/0000.parquet",
            "en/validation/0000.parquet",
            "README.md",
        ];
        let train = ["en/train/0000.parquet", "en/train/0001.parquet"];
        assert_eq!(chosen(&paths, Some("en"), "train"), train);
        // One configuration needs no name.
        assert_eq!(chosen(&paths, None, "train"), train);
        let partial = [
            "zh/partial-train/0000.parquet",
            "zh/partial-train-part1/0000.parquet",
        ];
        assert_eq!(chosen(&partial, None, "train").len(), 2);
    }

    #[test]
    fn parquet_as_datasets_pushes_it() {
        let paths = [
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002-0123456789abcdef.parquet",
            "data/test-00000-of-00001.parquet",
            "data/trainable-00000-of-00001.parquet",
            "other/train-00000-of-00001.parquet",
            "000_00000.parquet",
        ];
        assert_eq!(chosen(&paths, None, "train"), paths[..2]);
        assert_eq!(chosen(&paths, Some("default"), "train"), paths[..2]);
        assert_eq!(chosen(&paths, Some("other"), "train"), paths[4..5]);
    }

    #[test]
    fn json_as_c4_keeps_it() {
        let paths = [
            "en/c4-train.00001-of-01024.json.gz",
            "en/c4-train.00000-of-01024.json.gz",
            "en/c4-validation.00000-of-00008.json.gz",
            "en.noblocklist/c4-train.00000-of-01024.json.gz",
            "data/train-00000-of-00001.jsonl.gz",
        ];
        assert_eq!(chosen(&paths, Some("en"), "train"), [paths[1], paths[0]]);
        assert_eq!(chosen(&paths, Some("en"), "validation"), [paths[2]]);
        assert_eq!(chosen(&paths, None, "train"), [paths[4]]);
    }

    #[test]
    fn what_there_is_instead_is_named() {
        let paths = ["en/train/0000.parquet", "zh/train/0000.parquet"];
        assert!(
            choose(&paths, None, "train")
                .unwrap_err()
                .contains("en, zh")
        );
        assert!(
            choose(&paths, Some("de"), "train")
                .unwrap_err()
                .contains("en, zh")
        );
        let message = choose(&paths, Some("en"), "test").unwrap_err();
        assert!(message.contains("`test`; there is train"), "{message}");
        assert!(
            choose(&["a.txt"], None, "train")
                .unwrap_err()
                .contains("layout")
        );
        let many: Vec<String> = (0..50).map(|i| format!("c{i}/train/0.parquet")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(
            choose(&many, None, "train")
                .unwrap_err()
                .contains("and 30 more")
        );
    }

    #[test]
    fn a_path_that_leaves_the_snapshot_is_no_shard() {
        for path in [
            "../train/0000.parquet",
            "en/../0000.parquet",
            "/train-0.parquet",
            "en//train-0.parquet",
            "en/train-\u{0}.parquet",
            "c:/train-0.parquet",
            "..\\train-0.parquet",
            "en/.train/0000.parquet",
        ] {
            assert_eq!(shard_path(path), None, "{path}");
        }
    }
}
