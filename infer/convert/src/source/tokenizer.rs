//! The tokenizer of a Hugging Face directory as the tables of a GGUF file.
//!
//! In: `tokenizer.json` (byte-level BPE), and where present `tokenizer_config.json`,
//! `generation_config.json`, `config.json` for the special ids and the chat template; out: a
//! [`Vocabulary`] padded to the rows of the embedding table. Of normalizers, NFC and none are
//! taken; any other is refused.

use std::path::Path;

use retort_tokenizer::{SplitRule, Tokenizer, merge_pair};
use serde_json::Value;

use retort_engine::tokenizer::{TokenType, Vocabulary, pre};
use retort_format::{Error, Result};

/// A tokenizer read from a directory.
#[derive(Debug)]
pub(super) struct HfTokenizer {
    pub(super) vocabulary: Vocabulary,
    pub(super) chat_template: Option<String>,
}

impl HfTokenizer {
    /// Reads the tokenizer of `dir` for a model of `vocab_size` embeddings.
    pub(super) fn read(dir: &Path, vocab_size: usize) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let mut sides = Sides::read(dir)?;
        let json = if path.exists() {
            read_json(&path)?
        } else {
            // Qwen's first models are published without.
            let tokenizer = Tokenizer::from_file(dir, None)
                .map_err(|error| Error::tokenizer(dir, error.to_string()))?;
            sides.tokenizer = tokenizer.config().clone();
            parse_json(&path, tokenizer.json())?
        };
        let refuse = |problem: String| Error::tokenizer(&path, problem);
        let (split, nfc) = check_pipeline(&json).map_err(refuse)?;
        check_added_tokens(&json).map_err(refuse)?;
        let (tokens, types) = read_tokens(&json, vocab_size).map_err(refuse)?;
        let merges = read_merges(&json["model"]["merges"]).map_err(refuse)?;
        let id_of = |content: &str| {
            let found = tokens.iter().position(|token| token == content);
            found.map(|id| id as u32)
        };
        let special = |name: &str| sides.special(name, id_of);
        let bos = special("bos").filter(|&id| (id as usize) < tokens.len());
        let eos = special("eos").filter(|&id| (id as usize) < tokens.len());
        let pad = special("pad").filter(|&id| (id as usize) < tokens.len());
        let add_bos = bos.is_some_and(|id| {
            begins_with(&json["post_processor"], &tokens[id as usize])
                .or(sides.tokenizer["add_bos_token"].as_bool())
                .unwrap_or(false)
        });
        let ends = sides.ends();
        let ends: Vec<u32> = (ends.into_iter())
            .filter(|&id| (id as usize) < tokens.len())
            .collect();
        let mut vocabulary = Vocabulary {
            tokens,
            types,
            merges,
            split,
            nfc,
            bos,
            eos: eos.or(ends.first().copied()),
            eot: None,
            eom: None,
            more_ends: Vec::new(),
            pad,
            add_bos,
        };
        vocabulary.set_end_ids(&ends);
        vocabulary.validate().map_err(refuse)?;
        Ok(Self {
            vocabulary,
            chat_template: sides.chat_template(dir)?,
        })
    }
}

/// The pre-tokenization rule and whether text is brought into NFC before, if the whole pipeline is
/// one that GGUF can name.
fn check_pipeline(json: &Value) -> std::result::Result<(SplitRule, bool), String> {
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(format!(
            "model {} is not supported; byte-level BPE is",
            model["type"]
        ));
    }
    let given = |field: &str| {
        let value = &model[field];
        !(value.is_null() || value == "" || value == false || value.as_f64() == Some(0.0))
    };
    let fields = [
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
    ];
    if let Some(field) = fields.into_iter().find(|field| given(field)) {
        return Err(format!(
            "model.{field} has no place in a byte-level BPE vocabulary"
        ));
    }
    let split = SplitRule::from_json(&json["pre_tokenizer"])
        .map_err(|problem| format!("pre_tokenizer: {problem}"))?;
    if model["ignore_merges"].as_bool().unwrap_or(false) != pre::ignores_merges(split) {
        return Err(format!(
            "model.ignore_merges does not fit the {} pre-tokenizer",
            pre::name(split)
        ));
    }
    let decoder = json["decoder"]["type"].as_str().unwrap_or("ByteLevel");
    if decoder != "ByteLevel" {
        return Err(format!("decoder {decoder} is not supported; ByteLevel is"));
    }
    match json["normalizer"]["type"].as_str() {
        None => Ok((split, false)),
        Some("NFC") => Ok((split, true)),
        Some(other) => Err(format!("normalizer {other} is not supported")),
    }
}

/// Refuses added tokens that a text would have elsewhere than in the engine, which finds all of them in the text as it
/// is given, the leftmost first and of these the longest. `tokenizers` finds those that are `normalized` after the others.
fn check_added_tokens(json: &Value) -> std::result::Result<(), String> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"].as_str().unwrap_or_default();
        let flag = |name: &str| token[name].as_bool().unwrap_or(false);
        let strips = ["lstrip", "rstrip", "single_word"]
            .into_iter()
            .find(|name| flag(name));
        if let Some(name) = strips.filter(|_| !flag("special")) {
            return Err(format!(
                "added token {text:?} has {name}: true, which has no place in a GGUF file"
            ));
        }
        let list = if flag("normalized") {
            &mut second
        } else {
            &mut first
        };
        list.extend((!text.is_empty()).then_some(text));
    }
    let hides = |late: &str, early: &str| {
        let mut starts = early.char_indices().skip(1);
        late != early && late.contains(early)
            || starts.any(|(end, _)| late.ends_with(&early[..end]))
    };
    for late in second {
        if let Some(early) = first.iter().find(|early| hides(late, early)) {
            return Err(format!(
                "added tokens {early:?} and {late:?} overlap and differ in normalized, which has no place in a GGUF file"
            ));
        }
    }
    Ok(())
}

