//! How much each channel and head matters, by the sizes of weights.
//!
//! A score is the sum of |w| over all weights that read or write what is scored: for a channel
//! of the residual stream its columns of the tables and of q, k, v, gate and up and its rows
//! of o and down; for a key/value head its rows of k and v and its query heads' rows of q and
//! columns of o; for a channel of the feed-forward block its rows of gate and up and its
//! column of down. Norms and biases do not count. This is the criterion of L1-norm pruning (Li
//! et al., arXiv 1608.08710).
//!
//! In: a checkpoint, read a block of rows at a time. Out: an [`Importance`].

use retort_format::checkpoint::CheckpointReader;
use retort_format::{Axis, Kind, ModelConfig, tensors};

use super::error::Result;

/// What importance is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportanceBy {
    /// The sizes of weights.
    L1,
    /// The sizes of activations over text (`activations.rs`).
    #[default]
    Activation,
}

/// Scores, the higher the more important; those of layers for each layer kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Importance {
    /// Channels of the residual stream.
    pub hidden: Vec<f64>,
    /// Key/value heads with their query heads, `[layer][head]`.
    pub groups: Vec<Vec<f64>>,
    /// Channels of the feed-forward block, `[layer][channel]`.
    pub inner: Vec<Vec<f64>>,
}

impl Importance {
    /// All zero, for `layers` layers of `config`.
    pub(super) fn zero(config: &ModelConfig, layers: usize) -> Self {
        Self {
            hidden: vec![0.0; config.hidden_size],
            groups: vec![vec![0.0; config.num_key_value_heads]; layers],
            inner: vec![vec![0.0; config.inner_size()]; layers],
        }
    }

    /// Adds `value` to what element `i` of `dimension` belongs to in the kept layer `at`, if
    /// it is scored.
    fn add(
        &mut self,
        config: &ModelConfig,
        at: Option<usize>,
        dimension: Axis,
        i: usize,
        value: f64,
    ) {
        let group = config.num_attention_heads / config.num_key_value_heads;
        match (dimension, at) {
            (Axis::Hidden, _) => self.hidden[i] += value,
            (Axis::Queries, Some(at)) => {
                self.groups[at][i / (config.head_dim * group)] += value;
            }
            (Axis::Keys, Some(at)) => self.groups[at][i / config.head_dim] += value,
            (Axis::Inner, Some(at)) => self.inner[at][i] += value,
            _ => {}
        }
    }
}

/// The `n` indices of the highest scores, ascending; of equal ones the first.
pub(super) fn most(scores: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(n);
    order.sort_unstable();
    order
}

/// Weights read at once: 16 MiB in f32.
const READ: usize = 1 << 22;

/// Scores by the sizes of weights in the kept `layers` and the tables. `progress` is told
/// weights done.
pub(super) fn l1(
    parent: &CheckpointReader,
    layers: &[usize],
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Importance> {
    let config = parent.config();
    let mut importance = Importance::zero(config, layers.len());
    let mut done = 0;
    for spec in tensors(config) {
        let counted = matches!(spec.kind, Kind::Table | Kind::Matrix | Kind::Residual);
        let at = spec
            .layer()
            .map(|layer| layers.iter().position(|&kept| kept == layer));
        if !counted || at == Some(None) {
            continue;
        }
        let (at, width) = (at.flatten(), spec.shape[1]);
        for part in spec.axes() {
            let mut columns = vec![0.0; width];
            let step = (READ / width).max(1);
            for first in part.rows.clone().step_by(step) {
                let rows = first..part.rows.end.min(first + step);
                let values = parent.rows(&spec, rows.clone());
                for (row, values) in rows.zip(values.chunks(width)) {
                    let mut sum = 0.0;
                    for (column, value) in columns.iter_mut().zip(values) {
                        let size = f64::from(value.abs());
                        *column += size;
                        sum += size;
                    }
                    let i = row - part.rows.start;
                    importance.add(config, at, part.output, i, sum);
                }
                done += values.len() as u64;
                progress(done)?;
            }
            let input = part.input.into_iter();
            for (dimension, (i, sum)) in
                input.flat_map(|d| std::iter::repeat(d).zip(columns.iter().enumerate()))
            {
                importance.add(config, at, dimension, i, *sum);
            }
        }
    }
    Ok(importance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_important_keep_their_order_and_equals_the_first() {
        assert_eq!(most(&[0.5, 2.0, 0.1, 1.0], 2), [1, 3]);
        assert_eq!(most(&[1.0, 1.0, 1.0], 2), [0, 1]);
        assert_eq!(most(&[f64::NAN, 1.0], 2), [0, 1]);
    }
}
