//! Text to token ids and back: a Hugging Face `tokenizer.json` with its end-of-text id.
//!
//! Documents come from the open web, so a special token spelled out in a document is encoded as
//! ordinary text: only this crate puts end-of-text ids into the data. Truncation and padding that
//! a `tokenizer.json` may carry are switched off. Ids do not depend on the number of threads.
//!
//! The `tokenizers` crate reads the file, decodes, and is the measure of what is right; text that
//! a byte-level BPE with a published split rule encodes takes the faster way of [`fast`].

mod convert;
mod fast;
mod lengths;
mod open;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

pub use convert::{convert, convert_sentencepiece, convert_tiktoken};

use crate::error::{Error, Result};
use fast::Fast;
use open::guarded;

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
    inner: Arc<tokenizers::Tokenizer>,
    /// The fast encoder, or why there is none.
    fast: Result<Arc<Fast>, String>,
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
    /// Reads `path`, a `tokenizer.json` or a directory that holds one.
    ///
    /// The end-of-text token is `eot` if given, else the `eos_token` of a `tokenizer_config.json`
    /// beside the file, else the first of the usual names that the vocabulary has
    /// (`<|endoftext|>`, `</s>`, `<|im_end|>` …).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, [`Error::Tokenizer`] if it is not a tokenizer, is
    /// larger than 256 MiB or has no end-of-text token.
    pub fn from_file(path: impl AsRef<Path>, eot: Option<&str>) -> Result<Self> {
        let path = path.as_ref();
        let file = if path.is_dir() {
            path.join("tokenizer.json")
        } else {
            path.to_owned()
        };
        let json = open::read(&file)?;
        let config = open::config_beside(&file)?;
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
        let open::Opened {
            inner,
            fast,
            last_id,
        } = open::open(&json).map_err(wrong)?;
        let eot_token = end_of_text(&inner, config.as_ref(), eot).map_err(wrong)?;
        let eot = inner
            .token_to_id(&eot_token)
            .ok_or_else(|| wrong(format!("no id for the end-of-text token {eot_token:?}")))?;
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

    /// The ids that the file's post-processor puts before and after a text, as `transformers`
    /// encodes one; [`encode`](Self::encode) leaves them out.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenize`] if the tokenizer's model cannot encode a letter.
    pub fn around(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let ids = |added| {
            let encoding = guarded(|| self.inner.encode_fast("a", added));
            encoding
                .map(|e| e.get_ids().to_vec())
                .map_err(Error::Tokenize)
        };
        let (bare, whole) = (ids(false)?, ids(true)?);
        let place = whole
            .windows(bare.len().max(1))
            .position(|part| part == bare);
        Ok(match place {
            Some(place) => (
                whole[..place].to_vec(),
                whole[place + bare.len()..].to_vec(),
            ),
            None => (Vec::new(), Vec::new()),
        })
    }

    /// XXH3 of `tokenizer.json`, byte for byte as [`save`](Self::save) writes it: what ids kept
    /// between runs are known by. The end-of-text token is not part of it.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether this tokenizer has the fast encoder, or why the `tokenizers` crate encodes.
    ///
    /// # Errors
    ///
    /// The reason, for a person to read.
    pub fn has_fast_encoder(&self) -> std::result::Result<(), &str> {
        self.fast.as_ref().map(|_| ()).map_err(String::as_str)
    }

    /// The ids of `text`, without any added begin or end token; special tokens spelled out in the
    /// text are ordinary text.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenize`] if the tokenizer's model cannot encode it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Appends the ids of `text` to `ids`, as [`encode`](Self::encode) gives them.
    ///
    /// With the fast encoder each thread that calls this keeps 8 MiB of words, for all tokenizers
    /// together, and nothing is allocated for a document once `ids` is large enough.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenize`] if the tokenizer's model cannot encode it; `ids` is then as it was.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        match &self.fast {
            Ok(fast) => fast.encode_into(text, ids).map_err(Error::Tokenize),
            Err(_) => self.encode_by_reference(text, ids),
        }
    }

    /// [`encode_into`](Self::encode_into) by the `tokenizers` crate, whether or not there is a
    /// faster way: what the ids are checked against.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenize`] if the tokenizer's model cannot encode it.
    pub fn encode_by_reference(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let encoding = guarded(|| self.inner.encode_fast(text, false)).map_err(Error::Tokenize)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
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
        guarded(|| self.inner.decode(ids, true)).map_err(Error::Tokenize)
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
        let config = format!("{:#}\n", self.config);
        let files = [
            (path.clone(), self.json.as_ref()),
            (dir.join("tokenizer_config.json"), config.as_bytes()),
        ];
        for (path, bytes) in files {
            retort_files::write(&path, bytes).map_err(|e| Error::io(&path, "write it", e))?;
        }
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
