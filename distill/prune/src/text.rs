//! Text that a parent is watched on.
//!
//! In: a source, the parent's tokenizer, a number of tokens. Out: rows of ids of one length,
//! documents one after another with an end-of-text id behind each, from the source's
//! beginning; batches of them `[B, T]` on a device.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_data::{Shards, SourceOptions, Tokenizer};

use super::error::{Error, Result};

/// See the module.
#[derive(Clone, Debug)]
pub struct Calibration {
    ids: Vec<i32>,
    length: usize,
}

/// Where text comes from and how much of it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// A source as `retort data inspect` takes it.
    pub source: String,
    /// Tokens at most.
    pub tokens: usize,
}

impl Text {
    /// The ids of its documents, each with the end-of-text id behind it. The last is given
    /// whole.
    pub(super) fn documents(
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
            let go = left > 0;
            left = left.saturating_sub(ids.as_ref().map_or(0, Vec::len));
            go
        }))
    }
}

impl Calibration {
    /// Reads `text` into rows of `length` ids, all below `vocabulary`.
    ///
    /// # Errors
    /// Anything wrong with the source; too little text for one row; ids that the model has no
    /// row for.
    pub fn read(
        text: &Text,
        tokenizer: &Tokenizer,
        vocabulary: usize,
        length: usize,
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
        let rows = ids.len() / length;
        if rows == 0 {
            let reason = format!(
                "{} tokens do not fill one row of {length}: give more text or tokens",
                ids.len()
            );
            return Err(Error::option("data", reason));
        }
        ids.truncate(rows * length);
        Ok(Self {
            // Ids are below 2³¹: `Tokenizer` sees to it.
            ids: ids.into_iter().map(|id| id as i32).collect(),
            length,
        })
    }

    /// Tokens in all rows.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Batches `[B, T]` of about `tokens` ids each, one row at least.
    pub(super) fn batches(
        &self,
        tokens: usize,
        device: &Device,
    ) -> impl Iterator<Item = Tensor<2, Int>> {
        let rows = (tokens / self.length).max(1);
        self.ids.chunks(rows * self.length).map(move |ids| {
            let shape = [ids.len() / self.length, self.length];
            Tensor::from_data(TensorData::new(ids.to_vec(), shape), device)
        })
    }
}
