//! Importance of channels and heads by the size of their activations (Minitron, arXiv 2407.14679,
//! section 2.2).
//!
//! A score is a mean over the positions of a text:
//!
//! | scored | mean of |
//! | --- | --- |
//! | channel of the residual stream | its absolute outputs of all norms, summed over the norms |
//! | key/value head | the L2 norms of its query heads' outputs, averaged over these heads |
//! | channel of the feed-forward block | its absolute input of the down projection |
//!
//! In: the parent, the layers that stay (the others are skipped in the forward pass), the text.
//! Out: [`ImportanceScores`].

use burn::tensor::{Device, Tensor};
use retort_model::Decoder;

use crate::error::Result;
use crate::importance::ImportanceScores;
use crate::text::CalibrationText;

/// Tokens in a batch.
const BATCH_TOKENS: usize = 2048;

/// The scores of `model` in the kept `layers`. `progress` is given the number of tokens done.
pub(crate) fn activation_scores(
    model: &Decoder,
    layers: &[usize],
    text: &CalibrationText,
    device: &Device,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<ImportanceScores> {
    let config = model.config();
    let mut scores = ImportanceScores::zeros(config, layers.len());
    let group = config.num_attention_heads / config.num_key_value_heads;
    let mut done = 0;
    for ids in text.batches(BATCH_TOKENS, device) {
        done += ids.dims().iter().product::<usize>();
        let forward = model.layerwise(ids, None);
        let mut x = forward.embedded();
        for (kept, &layer) in layers.iter().enumerate() {
            let observed = forward.activations(layer, x);
            add(&mut scores.hidden, sum_abs(observed.attention_input));
            add(&mut scores.hidden, sum_abs(observed.mlp_input));
            add(&mut scores.mlp[kept], sum_abs(observed.inner));
            let heads = sum_head_norms(observed.heads, config.head_dim);
            let kv_heads = heads
                .chunks(group)
                .map(|heads| heads.iter().sum::<f64>() / group as f64);
            add(&mut scores.kv_heads[kept], kv_heads.collect());
            x = observed.output;
        }
        add(&mut scores.hidden, sum_abs(forward.normed(x)));
        progress(done)?;
    }
    let positions = text.tokens() as f64;
    let in_layers = scores.kv_heads.iter_mut().chain(&mut scores.mlp);
    for scores in in_layers.chain([&mut scores.hidden]) {
        scores.iter_mut().for_each(|score| *score /= positions);
    }
    Ok(scores)
}

fn add(scores: &mut [f64], values: Vec<f64>) {
    for (score, value) in scores.iter_mut().zip(values) {
        *score += value;
    }
}

/// Σ |x| over B and T, of `x` `[B, T, C]`.
fn sum_abs(x: Tensor<3>) -> Vec<f64> {
    let [b, t, c] = x.dims();
    sum_rows(x.abs().reshape([b * t, c]))
}

/// Σ over B and T of the L2 norm of each head, of `x` `[B, T, heads · head_dim]`.
fn sum_head_norms(x: Tensor<3>, head_dim: usize) -> Vec<f64> {
    let [b, t, c] = x.dims();
    let heads = x.reshape([b * t, c / head_dim, head_dim]);
    let norms = (heads.clone() * heads).sum_dim(2).sqrt();
    sum_rows(norms.reshape([b * t, c / head_dim]))
}

/// Σ over N, of `x` `[N, C]`.
fn sum_rows(x: Tensor<2>) -> Vec<f64> {
    let sums: Vec<f32> = x
        .sum_dim(0)
        .into_data()
        .try_into_vec()
        .expect("activations are f32");
    sums.into_iter().map(f64::from).collect()
}
