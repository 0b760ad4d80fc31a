//! How much each channel and head matters, by the sizes of activations over text (Minitron,
//! arXiv 2407.14679, section 2.2).
//!
//! A score is a mean over the text's positions: for a channel of the residual stream of
//! |output| of all norms, summed over them; for a head of the L2 norm of its output, of which
//! a key/value head has the mean over its query heads; for a channel of the feed-forward block
//! of |input of the down projection|.
//!
//! In: the parent, the layers that stay (the others are left out of the pass), text. Out: an
//! [`Importance`].

use burn::tensor::{Device, Tensor};
use retort_model::Decoder;

use super::calibration::Calibration;
use super::error::Result;
use super::importance::Importance;

/// Tokens of a batch.
const TOKENS: usize = 2048;

/// Scores by activations in the kept `layers`. `progress` is told tokens done.
pub(super) fn activations(
    model: &Decoder,
    layers: &[usize],
    text: &Calibration,
    device: &Device,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Importance> {
    let config = model.config();
    let mut importance = Importance::zero(config, layers.len());
    let group = config.num_attention_heads / config.num_key_value_heads;
    let mut done = 0;
    for ids in text.batches(TOKENS, device) {
        done += ids.dims().iter().product::<usize>();
        let pieces = model.layerwise(ids, None);
        let mut x = pieces.embedded();
        for (at, &layer) in layers.iter().enumerate() {
            let observed = pieces.activations(layer, x);
            add(&mut importance.hidden, sizes(observed.attention_input));
            add(&mut importance.hidden, sizes(observed.mlp_input));
            add(&mut importance.inner[at], sizes(observed.inner));
            let heads = head_sizes(observed.heads, config.head_dim);
            let groups = heads
                .chunks(group)
                .map(|heads| heads.iter().sum::<f64>() / group as f64);
            add(&mut importance.groups[at], groups.collect());
            x = observed.output;
        }
        add(&mut importance.hidden, sizes(pieces.normed(x)));
        progress(done)?;
    }
    let positions = text.tokens() as f64;
    let of_layers = importance.groups.iter_mut().chain(&mut importance.inner);
    for score in of_layers
        .chain([&mut importance.hidden])
        .flat_map(|scores| scores.iter_mut())
    {
        *score /= positions;
    }
    Ok(importance)
}

fn add(scores: &mut [f64], values: Vec<f64>) {
    for (score, value) in scores.iter_mut().zip(values) {
        *score += value;
    }
}

/// The sums of |x| `[B, T, C]` over B and T.
fn sizes(x: Tensor<3>) -> Vec<f64> {
    let [b, t, c] = x.dims();
    sum_rows(x.abs().reshape([b * t, c]))
}

/// The sums over B and T of the L2 norms of each head of `x` `[B, T, heads · head_dim]`.
fn head_sizes(x: Tensor<3>, head_dim: usize) -> Vec<f64> {
    let [b, t, c] = x.dims();
    let heads = x.reshape([b * t, c / head_dim, head_dim]);
    let norms = (heads.clone() * heads).sum_dim(2).sqrt();
    sum_rows(norms.reshape([b * t, c / head_dim]))
}

/// The sums of `x` `[N, C]` over N.
fn sum_rows(x: Tensor<2>) -> Vec<f64> {
    let sums: Vec<f32> = x
        .sum_dim(0)
        .into_data()
        .try_into_vec()
        .expect("activations are f32");
    sums.into_iter().map(f64::from).collect()
}
