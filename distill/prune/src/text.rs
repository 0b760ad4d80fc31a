//! Text that pruning counts tokens in or runs through the parent.
//!
//! In: a source, the parent's tokenizer, a number of tokens. Out: documents as ids, each with an
//! end-of-text id behind it; or sequences of one length cut out of them, as batches `[B, T]`.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_data::{Shards, SourceOptions};
use retort_tokenizer::Tokenizer;

use crate::error::{Error, Result};

/// A source of text and how much of it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct TextSource {
    /// A source as `retort data inspect` takes it.
    pub source: String,
    /// Tokens at most.
    pub tokens: usize,
}

impl TextSource {
    /// The ids of each document, with the end-of-text id behind them, until there are
    /// `self.tokens` of them; the last document is not cut.
    pub(crate) fn documents(
        &self,
        tokenizer: &Tokenizer,
    ) -> Result<impl Iterator<Item = Result<Vec<u32>>>> {
        let shards = Arc::new(Shards::resolve(&self.source, &SourceOptions::default())?);
        let (tokenizer, mut left) = (tokenizer.clone(), self.tokens);
        let ids = retort_data::documents(&shards).map(move |text| -> Result<Vec<u32>> {
            let mut ids = tokenizer.encode(&text?)?;
            ids.push(tokenizer.eot());
            Ok(ids)
        });
        Ok(ids.take_while(move |ids| {
            let wanted = left > 0;
            left = left.saturating_sub(ids.as_ref().map_or(0, Vec::len));
            wanted
        }))
    }
}

/// Sequences of one length, from the beginning of a source.
#[derive(Clone, Debug)]
pub(crate) struct CalibrationText {
    ids: Vec<i32>,
    seq_len: usize,
}

impl CalibrationText {
    /// Reads `text` into sequences of `seq_len` ids, all below `vocabulary`.
    ///
    /// # Errors
    /// Anything wrong with the source, too little text for one sequence, or an id that the model
    /// has no row for.
    pub(crate) fn read(
        text: &TextSource,
        tokenizer: &Tokenizer,
        vocabulary: usize,
        seq_len: usize,
    ) -> Result<Self> {
        let mut ids = Vec::new();
        for document in text.documents(tokenizer)? {
            ids.extend(document?);
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            let reason = format!("has id {id}, but the model has {vocabulary} rows");
            return Err(Error::option("data", format!("the tokenizer {reason}")));
        }
        ids.truncate(text.tokens);
        let rows = ids.len() / seq_len;
        if rows == 0 {
            let reason = format!(
                "{} tokens do not fill one row of {seq_len}: give more text or tokens",
                ids.len()
            );
            return Err(Error::option("data", reason));
        }
        ids.truncate(rows * seq_len);
        Ok(Self {
            // Ids are below 2³¹: `Tokenizer` sees to it.
            ids: ids.into_iter().map(|id| id as i32).collect(),
            seq_len,
        })
    }

    /// Tokens in all sequences.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Batches `[B, T]` of about `tokens` ids each and at least one sequence.
    pub(crate) fn batches(
        &self,
        tokens: usize,
        device: &Device,
    ) -> impl Iterator<Item = Tensor<2, Int>> {
        let rows = (tokens / self.seq_len).max(1);
        self.ids.chunks(rows * self.seq_len).map(move |ids| {
            let shape = [ids.len() / self.seq_len, self.seq_len];
            Tensor::from_data(TensorData::new(ids.to_vec(), shape), device)
        })
    }
}
