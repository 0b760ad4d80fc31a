//! Text to token ids and back: a Hugging Face `tokenizer.json` with its end-of-text id.
//!
//! Documents come from the open web, so a special token spelled out in a document is encoded as
//! ordinary text: only this crate puts end-of-text ids into the data. Truncation and padding that
//! a `tokenizer.json` may carry are switched off. Ids do not depend on the number of threads.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;

use crate::error::{Error, Result};
use crate::files::write_whole;

/// Names an end-of-text token goes by, tried in this order when nothing else names it.
const END_OF_TEXT: [&str; 7] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<|im_end|>",
    "<eos>",
    "<|eot_id|>",
    "[EOS]",
];

/// Words whose ids each thread remembers. The library's 10,000 fill up within the first megabytes of
/// web text; this many take about 20 MB a thread.
const CACHED_WORDS: usize = 1 << 17;

/// A tokenizer and the id that ends a document.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// `tokenizer.json` as it was read or trained, so that saving changes nothing.
    json: Vec<u8>,
    /// `tokenizer_config.json`, as read or made.
    config: Value,
    eot: u32,
    eot_token: String,
    vocab_size: usize,
}

impl Tokenizer {
    /// Reads `path`, a `tokenizer.json` or a directory that holds one.
    ///
    /// The end-of-text token is `eot` if given, else the `eos_token` of a `tokenizer_config.json`
    /// beside the file, else the first of the usual names that the vocabulary has
    /// (`<|endoftext|>`, `</s>`, `<|im_end|>` …).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, [`Error::Tokenizer`] if it is not a tokenizer or
    /// has no end-of-text token.
    pub fn from_file(path: impl AsRef<Path>, eot: Option<&str>) -> Result<Self> {
        let path = path.as_ref();
        let file = if path.is_dir() {
            path.join("tokenizer.json")
        } else {
            path.to_owned()
        };
        let json = std::fs::read(&file).map_err(|e| Error::io(&file, "read the tokenizer", e))?;
        let config_path = file.with_file_name("tokenizer_config.json");
        let config = match std::fs::read(&config_path) {
            Ok(bytes) => Some(
                serde_json::from_slice(&bytes).map_err(|e| Error::Tokenizer {
                    path: config_path,
                    reason: format!("not valid JSON: {e}"),
                })?,
            ),
            Err(_) => None,
        };
        Self::from_parts(&file, json, config, eot)
    }

    /// Builds a tokenizer from the contents of its two files; `path` is for messages.
    pub(crate) fn from_parts(
        path: &Path,
        json: Vec<u8>,
        config: Option<Value>,
        eot: Option<&str>,
    ) -> Result<Self> {
        let wrong = |reason: String| Error::Tokenizer {
            path: path.to_owned(),
            reason,
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(&json)
            .map_err(|e| wrong(format!("not a Hugging Face tokenizer.json: {e}")))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| wrong(e.to_string()))?;
        inner.set_encode_special_tokens(true);
        if let ModelWrapper::BPE(bpe) = inner.get_model() {
            let mut bpe = bpe.clone();
            bpe.resize_cache(CACHED_WORDS);
            inner.with_model(bpe);
        }
        let eot_token = end_of_text(&inner, config.as_ref(), eot).map_err(wrong)?;
        let eot = inner
            .token_to_id(&eot_token)
            .ok_or_else(|| wrong(format!("no id for the end-of-text token {eot_token:?}")))?;
        let last = inner.get_vocab(true).into_values().max().unwrap_or(eot);
        let vocab_size = last as usize + 1;
        if i32::try_from(last).is_err() {
            return Err(wrong(format!("the id {last} does not fit 31 bits")));
        }
        let config = config.unwrap_or_else(|| {
            json!({
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": null,
                "eos_token": eot_token,
                "unk_token": null,
                "clean_up_tokenization_spaces": false,
            })
        });
        Ok(Self {
            inner,
            json,
            config,
            eot,
            eot_token,
            vocab_size,
        })
    }

    /// A hash of `tokenizer.json`.
    pub fn fingerprint(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.json)
    }

    /// The id that ends a document.
    pub fn eot(&self) -> u32 {
        self.eot
    }

    /// The token that ends a document, as the vocabulary spells it.
    pub fn eot_token(&self) -> &str {
        &self.eot_token
    }

    /// One more than the largest id: the rows an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token with this id as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The ids of `text`, without any added begin or end token; special tokens spelled out in the
    /// text are ordinary text.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenize`] if the tokenizer's model cannot encode it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.inner
            .encode_fast(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| Error::Tokenize(e.to_string()))
    }

    /// [`encode`](Self::encode) for each of `texts`, in their order, on all threads of the current
    /// rayon pool.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenize`] as for one text.
    pub fn encode_batch<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<u32>>> {
        texts
            .par_iter()
            .map(|text| self.encode(text.as_ref()))
            .collect()
    }

    /// The text of `ids`; special tokens are left out, bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenize`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, true)
            .map_err(|e| Error::Tokenize(e.to_string()))
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into `dir`, which is made if need be, so
    /// that `transformers.AutoTokenizer` opens it. Returns the path of `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with the path.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<PathBuf> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, "make the directory", e))?;
        let path = dir.join("tokenizer.json");
        write_whole(&path, &self.json)?;
        let config = format!("{:#}\n", self.config);
        write_whole(&dir.join("tokenizer_config.json"), config.as_bytes())?;
        Ok(path)
    }
}

/// Chooses the end-of-text token, or says why there is none.
fn end_of_text(
    inner: &tokenizers::Tokenizer,
    config: Option<&Value>,
    eot: Option<&str>,
) -> std::result::Result<String, String> {
    if let Some(token) = eot {
        return match inner.token_to_id(token) {
            Some(_) => Ok(token.to_owned()),
            None => Err(format!(
                "the vocabulary has no token {token:?} to end a document with"
            )),
        };
    }
    // `eos_token` is a string, or an object with the string under `content`.
    let named = config
        .map(|c| &c["eos_token"])
        .and_then(|t| t.as_str().or(t["content"].as_str()));
    named
        .into_iter()
        .chain(END_OF_TEXT)
        .find(|token| inner.token_to_id(token).is_some())
        .map(str::to_owned)
        .ok_or_else(|| {
            format!(
                "no end-of-text token: none of {} is in the vocabulary; name one as eos_token in \
                 tokenizer_config.json",
                END_OF_TEXT.join(", ")
            )
        })
}
