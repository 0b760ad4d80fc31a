//! How far layers move the residual stream, on text.

use std::collections::VecDeque;

use burn::tensor::{Device, Tensor};
use retort_model::Decoder;

use crate::error::Result;
use crate::text::CalibrationText;

/// Values of hidden states held at once: 256 MiB in f32.
const HELD_VALUES: usize = 1 << 26;
/// Tokens in a batch at most; longer batches are not faster.
const BATCH_TOKENS: usize = 2048;

/// The distance between input and output of each `span` consecutive layers: `layers − span + 1`
/// figures, each the mean over the positions of `text` of `distance`(cos(input, output)).
///
/// The paper (arXiv 2403.17887) measures at the last position of each sequence; this is the mean
/// over all. `progress` is given the number of tokens done.
pub(crate) fn layer_distances(
    model: &Decoder,
    text: &CalibrationText,
    span: usize,
    distance: fn(f64) -> f64,
    device: &Device,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<f64>> {
    let config = model.config();
    let layers = config.num_hidden_layers;
    let mut sums = vec![0.0; layers + 1 - span];
    let tokens = HELD_VALUES / (config.hidden_size * (span + 1));
    let mut done = 0;
    for ids in text.batches(tokens.min(BATCH_TOKENS), device) {
        done += ids.dims().iter().product::<usize>();
        let forward = model.layerwise(ids, None);
        let mut states = VecDeque::from([forward.embedded()]);
        for layer in 0..layers {
            let input = states[states.len() - 1].clone();
            states.push_back(forward.layer(layer, input));
            if states.len() > span {
                let ends = [&states[0], &states[span]].map(Tensor::clone);
                sums[layer + 1 - span] += cosines(ends).map(distance).sum::<f64>();
                states.pop_front();
            }
        }
        progress(done)?;
    }
    let positions = text.tokens() as f64;
    Ok(sums.into_iter().map(|sum| sum / positions).collect())
}

/// 1 − cos.
pub(crate) fn cosine_distance(cos: f64) -> f64 {
    1.0 - cos
}

/// arccos(cos) / π.
pub(crate) fn angular_distance(cos: f64) -> f64 {
    cos.acos() / std::f64::consts::PI
}

/// The cosine of two `[B, T, D]` at each position; 1 where a vector is zero.
fn cosines([a, b]: [Tensor<3>; 2]) -> impl Iterator<Item = f64> {
    let dot = |x: &Tensor<3>, y: &Tensor<3>| {
        let product = (x.clone() * y.clone()).sum_dim(2).into_data();
        let values: Vec<f32> = product.try_into_vec().expect("hidden states are f32");
        values
    };
    let (ab, aa, bb) = (dot(&a, &b), dot(&a, &a), dot(&b, &b));
    let norms = aa.into_iter().zip(bb).map(|(a, b)| {
        let (a, b) = (f64::from(a), f64::from(b));
        (a * b).sqrt()
    });
    ab.into_iter().zip(norms).map(|(ab, norms)| {
        if norms > 0.0 {
            (f64::from(ab) / norms).clamp(-1.0, 1.0)
        } else {
            1.0
        }
    })
}
