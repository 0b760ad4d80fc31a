//! The vocabulary's way in and out of a GGUF file's `tokenizer.ggml.*` keys.

use super::gguf_tokenizer::Tokenizer;
use super::pre;
use super::vocabulary::{EOS_IDS, TokenType, Vocabulary};
use retort_format::gguf::{Metadata, Value};
use retort_format::{Error, Result};
use retort_tokenizer::SplitRule;

/// Where a file of retort's says whether text is normalized, if that is not what the rule's name says.
const NFC: &str = "retort.tokenizer.nfc";

impl Tokenizer {
    /// The tokenizer inside `gguf`.
    pub fn from_gguf(gguf: &Metadata) -> Result<Self> {
        let vocabulary = Vocabulary::from_gguf(gguf)?;
        Self::new(vocabulary).map_err(|problem| Error::tokenizer(gguf.path(), problem))
    }
}

impl Vocabulary {
    /// Reads the tables of `gguf`; a tokenizer of another kind is one clear error.
    pub fn from_gguf(gguf: &Metadata) -> Result<Self> {
        let model = gguf.str("tokenizer.ggml.model")?;
        if model != "gpt2" {
            let problem = format!("model {model} is not supported; gpt2 (byte-level BPE) is");
            return Err(Error::tokenizer(gguf.path(), problem));
        }
        let pre_key = "tokenizer.ggml.pre";
        let name = gguf.optional(pre_key, Metadata::str)?;
        let split = match name {
            None => SplitRule::PunctuationGpt2,
            Some(name) => pre::from_name(name).ok_or_else(|| {
                let problem = format!("{name} is not supported; {} are", pre::names());
                Error::metadata(gguf.path(), pre_key, problem)
            })?,
        };
        let nfc = gguf.optional(NFC, Metadata::bool)?;
        let nfc = nfc.unwrap_or(name.is_some_and(pre::nfc_by_default));
        let tokens = gguf.str_array("tokenizer.ggml.tokens")?.to_vec();
        let exists = |id: &u32| (*id as usize) < tokens.len();
        // As llama.cpp reads them: an id that no token has is as if it were not there. Some files have -1 for a padding
        // token, or the id of one that was never added. Only a text's end must be right.
        let id = |name: &str| {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match gguf.get(&key).and_then(Value::as_integer) {
                Some(-1) => Ok(None),
                _ => gguf.optional(&key, Metadata::u32),
            }
        };
        let bos = id("bos")?.filter(exists);
        let more_ends = match gguf.optional(EOS_IDS, Metadata::i32_array)? {
            None => Vec::new(),
            Some(ids) => (ids.into_iter())
                .map(|id| {
                    u32::try_from(id).map_err(|_| {
                        Error::metadata(gguf.path(), EOS_IDS, format!("{id} is no id of a token"))
                    })
                })
                .collect::<Result<_>>()?,
        };
        let add_bos = gguf.optional("tokenizer.ggml.add_bos_token", Metadata::bool)?;
        let by_default = pre::add_bos_by_default(split) && bos.is_some();
        Ok(Self {
            types: read_types(gguf, tokens.len())?,
            merges: read_merges(gguf)?,
            split,
            nfc,
            bos,
            eos: id("eos")?,
            eot: id("eot")?.filter(exists),
            eom: id("eom")?.filter(exists),
            more_ends,
            pad: id("padding")?.filter(exists),
            tokens,
            add_bos: add_bos.unwrap_or(by_default),
        })
    }

    /// Writes the tables as metadata.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.set("tokenizer.ggml.model", "gpt2");
        let pre = pre::name(self.split);
        metadata.set("tokenizer.ggml.pre", pre);
        if self.nfc != pre::nfc_by_default(pre) {
            metadata.set(NFC, self.nfc);
        }
        metadata.set("tokenizer.ggml.tokens", self.tokens.clone());
        let types: Vec<i32> = self.types.iter().map(|kind| *kind as i32).collect();
        metadata.set("tokenizer.ggml.token_type", types);
        let merges: Vec<String> = self
            .merges
            .iter()
            .map(|(left, right)| format!("{left} {right}"))
            .collect();
        metadata.set("tokenizer.ggml.merges", merges);
        for (name, id) in self.special_ids() {
            if let Some(id) = id {
                metadata.set(&format!("tokenizer.ggml.{name}_token_id"), id);
            }
        }
        if !self.more_ends.is_empty() {
            metadata.set(EOS_IDS, self.more_ends.clone());
        }
        metadata.set("tokenizer.ggml.add_bos_token", self.add_bos);
    }
}

fn read_types(gguf: &Metadata, n_tokens: usize) -> Result<Vec<TokenType>> {
    let key = "tokenizer.ggml.token_type";
    let Some(numbers) = gguf.optional(key, Metadata::i32_array)? else {
        return Ok(vec![TokenType::Normal; n_tokens]);
    };
    let kind = |number: i32| {
        TokenType::from_number(number).ok_or_else(|| {
            Error::metadata(gguf.path(), key, format!("{number} is no kind of token"))
        })
    };
    numbers.into_iter().map(kind).collect()
}

fn read_merges(gguf: &Metadata) -> Result<Vec<(String, String)>> {
    let key = "tokenizer.ggml.merges";
    let pair = |(rank, entry): (usize, &String)| {
        Vocabulary::parse_merge(entry).ok_or_else(|| {
            let problem = format!("entry {rank} ({entry:?}) is not two texts and a space");
            Error::metadata(gguf.path(), key, problem)
        })
    };
    gguf.str_array(key)?.iter().enumerate().map(pair).collect()
}