/// Texts and kinds by id, rows that no token uses filled in as llama.cpp's converter does.
fn read_tokens(
    json: &Value,
    vocab_size: usize,
) -> std::result::Result<(Vec<String>, Vec<TokenType>), String> {
    let mut tokens: Vec<Option<(String, TokenType)>> = vec![None; vocab_size];
    let mut put = |text: &str, id: Option<u64>, kind: TokenType| {
        let slot = id.and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        let Some(slot) = slot else {
            return Err(format!(
                "token {text:?} has an id outside the {vocab_size} embeddings of config.json"
            ));
        };
        *slot = Some((text.to_owned(), kind));
        Ok(())
    };
    let vocab = json["model"]["vocab"]
        .as_object()
        .ok_or("model.vocab is missing")?;
    for (text, id) in vocab {
        put(text, id.as_u64(), TokenType::Normal)?;
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"]
            .as_str()
            .ok_or("added_tokens: one has no content")?;
        let kind = match token["special"].as_bool() {
            Some(true) => TokenType::Control,
            _ => TokenType::UserDefined,
        };
        put(text, token["id"].as_u64(), kind)?;
    }
    let named = |(id, token): (usize, Option<_>)| {
        token.unwrap_or_else(|| (format!("[PAD{id}]"), TokenType::Unused))
    };
    Ok(tokens.into_iter().enumerate().map(named).unzip())
}

/// Merges, written as "a b" or, since tokenizers 0.20, as ["a", "b"].
fn read_merges(merges: &Value) -> std::result::Result<Vec<(String, String)>, String> {
    let merges = merges.as_array().ok_or("model.merges is missing")?;
    let pair = |(rank, merge): (usize, &Value)| {
        let (left, right) =
            merge_pair(merge).ok_or_else(|| format!("model.merges[{rank}] is not a pair"))?;
        Ok((left.to_owned(), right.to_owned()))
    };
    merges.iter().enumerate().map(pair).collect()
}

/// Whether the post-processor puts `bos` before a text; `None` if it does not say.
fn begins_with(post_processor: &Value, bos: &str) -> Option<bool> {
    match post_processor["type"].as_str()? {
        "Sequence" => post_processor["processors"]
            .as_array()?
            .iter()
            .find_map(|inner| begins_with(inner, bos)),
        "TemplateProcessing" => {
            let first = post_processor["single"].as_array()?.first()?;
            Some(first["SpecialToken"]["id"] == bos)
        }
        _ => None,
    }
}

/// The files beside tokenizer.json, null where absent.
struct Sides {
    tokenizer: Value,
    generation: Value,
    config: Value,
}

impl Sides {
    fn read(dir: &Path) -> Result<Self> {
        let optional = |name: &str| {
            let path = dir.join(name);
            if path.exists() {
                read_json(&path)
            } else {
                Ok(Value::Null)
            }
        };
        Ok(Self {
            tokenizer: optional("tokenizer_config.json")?,
            generation: optional("generation_config.json")?,
            config: optional("config.json")?,
        })
    }

    /// The id of a special token: its text in tokenizer_config.json, or the first of the numbers
    /// in generation_config.json or config.json.
    fn special(&self, name: &str, id_of: impl Fn(&str) -> Option<u32>) -> Option<u32> {
        let token = &self.tokenizer[format!("{name}_token")];
        let text = token.as_str().or(token["content"].as_str());
        text.and_then(id_of).or_else(|| {
            [&self.generation, &self.config]
                .into_iter()
                .find_map(|file| {
                    let id = &file[format!("{name}_token_id")];
                    let first = id.as_array().and_then(|ids| ids.first()).unwrap_or(id);
                    u32::try_from(first.as_u64()?).ok()
                })
        })
    }

    /// The ids that end an answer, as `transformers` finds them: all of generation_config.json's, or of
    /// config.json's where that file has none.
    fn ends(&self) -> Vec<u32> {
        let ids = [&self.generation, &self.config].map(|file| {
            let ids = &file["eos_token_id"];
            let all = ids
                .as_array()
                .map_or(std::slice::from_ref(ids), Vec::as_slice);
            let ids = all.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok());
            ids.collect::<Vec<u32>>()
        });
        let found = ids.into_iter().find(|ids| !ids.is_empty());
        found.unwrap_or_default()
    }

    /// The default chat template, from `chat_template.jinja` or tokenizer_config.json.
    fn chat_template(&self, dir: &Path) -> Result<Option<String>> {
        let path = dir.join("chat_template.jinja");
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
            return Ok(Some(text));
        }
        let template = &self.tokenizer["chat_template"];
        let named_default = || {
            let templates = template.as_array()?.iter();
            templates
                .filter(|entry| entry["name"] == "default")
                .find_map(|entry| entry["template"].as_str())
        };
        let text = template.as_str().or_else(named_default);
        Ok(text.map(str::to_owned))
    }
}

fn read_json(path: &Path) -> Result<Value> {
    parse_json(path, &std::fs::read(path).map_err(Error::io(path))?)
}

fn parse_json(path: &Path, text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text).map_err(|error| Error::format(path, format!("JSON: {error}")))
}
