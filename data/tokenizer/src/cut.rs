//! Cutting the vocabulary of a byte-level BPE: what its tokens are merged from, and the
//! `tokenizer.json` for some of them.
//!
//! In: a `tokenizer.json`. A file whose tokens are not strings of bytes, or that names ids in
//! places not known here, is refused. Out: how BPE arrives at a token (its parents), and the same
//! file with fewer tokens, renumbered.
//!
//! Greedy BPE (Sennrich et al., arXiv 1508.07909) merges the pair of lowest rank first, the
//! leftmost of equal ones. What it does within the span of a final token it would therefore also
//! do on that span alone. A token's parents are what it is merged from on its own. If they are
//! kept, text that the parent encodes to kept tokens is encoded to the same tokens: the merges
//! left are among the parent's, in the same order, and all that it used are there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::byte_alphabet::byte_alphabet;
use crate::error::{Error, Result};
use crate::merge_pair::merge_pair;

/// The vocabulary and merges of a byte-level BPE `tokenizer.json`.
pub struct ByteLevelVocabulary {
    path: PathBuf,
    json: Value,
    /// Ids of the model's tokens, in the file's order.
    vocabulary: Vec<(String, u32)>,
    ids: HashMap<String, u32>,
    /// Rank and result of each pair.
    merges: HashMap<(u32, u32), (usize, u32)>,
    added: Vec<u32>,
}

/// New ids by old ones.
pub type NewIds = BTreeMap<u32, u32>;

impl ByteLevelVocabulary {
    /// The vocabulary of a `tokenizer.json` with contents `json`; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] says why it cannot be cut.
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self> {
        let json: Value = serde_json::from_slice(json)
            .map_err(|e| Error::invalid(path, format!("not valid JSON: {e}")))?;
        let cannot = |why: &str| {
            let reason = format!("{why}: only the vocabulary of a byte-level BPE can be cut");
            Error::invalid(path, reason)
        };
        let model = &json["model"];
        if model["type"].as_str().is_some_and(|kind| kind != "BPE") {
            return Err(cannot("its model is not BPE"));
        }
        for part in ["pre_tokenizer", "decoder"] {
            if !has_type(&json[part], "ByteLevel") {
                return Err(cannot(&format!("its {part} is not of bytes")));
            }
        }
        for part in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model[part].as_str().is_some_and(|affix| !affix.is_empty()) {
                return Err(cannot(&format!("it has a {part}")));
            }
        }
        if !processors(&json["post_processor"])
            .iter()
            .all(|kind| ["ByteLevel", "TemplateProcessing"].contains(kind))
        {
            return Err(cannot("its post_processor is of another kind"));
        }
        let odd = || Error::invalid(path, "field model.vocab or model.merges: not as in a BPE");
        let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
        let vocabulary: Vec<(String, u32)> = model["vocab"]
            .as_object()
            .ok_or_else(odd)?
            .iter()
            .map(|(token, value)| Some((token.clone(), id(value)?)))
            .collect::<Option<_>>()
            .ok_or_else(odd)?;
        let distinct: BTreeSet<u32> = vocabulary.iter().map(|(_, id)| *id).collect();
        if distinct.len() < vocabulary.len() {
            return Err(Error::invalid(path, "field model.vocab: an id comes twice"));
        }
        let ids: HashMap<String, u32> = vocabulary.iter().cloned().collect();
        let mut merges = HashMap::new();
        for (rank, merge) in model["merges"]
            .as_array()
            .ok_or_else(odd)?
            .iter()
            .enumerate()
        {
            let (left, right) = merge_pair(merge).ok_or_else(odd)?;
            let id = |token: &str| ids.get(token).copied();
            let (Some(a), Some(b), Some(made)) =
                (id(left), id(right), id(&format!("{left}{right}")))
            else {
                return Err(odd());
            };
            // Of two of the same pair the later one counts.
            merges.insert((a, b), (rank, made));
        }
        let added = json["added_tokens"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let added = added.iter().map(|token| id(&token["id"]));
        let added = added
            .collect::<Option<Vec<u32>>>()
            .ok_or_else(|| Error::invalid(path, "field added_tokens: a token has no id"))?;
        Ok(Self {
            path: path.to_owned(),
            vocabulary,
            ids,
            merges,
            added,
            json,
        })
    }

    /// Every id it has, ascending.
    pub fn all(&self) -> BTreeSet<u32> {
        let model = self.vocabulary.iter().map(|(_, id)| *id);
        model.chain(self.added.iter().copied()).collect()
    }

