//! Which tokens a student keeps, and its tokenizer.
//!
//! In: the parent's tokenizer and text. Out: the ids that stay, ascending (an id's new number is
//! its place among them), and the files of the student's tokenizer.
//!
//! Always kept: the tokens of single bytes, so that any text can be encoded, and every token
//! added to the model. Then the most frequent in the text, each with the tokens that it is
//! merged from (`byte_level.rs`); those that do not occur follow in the order of their ids,
//! which is that of the merges.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use retort_data::Tokenizer;
use serde_json::Value;

use super::byte_level::{ByteLevel, Renumbered, read_json, renumber};
use super::calibration::Text;
use super::error::{Error, Result};

/// The tokens that stay and the tokenizer that has them alone.
pub(super) struct Vocabulary {
    /// Old ids by new ones.
    pub kept: Vec<usize>,
    /// The share of the tokens counted that are kept.
    pub covers: f64,
    renumbered: Renumbered,
    json: Value,
}

impl Vocabulary {
    /// Chooses `size` tokens of the tokenizer in `parent`, whose model has `rows`, by their
    /// number in `text`. `progress` is told tokens counted.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for one that cannot be cut, [`Error::Option`] for a size that cannot
    /// be, and anything wrong with the text.
    pub(super) fn choose(
        parent: &Path,
        rows: usize,
        size: usize,
        text: &Text,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Self> {
        let path = parent.join("tokenizer.json");
        let bytes = ByteLevel::read(&path)?;
        let tokenizer = Tokenizer::from_file(parent, None)?;
        let all = bytes.all();
        if let Some(id) = all.iter().find(|&&id| id as usize >= rows) {
            let reason = format!("has id {id}, but the model has {rows} rows");
            return Err(Error::tokenizer(&path, reason));
        }
        let mut needed = bytes.needed();
        needed.insert(tokenizer.eot());
        if size < needed.len() || size > all.len() {
            let reason = format!(
                "{size} tokens: give {} (bytes and special tokens) to {}",
                needed.len(),
                all.len()
            );
            return Err(Error::option("vocab", reason));
        }
        let mut counts = vec![0u64; rows];
        let mut counted = 0;
        for ids in text.documents(&tokenizer)? {
            let ids = ids?;
            for &id in &ids {
                counts[id as usize] += 1;
            }
            counted += ids.len();
            progress(counted)?;
        }
        let kept = most_frequent(&bytes, &all, needed, &counts, size);
        let renumbered: Renumbered = kept.iter().copied().zip(0..).collect();
        let covered: u64 = kept.iter().map(|&id| counts[id as usize]).sum();
        Ok(Self {
            json: bytes.cut(&renumbered)?,
            covers: covered as f64 / counted.max(1) as f64,
            kept: kept.into_iter().map(|id| id as usize).collect(),
            renumbered,
        })
    }

    /// The new number of an id.
    pub(super) fn new_id(&self, id: u32) -> Option<u32> {
        self.renumbered.get(&id).copied()
    }

    /// Writes the tokenizer into the student's directory, in place of what was copied there
    /// from `parent`, and gives every id in the configs its new number.
    ///
    /// # Errors
    /// A file that cannot be read or written, or is not JSON.
    pub(super) fn write(&self, parent: &Path, directory: &Path) -> Result<()> {
        for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
            let path = entry.map_err(Error::io(directory))?.path();
            // Other forms of the same vocabulary.
            let old = [
                "vocab.json",
                "merges.txt",
                "added_tokens.json",
                "tokenizer.model",
            ];
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            if old.contains(&name) || name.ends_with(".tiktoken") {
                fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        write_json(&directory.join("tokenizer.json"), &self.json)?;
        let path = directory.join("tokenizer_config.json");
        if path.exists() {
            let mut config = read_json(&path)?;
            self.tokenizer_config(&mut config);
            write_json(&path, &config)?;
        }
        let path = parent.join("generation_config.json");
        if path.exists() {
            let mut config = read_json(&path)?;
            self.ids_of(&mut config);
            write_json(&directory.join("generation_config.json"), &config)?;
        }
        // A list of ids is more than the model's config knows of: taken from the parent's.
        let mut theirs = read_json(&parent.join("config.json"))?;
        self.ids_of(&mut theirs);
        let path = directory.join("config.json");
        let mut ours = read_json(&path)?;
        for (key, value) in theirs.as_object().into_iter().flatten() {
            if is_id(key) {
                ours[key] = value.clone();
            }
        }
        write_json(&path, &ours)
    }

    /// Gives the ids in a config their new numbers; those that are gone become null, or are
    /// left out of a list.
    fn ids_of(&self, config: &mut Value) {
        for (key, value) in config.as_object_mut().into_iter().flatten() {
            match value {
                Value::Number(_) if is_id(key) => renumber(value, &self.renumbered),
                Value::Array(ids) if is_id(key) => {
                    ids.iter_mut().for_each(|id| renumber(id, &self.renumbered));
                    ids.retain(|id| !id.is_null());
                }
                _ => {}
            }
        }
    }

    fn tokenizer_config(&self, config: &mut Value) {
        self.ids_of(config);
        let Some(config) = config.as_object_mut() else {
            return;
        };
        if let Some(Value::Object(tokens)) = config.get_mut("added_tokens_decoder") {
            let old = std::mem::take(tokens);
            tokens.extend(old.into_iter().filter_map(|(id, token)| {
                let new = self.new_id(id.parse().ok()?)?;
                Some((new.to_string(), token))
            }));
        }
        // The class that takes tokenizer.json as it is.
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.remove("auto_map");
    }
}

/// Whether a config's key names ids: `eos_token_id`, `suppress_tokens` …
fn is_id(key: &str) -> bool {
    key.ends_with("_token_id") || key.ends_with("suppress_tokens")
}

/// `size` of the ids `all`: those `needed`, then the most frequent with their parents.
fn most_frequent(
    bytes: &ByteLevel,
    all: &BTreeSet<u32>,
    needed: BTreeSet<u32>,
    counts: &[u64],
    size: usize,
) -> BTreeSet<u32> {
    let parents = bytes.parents();
    let mut kept = needed;
    let missing = |kept: &BTreeSet<u32>, id: u32| -> BTreeSet<u32> {
        let parents = parents.get(&id).into_iter().flatten().copied();
        parents
            .chain([id])
            .filter(|id| !kept.contains(id))
            .collect()
    };
    let mut order: Vec<u32> = all.iter().copied().collect();
    order.sort_by_key(|&id| (std::cmp::Reverse(counts[id as usize]), id));
    for &id in &order {
        let missing = missing(&kept, id);
        if kept.len() + missing.len() <= size {
            kept.extend(missing);
        }
    }
    // What was passed over for want of room may need no more than itself by now.
    while kept.len() < size {
        let fits = |id: &&u32| missing(&kept, **id).len() == 1;
        let Some(&id) = order.iter().find(fits) else {
            break;
        };
        kept.insert(id);
    }
    kept
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, format!("{value:#}\n")).map_err(Error::io(path))
}
