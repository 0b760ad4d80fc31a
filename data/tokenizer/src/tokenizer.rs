//! [`Tokenizer`]: a Hugging Face `tokenizer.json`, its `tokenizer_config.json` and the id that ends
//! a document.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::bpe::ByteLevelBpe;
use crate::error::{Error, Result};
use crate::tokenizer_json;

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

/// A tokenizer and the id that ends a document. Clones share what is large.
#[derive(Clone)]
pub struct Tokenizer {
    pub(crate) inner: Arc<tokenizers::Tokenizer>,
    /// The fast encoder, or why there is none.
    pub(crate) fast: Result<Arc<ByteLevelBpe>, String>,
    /// `tokenizer.json` as it was read or made, so that saving changes nothing.
    json: Arc<[u8]>,
    fingerprint: u64,
    /// `tokenizer_config.json`, as read or made.
    config: Value,
    eot: u32,
    eot_token: String,
    vocab_size: usize,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` and the config beside it, as [`from_file`](Self::from_file) does.
    pub(crate) fn from_json_file(file: &Path, eot: Option<&str>) -> Result<Self> {
        let json = tokenizer_json::read(file)?;
        let config = tokenizer_json::config_beside(file)?;
        Self::from_parts(file, json, config, eot)
    }

    /// Builds a tokenizer from the contents of its two files; `path` is for messages.
    pub(crate) fn from_parts(
        path: &Path,
        json: Vec<u8>,
        config: Option<Value>,
        eot: Option<&str>,
    ) -> Result<Self> {
        let wrong = |reason: String| Error::invalid(path, reason);
        let tokenizer_json::Opened {
            inner,
            fast,
            last_id,
        } = tokenizer_json::open(&json).map_err(wrong)?;
        let eot_token = end_of_text(&inner, config.as_ref(), eot).map_err(wrong)?;
        let eot = inner
            .token_to_id(&eot_token)
            .ok_or_else(|| wrong(format!("no id for the end-of-text token {eot_token:?}")))?;
        let config = config.unwrap_or_else(|| tokenizer_json::config(None, &eot_token, None));
        Ok(Self {
            inner: Arc::new(inner),
            fast: fast.map(Arc::new),
            fingerprint: xxh3_64(&json),
            json: json.into(),
            config,
            eot,
            eot_token,
            vocab_size: last_id as usize + 1,
        })
    }

    /// Builds a tokenizer from its two files as JSON; `path` is for messages.
    pub(crate) fn from_values(path: &Path, json: &Value, config: Value, eot: &str) -> Result<Self> {
        let json = serde_json::to_vec(json).map_err(|e| Error::invalid(path, e.to_string()))?;
        Self::from_parts(path, json, Some(config), Some(eot))
    }

    /// The contents of `tokenizer.json`, as read or made.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The contents of `tokenizer_config.json`, as read or made.
    pub fn config(&self) -> &Value {
        &self.config
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

    /// The id of the `bos_token` that `tokenizer_config.json` names.
    pub fn bos(&self) -> Option<u32> {
        let named = &self.config["bos_token"];
        let token = named.as_str().or(named["content"].as_str())?;
        self.inner.token_to_id(token)
    }

    /// XXH3 of `tokenizer.json`, byte for byte as [`save`](Self::save) writes it: what ids kept
    /// between runs are known by. The end-of-text token is not part of it.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into `dir`, which is made if need be, so
    /// that `transformers.AutoTokenizer` opens it. Returns the path of `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with the path.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<PathBuf> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let path = dir.join("tokenizer.json");
        retort_files::write(&path, &self.json).map_err(Error::io(&path))?;
        let config = dir.join("tokenizer_config.json");
        let text = format!("{:#}\n", self.config);
        retort_files::write(&config, text.as_bytes()).map_err(Error::io(&config))?;
        Ok(path)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("fingerprint", &format_args!("{:016x}", self.fingerprint))
            .field("vocab_size", &self.vocab_size)
            .field("eot_token", &self.eot_token)
            .finish_non_exhaustive()
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