    /// What no vocabulary can be without: the bytes (those that it has: some lack ones that UTF-8
    /// has no use for), the tokens added to the model, and the unknown token.
    pub fn needed(&self) -> BTreeSet<u32> {
        let bytes = byte_alphabet().into_iter().filter_map(|c| self.byte(c));
        let unknown = self.json["model"]["unk_token"].as_str();
        let unknown = unknown.and_then(|token| self.ids.get(token));
        let added = self.added.iter().chain(unknown).copied();
        bytes.chain(added).collect()
    }

    /// For each token of the model what BPE makes on the way to it, itself included; nothing
    /// but itself where BPE never arrives at it.
    pub fn parents(&self) -> HashMap<u32, Vec<u32>> {
        let parents = |(token, id): &(String, u32)| {
            let made = self.made(token);
            let parents = match made.last() {
                Some(last) if last == id => made,
                _ => vec![*id],
            };
            (*id, parents)
        };
        self.vocabulary.iter().map(parents).collect()
    }

    /// The results of the merges that BPE does on `token` alone, if one token remains.
    fn made(&self, token: &str) -> Vec<u32> {
        let symbols: Option<Vec<u32>> = token.chars().map(|c| self.byte(c)).collect();
        let mut symbols = symbols.unwrap_or_default();
        let mut made = Vec::new();
        while let Some((at, (_, result))) = symbols
            .windows(2)
            .enumerate()
            .filter_map(|(at, pair)| Some((at, *self.merges.get(&(pair[0], pair[1]))?)))
            .min_by_key(|(at, (rank, _))| (*rank, *at))
        {
            symbols[at] = result;
            symbols.remove(at + 1);
            made.push(result);
        }
        match symbols.as_slice() {
            [one] if made.is_empty() => vec![*one],
            [_] => made,
            _ => Vec::new(),
        }
    }

    /// The file with the tokens `kept` alone.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the post-processor names a token that is not kept.
    pub fn cut(&self, kept: &NewIds) -> Result<Value> {
        let mut json = self.json.clone();
        let mut vocabulary: Vec<(u32, &String)> = self
            .vocabulary
            .iter()
            .filter_map(|(token, id)| Some((*kept.get(id)?, token)))
            .collect();
        vocabulary.sort_unstable();
        let vocabulary: Map<String, Value> = vocabulary
            .into_iter()
            .map(|(id, token)| (token.clone(), id.into()))
            .collect();
        if let Some(merges) = json["model"]["merges"].as_array_mut() {
            merges.retain(|merge| {
                merge_pair(merge).is_some_and(|(left, right)| {
                    [left, right, &format!("{left}{right}")]
                        .iter()
                        .all(|token| vocabulary.contains_key(*token))
                })
            });
        }
        json["model"]["vocab"] = Value::Object(vocabulary);
        // All of them are kept: see `needed`.
        for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
            renumber(&mut token["id"], kept);
        }
        let lost = || {
            let reason = "field post_processor: names an id that is not among added_tokens";
            Error::invalid(&self.path, reason)
        };
        for id in template_ids(&mut json["post_processor"]) {
            renumber(id, kept);
            if id.is_null() {
                return Err(lost());
            }
        }
        // Padding names an id and is nothing that encoding depends on.
        json["padding"] = Value::Null;
        Ok(json)
    }

    /// The token that stands for a byte by `c` alone.
    fn byte(&self, c: char) -> Option<u32> {
        self.ids.get(c.encode_utf8(&mut [0; 4]) as &str).copied()
    }
}

/// Puts the new id in place of an old one, or null where there is none.
pub fn renumber(id: &mut Value, kept: &NewIds) {
    let old = id.as_u64().and_then(|id| u32::try_from(id).ok());
    *id = old
        .and_then(|old| kept.get(&old))
        .map_or(Value::Null, |&new| new.into());
}

/// The steps of a part of a tokenizer, those of a sequence one by one.
fn steps(part: &Value) -> Vec<&Value> {
    let lists = ["pretokenizers", "decoders", "processors"];
    match lists.iter().find_map(|list| part[*list].as_array()) {
        Some(list) => list.iter().flat_map(steps).collect(),
        None => vec![part],
    }
}

fn has_type(part: &Value, kind: &str) -> bool {
    steps(part).iter().any(|step| step["type"] == kind)
}

/// The types of a post-processor's steps.
fn processors(part: &Value) -> Vec<&str> {
    if part.is_null() {
        return Vec::new();
    }
    let kinds = steps(part).into_iter();
    kinds
        .map(|step| step["type"].as_str().unwrap_or(""))
        .collect()
}

