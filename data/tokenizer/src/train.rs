//! Trains a byte-level BPE vocabulary on texts (Sennrich et al., arXiv 1508.07909; bytes and
//! pre-tokenization as in GPT-2).
//!
//! Every byte is in the vocabulary, so any text round-trips. Ids: 0 is `<|endoftext|>`, then the
//! 256 bytes, then the merges from the most frequent. The same texts give the same tokenizer on
//! any number of threads.

use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The token that ends a document, id 0.
const END_OF_TEXT: &str = "<|endoftext|>";
/// 256 bytes and the end-of-text token.
const SMALLEST: usize = 257;

/// Trains a vocabulary of `vocab_size` tokens on every one of `texts`.
///
/// The vocabulary is smaller than asked if the text has no more pairs to merge:
/// [`Tokenizer::vocab_size`] says what it came to. Distinct words are held in memory, texts are
/// not.
///
/// # Errors
///
/// [`Error::Training`] if `vocab_size` is below 257 or there is no text.
pub fn train(texts: impl Iterator<Item = String> + Send, vocab_size: usize) -> Result<Tokenizer> {
    if vocab_size < SMALLEST {
        return Err(Error::Training(format!(
            "a vocabulary of {vocab_size} is too small: 256 bytes and {END_OF_TEXT} take \
             {SMALLEST}"
        )));
    }
    let failed = |e: tokenizers::Error| Error::Training(e.to_string());
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let bytes = ByteLevel::default()
        .add_prefix_space(false)
        .trim_offsets(false);
    let mut inner = TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, _, _, _>::new()
        .with_model(BPE::default())
        .with_pre_tokenizer(Some(bytes))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()
        .map_err(failed)?;

    let mut read = 0u64;
    let texts = texts.inspect(|_| read += 1);
    inner.train(&mut trainer, texts).map_err(failed)?;
    if read == 0 {
        return Err(Error::Training("there is no text".into()));
    }
    let json = inner.to_string(true).map_err(failed)?.into_bytes();
    Tokenizer::from_parts(
        Path::new("trained tokenizer"),
        json,
        None,
        Some(END_OF_TEXT),
    )
}
