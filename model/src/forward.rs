//! Forward passes over a whole decoder.

use burn::tensor::{Int, Tensor};
use retort_ops::{AttentionMask, Documents};

use crate::cache::Cache;
use crate::decoder::Decoder;

impl Decoder {
    /// The last layer's normed output `[B, T, D]` for ids `[B, T]`, each row one document.
    pub fn hidden(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.layerwise(ids, None).forward(None)
    }

    /// The same for documents packed into rows: attention stays within a document and
    /// positions start again in each.
    ///
    /// # Panics
    /// `documents` has other dimensions than `ids`, or the model rounds keys and values.
    pub fn hidden_packed(&self, ids: Tensor<2, Int>, documents: &Documents) -> Tensor<3> {
        self.layerwise(ids, Some(documents)).forward(None)
    }

    /// The same for ids `[B, T]` that follow those in `cache`, which takes them in. An
    /// empty cache may be given any B; afterwards B stays.
    ///
    /// Exact as long as [`Cache::fits`] says so.
    pub fn hidden_cached(&self, ids: Tensor<2, Int>, cache: &mut Cache) -> Tensor<3> {
        let mask = AttentionMask::Cached(cache.length);
        cache.length += ids.dims()[1];
        cache.layers.resize_with(self.layers.len(), || None);
        self.layerwise_masked(ids, mask).forward(Some(cache))
    }

    /// Logits `[B, T, V]` for ids `[B, T]`, each row one document.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.logits(self.hidden(ids))
    }
}