/// The ids in a post-processor's templates.
fn template_ids(part: &mut Value) -> Vec<&mut Value> {
    let mut ids = Vec::new();
    let Some(map) = part.as_object_mut() else {
        return ids;
    };
    for (key, value) in map {
        match (key.as_str(), value) {
            ("processors", Value::Array(list)) => {
                ids.extend(list.iter_mut().flat_map(template_ids));
            }
            ("special_tokens", Value::Object(tokens)) => {
                for (_, token) in tokens {
                    ids.extend(token["ids"].as_array_mut().into_iter().flatten());
                }
            }
            _ => {}
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The 256 bytes (ids 0 to 255), `he` 256, `ll` 257, `hell` 258, `Ġhe` 259, `ell` 260 which
    /// BPE never makes, and `<s>` 300 that a template puts before every text.
    fn tokenizer() -> Value {
        let mut vocabulary = Map::new();
        for (id, c) in byte_alphabet().into_iter().enumerate() {
            vocabulary.insert(c.to_string(), id.into());
        }
        for (id, token) in ["he", "ll", "hell", "Ġhe", "ell"].iter().enumerate() {
            vocabulary.insert((*token).to_owned(), (256 + id).into());
        }
        json!({
            "added_tokens": [{"id": 300, "content": "<s>", "special": true}],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
            "decoder": {"type": "ByteLevel"},
            "post_processor": {"type": "Sequence", "processors": [
                {"type": "ByteLevel"},
                {"type": "TemplateProcessing", "special_tokens":
                    {"<s>": {"id": "<s>", "ids": [300], "tokens": ["<s>"]}}}]},
            "model": {"type": "BPE", "unk_token": null, "vocab": vocabulary, "merges":
                [["h", "e"], "l l", ["he", "ll"], ["Ġ", "he"], ["e", "ll"]]},
        })
    }

    fn read(json: &Value) -> Result<ByteLevelVocabulary> {
        ByteLevelVocabulary::from_json(json.to_string().as_bytes(), Path::new("tokenizer.json"))
    }

    #[test]
    fn a_token_needs_what_it_is_merged_from() {
        let bytes = read(&tokenizer()).unwrap();
        let parents = bytes.parents();
        assert_eq!(parents[&258], [256, 257, 258]);
        assert_eq!(parents[&259], [256, 259]);
        assert_eq!(parents[&260], [257, 260]);
        assert_eq!(parents[&0], [0]);
        let needed = bytes.needed();
        assert_eq!(needed.len(), 257);
        assert!(needed.contains(&300));
        assert_eq!(bytes.all().len(), 262);
    }

    #[test]
    fn a_token_that_merging_never_arrives_at_needs_nothing_but_itself() {
        let mut json = tokenizer();
        json["model"]["merges"] = json!([["h", "e"], ["e", "l"], ["el", "l"]]);
        json["model"]["vocab"]["el"] = 261.into();
        let bytes = read(&json).unwrap();
        assert_eq!(bytes.parents()[&260], [261, 260]);
        assert_eq!(bytes.parents()[&258], [258]);
    }

    #[test]
    fn what_is_left_is_renumbered_wherever_ids_are_named() {
        let bytes = read(&tokenizer()).unwrap();
        let kept: NewIds = (0..258).chain([300]).zip(0..).collect();
        let json = bytes.cut(&kept).unwrap();
        assert_eq!(json["model"]["vocab"]["ll"], 257);
        assert_eq!(json["model"]["vocab"].as_object().unwrap().len(), 258);
        assert_eq!(json["model"]["merges"], json!([["h", "e"], "l l"]));
        assert_eq!(json["added_tokens"][0]["id"], 258);
        let template = &json["post_processor"]["processors"][1];
        assert_eq!(template["special_tokens"]["<s>"]["ids"], json!([258]));
        assert_eq!(template["special_tokens"]["<s>"]["id"], "<s>");
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        for (pointer, value, part) in [
            ("/model/type", json!("Unigram"), "not BPE"),
            ("/decoder/type", json!("Metaspace"), "decoder"),
            ("/pre_tokenizer", json!(null), "pre_tokenizer"),
            ("/model/vocab/h", json!("x"), "model.vocab"),
            ("/model/vocab/h", json!(300_000_000_000u64), "model.vocab"),
            ("/model/vocab/h", json!(1), "twice"),
            ("/model/merges/0", json!(["h", "zz"]), "model.merges"),
            ("/added_tokens/0/id", json!(null), "added_tokens"),
            (
                "/post_processor/processors/0/type",
                json!("BertProcessing"),
                "post_processor",
            ),
        ] {
            let mut json = tokenizer();
            *json.pointer_mut(pointer).unwrap() = value;
            let message = read(&json).map(|_| ()).unwrap_err().to_string();
            assert!(message.contains(part), "{pointer}: {message}");
            assert!(message.contains("tokenizer.json"), "{message}");
        }
    }

    #[test]
    fn a_byte_that_the_parent_lacks_is_not_needed() {
        let mut json = tokenizer();
        json["model"]["vocab"].as_object_mut().unwrap().remove("À");
        assert_eq!(read(&json).unwrap().needed().len(), 256);
    }
}
