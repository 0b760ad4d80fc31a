//! Encoding and decoding.
//!
//! Documents come from the open web, so a special token spelled out in a text is encoded as
//! ordinary text: only the caller puts end-of-text ids between documents. Truncation and padding
//! that a `tokenizer.json` may carry are switched off. Ids do not depend on the number of threads.

use crate::catch_panic::catch_panic_as_error;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::tokenizer_json::LIBRARY_FAILED;

impl Tokenizer {
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
    /// [`Error::Encoding`] if the tokenizer's model cannot encode it.
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
    /// [`Error::Encoding`] if the tokenizer's model cannot encode it; `ids` is then as it was.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        match &self.fast {
            Ok(fast) => fast.encode_into(text, ids).map_err(Error::Encoding),
            Err(_) => self.encode_by_reference(text, ids),
        }
    }

    /// [`encode_into`](Self::encode_into) by the `tokenizers` crate, whether or not there is a
    /// faster way: what the ids are checked against.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if the tokenizer's model cannot encode it.
    pub fn encode_by_reference(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let encoding = catch_panic_as_error(LIBRARY_FAILED, || self.inner.encode_fast(text, false))
            .map_err(Error::Encoding)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The text of `ids`; special tokens are left out, bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        catch_panic_as_error(LIBRARY_FAILED, || self.inner.decode(ids, true))
            .map_err(Error::Encoding)
    }

    /// The text that `ids` add to that of `prompt`, which comes before them. Decoded by themselves
    /// they would be the beginning of a text, where decoders of SentencePiece's drop a space.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if the tokenizer's decoder fails.
    pub fn decode_continuation(&self, prompt: &[u32], ids: &[u32]) -> Result<String> {
        let before = self.decode(prompt)?;
        let mut text = self.decode(&[prompt, ids].concat())?;
        // They differ where the prompt ends within a character.
        let same = before.chars().zip(text.chars()).take_while(|(a, b)| a == b);
        let shared = same.map(|(c, _)| c.len_utf8()).sum();
        Ok(text.split_off(shared))
    }

    /// The ids that the file's post-processor puts before and after a text, as `transformers`
    /// encodes one; [`encode`](Self::encode) leaves them out.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] if the tokenizer's model cannot encode a letter.
    pub fn around(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let ids = |added| {
            let encoding =
                catch_panic_as_error(LIBRARY_FAILED, || self.inner.encode_fast("a", added));
            encoding
                .map(|e| e.get_ids().to_vec())
                .map_err(Error::Encoding)
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
}
