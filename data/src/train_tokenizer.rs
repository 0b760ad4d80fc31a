//! Trains a tokenizer on shards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use retort_tokenizer::Tokenizer;

use crate::documents::documents_with_progress;
use crate::error::{Error, Result};
use crate::progress::DocumentProgress;
use crate::source::Shards;

/// Trains a vocabulary of `vocab_size` tokens on every document of `shards`
/// ([`retort_tokenizer::train`]).
///
/// `progress` counts documents; it is called from any thread.
///
/// # Errors
///
/// [`retort_tokenizer::Error::Training`], and any error of reading the shards.
pub fn train_tokenizer(
    shards: &Arc<Shards>,
    vocab_size: usize,
    progress: &(dyn Fn(DocumentProgress) + Sync),
) -> Result<Tokenizer> {
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
                progress(DocumentProgress {
                    what: "tokenizer",
                    fraction,
                    documents,
                });
            }
            text
        });
    let trained = retort_tokenizer::train(texts, vocab_size);
    if let Ok(Some(error)) = stopped.into_inner() {
        return Err(error);
    }
    Ok(trained?)
}
