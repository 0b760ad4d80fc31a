//! The smaller vocabulary of a student, and its tokenizer's files.
//!
//! In: the parent's tokenizer and text. Out: the ids that are kept, ascending (an id's index
//! among them is its new id), and the files of the student's tokenizer.
//!
//! Single bytes, so that any text can be encoded, and added tokens are always kept. The rest is
//! filled with the most frequent tokens of the text, each with the tokens that it is merged from
//! ([`ByteLevelVocabulary`]). Tokens that do not occur follow in the order of their ids, which is that of
//! the merges.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use retort_tokenizer::{ByteLevelVocabulary, NewIds, Tokenizer, renumber};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::text::TextSource;

/// The tokens that are kept, and the tokenizer with these alone.
pub(crate) struct KeptVocabulary {
    /// The parent's ids that are kept, ascending: old ids by new ones.
    pub ids: Vec<usize>,
    /// The share of the counted tokens that are kept.
    pub coverage: f64,
    new_ids: NewIds,
    json: Value,
}

impl KeptVocabulary {
    /// Chooses `size` tokens of the tokenizer in `parent`, whose embedding has `rows` rows, by
    /// how often they occur in `text`. `progress` is given the number of tokens counted.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] for a tokenizer that cannot be cut, [`Error::Option`] for a size out
    /// of range, and anything wrong with the text.
    pub(crate) fn choose(
        parent: &Path,
        rows: usize,
        size: usize,
        text: &TextSource,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Self> {
        let path = parent.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(parent, None)?;
        let bytes = ByteLevelVocabulary::from_json(tokenizer.json(), &path)?;
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
        let new_ids: NewIds = kept.iter().copied().zip(0..).collect();
        let covered: u64 = kept.iter().map(|&id| counts[id as usize]).sum();
        Ok(Self {
            json: bytes.cut(&new_ids)?,
            coverage: covered as f64 / counted.max(1) as f64,
            ids: kept.into_iter().map(|id| id as usize).collect(),
            new_ids,
        })
    }

    /// The new id of one of the parent's; `None` if it is not kept.
    pub(crate) fn new_id(&self, id: u32) -> Option<u32> {
        self.new_ids.get(&id).copied()
    }

    /// Replaces the tokenizer files in the student's `directory`, copied there from `parent`,
    /// and gives every id in its configs the new number.
    ///
    /// # Errors
    /// A file that cannot be read or written, or is not JSON.
    pub(crate) fn write(&self, parent: &Path, directory: &Path) -> Result<()> {
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
            self.renumber_tokenizer_config(&mut config);
            write_json(&path, &config)?;
        }
        let path = parent.join("generation_config.json");
        if path.exists() {
            let mut config = read_json(&path)?;
            self.renumber_config(&mut config);
            write_json(&directory.join("generation_config.json"), &config)?;
        }
        // The parent's file may list several ids where `ModelConfig` has one.
        let mut parents = read_json(&parent.join("config.json"))?;
        self.renumber_config(&mut parents);
        let path = directory.join("config.json");
        let mut students = read_json(&path)?;
        for (key, value) in parents.as_object().into_iter().flatten() {
            if names_ids(key) {
                students[key] = value.clone();
            }
        }
        write_json(&path, &students)
    }

    /// Gives the ids in a config their new numbers. An id that is not kept becomes null, or is
    /// left out of its list.
    fn renumber_config(&self, config: &mut Value) {
        for (key, value) in config.as_object_mut().into_iter().flatten() {
            match value {
                Value::Number(_) if names_ids(key) => renumber(value, &self.new_ids),
                Value::Array(ids) if names_ids(key) => {
                    ids.iter_mut().for_each(|id| renumber(id, &self.new_ids));
                    ids.retain(|id| !id.is_null());
                }
                _ => {}
            }
        }
    }

    fn renumber_tokenizer_config(&self, config: &mut Value) {
        self.renumber_config(config);
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
        // The class that reads tokenizer.json alone.
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.remove("auto_map");
    }
}

/// Whether a config's key names ids: `eos_token_id`, `suppress_tokens` …
fn names_ids(key: &str) -> bool {
    key.ends_with("_token_id") || key.ends_with("suppress_tokens")
}

/// `size` of the ids `all`: those `needed`, then the most frequent with what they are merged from.
fn most_frequent(
    bytes: &ByteLevelVocabulary,
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
    // A token that did not fit may by now need no other than itself.
    while kept.len() < size {
        let fits = |id: &&u32| missing(&kept, **id).len() == 1;
        let Some(&id) = order.iter().find(fits) else {
            break;
        };
        kept.insert(id);
    }
    kept
}

/// Reads a small JSON file.
fn read_json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::tokenizer(path, format!("not valid JSON: {e}")))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, format!("{value:#}\n")).map_err(Error::io(path))
}
