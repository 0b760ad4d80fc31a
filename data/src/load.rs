//! A data configuration to the two packed splits, in memory.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::config::DataConfig;
use crate::documents::documents;
use crate::encode::{Progress, encode_all, total_rows};
use crate::error::Result;
use crate::packed::{Packed, Packer};
use crate::source::resolve;
use crate::split::is_validation;
use crate::tokenizer::Tokenizer;

/// Both splits and what they were made from.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Rows to train on.
    pub train: Arc<Packed>,
    /// Rows to evaluate on; may be empty.
    pub validation: Arc<Packed>,
    /// Counts.
    pub stats: Stats,
}

/// Counts over the documents read. Tokens include one end-of-text id a document, and are counted
/// before `max_validation_rows` cuts the validation split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Documents read.
    pub documents: usize,
    /// Documents on the training side.
    pub train_documents: usize,
    /// Documents on the validation side.
    pub validation_documents: usize,
    /// UTF-8 bytes of all documents.
    pub bytes: u64,
    /// UTF-8 bytes of the validation documents.
    pub validation_bytes: u64,
    /// Tokens of all documents.
    pub tokens: u64,
    /// Tokens on the training side.
    pub train_tokens: u64,
    /// Tokens on the validation side.
    pub validation_tokens: u64,
    /// Wall time of reading, tokenizing and packing.
    pub seconds: f64,
}

/// Reads, tokenizes, splits and packs what `config` names.
///
/// Documents are read in bounded chunks and tokenized on all threads; the result is the same for
/// any number of them. `progress` is called after each chunk, on the calling thread.
///
/// # Errors
///
/// [`Error::Config`](crate::Error::Config) for an impossible value, and any error of resolving,
/// reading or tokenizing. A split too small for one row is an error only when batches are asked of
/// it.
pub fn load(
    config: &DataConfig,
    tokenizer: &Tokenizer,
    progress: &dyn Fn(Progress),
) -> Result<Dataset> {
    config.validate()?;
    let start = Instant::now();
    let paths = resolve(&config.source)?;
    let most = config.max_documents.unwrap_or(usize::MAX);
    let total = total_rows(&paths)?.min(most as u64);
    let packer = || Packer::new(tokenizer.vocab_size(), tokenizer.eot(), config.seq_len);
    let (mut train, mut validation) = (packer()?, packer()?);
    let mut stats = Stats::default();
    encode_all(
        documents(&paths).take(most),
        Some(tokenizer),
        |document, ids| {
            let (bytes, tokens) = (document.text.len() as u64, ids.len() as u64 + 1);
            stats.documents += 1;
            stats.bytes += bytes;
            stats.tokens += tokens;
            if is_validation(&document.text, config.validation_fraction) {
                stats.validation_documents += 1;
                stats.validation_bytes += bytes;
                stats.validation_tokens += tokens;
                validation.push(ids);
            } else {
                stats.train_documents += 1;
                stats.train_tokens += tokens;
                train.push(ids);
            }
        },
        |done| progress(Progress { done, total }),
    )?;
    let train = Arc::new(train.finish(None));
    let validation = Arc::new(validation.finish(config.max_validation_rows));
    stats.seconds = start.elapsed().as_secs_f64();
    Ok(Dataset {
        train,
        validation,
        stats,
    })
}
