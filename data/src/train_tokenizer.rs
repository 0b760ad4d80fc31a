//! Trains a byte-level BPE vocabulary on shards (Sennrich et al., arXiv 1508.07909; bytes and
//! pre-tokenization as in GPT-2).
//!
//! Every byte is in the vocabulary, so any text round-trips. Ids: 0 is `<|endoftext|>`, then the
//! 256 bytes, then the merges from the most frequent. The same shards give the same tokenizer on
//! any number of threads.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::error::{Error, Result};
use crate::order::documents_with_progress;
use crate::progress::Progress;
use crate::source::Shards;
use crate::tokenizer::Tokenizer;

/// The token that ends a document, id 0.
const END_OF_TEXT: &str = "<|endoftext|>";
/// 256 bytes and the end-of-text token.
const SMALLEST: usize = 257;

/// Trains a vocabulary of `vocab_size` tokens on every document of `shards`.
///
/// The vocabulary is smaller than asked if the text has no more pairs to merge:
/// [`Tokenizer::vocab_size`] says what it came to. Distinct words are held in memory, documents
/// are not. `progress` counts documents; it is called from any thread.
///
/// # Errors
///
/// [`Error::TokenizerTraining`] if `vocab_size` is below 257 or there is no text, and any error of
/// reading the shards.
pub fn train_tokenizer(
    shards: &Arc<Shards>,
    vocab_size: usize,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Tokenizer> {
    if vocab_size < SMALLEST {
        return Err(Error::TokenizerTraining(format!(
            "a vocabulary of {vocab_size} is too small: 256 bytes and {END_OF_TEXT} take \
             {SMALLEST}"
        )));
    }
    let failed = |e: tokenizers::Error| Error::TokenizerTraining(e.to_string());
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

    // The trainer takes plain strings: the first error ends the text and is kept for afterwards.
    let stopped: Mutex<Option<Error>> = Mutex::new(None);
    let done = AtomicU64::new(0);
    let texts = documents_with_progress(shards)
        .map_while(|document| match document {
            Ok(document) => Some(document),
            Err(error) => {
                if let Ok(mut stopped) = stopped.lock() {
                    *stopped = Some(error);
                }
                None
            }
        })
        .map(|(text, fraction)| {
            let documents = done.fetch_add(1, Ordering::Relaxed) + 1;
            if documents.is_multiple_of(256) {
                progress(Progress {
                    what: "tokenizer",
                    fraction,
                    documents,
                });
            }
            text
        });
    inner.train(&mut trainer, texts).map_err(failed)?;
    if let Ok(Some(error)) = stopped.into_inner() {
        return Err(error);
    }
    if done.into_inner() == 0 {
        return Err(Error::TokenizerTraining("the shards hold no text".into()));
    }
    let json = inner.to_string(true).map_err(failed)?.into_bytes();
    Tokenizer::from_parts(
        Path::new("trained tokenizer"),
        json,
        None,
        Some(END_OF_TEXT),
    )
}
