//! Importance of channels and heads by the L1 norm of their weights (Li et al., arXiv 1608.08710).
//!
//! A score is the sum of |w| over all weights that read or write what is scored:
//!
//! | scored | weights |
//! | --- | --- |
//! | channel of the residual stream | columns of embedding, head, q, k, v, gate, up; rows of o, down |
//! | key/value head | rows of k and v; rows of q and columns of o of its query heads |
//! | channel of the feed-forward block | rows of gate and up; column of down |
//!
//! Norms and biases do not count.
//!
//! In: a checkpoint, read a block of rows at a time. Out: [`ImportanceScores`].

use retort_format::checkpoint::CheckpointReader;
use retort_format::{Axis, Kind, ModelConfig, tensors};

use crate::error::Result;
use crate::importance::ImportanceScores;

/// Weights read at once: 16 MiB in f32.
const WEIGHTS_AT_ONCE: usize = 1 << 22;

/// The scores of `parent` in the kept `layers` and the embedding and head. `progress` is given
/// the number of weights done.
pub(crate) fn l1_scores(
    parent: &CheckpointReader,
    layers: &[usize],
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<ImportanceScores> {
    let config = parent.config();
    let mut scores = ImportanceScores::zeros(config, layers.len());
    let mut done = 0;
    for spec in tensors(config) {
        let counts = matches!(spec.kind, Kind::Table | Kind::Matrix | Kind::Residual);
        let kept = spec
            .layer()
            .map(|layer| layers.iter().position(|&kept| kept == layer));
        if !counts || kept == Some(None) {
            continue;
        }
        let (layer, width) = (kept.flatten(), spec.shape[1]);
        for part in spec.axes() {
            let mut columns = vec![0.0; width];
            let step = (WEIGHTS_AT_ONCE / width).max(1);
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
                    add(&mut scores, config, layer, part.output, i, sum);
                }
                done += values.len() as u64;
                progress(done)?;
            }
            if let Some(axis) = part.input {
                for (i, &sum) in columns.iter().enumerate() {
                    add(&mut scores, config, layer, axis, i, sum);
                }
            }
        }
    }
    Ok(scores)
}

/// Adds `value` to the score of the channel or head that element `i` of `axis` belongs to,
/// in the kept `layer`, if it has one.
fn add(
    scores: &mut ImportanceScores,
    config: &ModelConfig,
    layer: Option<usize>,
    axis: Axis,
    i: usize,
    value: f64,
) {
    let group = config.num_attention_heads / config.num_key_value_heads;
    match (axis, layer) {
        (Axis::Hidden, _) => scores.hidden[i] += value,
        (Axis::Queries, Some(layer)) => {
            scores.kv_heads[layer][i / (config.head_dim * group)] += value;
        }
        (Axis::Keys, Some(layer)) => scores.kv_heads[layer][i / config.head_dim] += value,
        (Axis::Inner, Some(layer)) => scores.mlp[layer][i] += value,
        _ => {}
    }
}
