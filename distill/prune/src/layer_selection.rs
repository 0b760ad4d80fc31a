//! Which layers a student keeps.
//!
//! * By influence (ShortGPT, arXiv 2403.03853): the layers whose output is least unlike their
//!   input go, where influence = 1 − mean over positions of cos(input, output).
//! * By range (arXiv 2403.17887): the contiguous layers go between whose ends the angular
//!   distance arccos(cos(x, y)) / π is least. The paper takes it at the last position of each
//!   sequence, here it is the mean over all.
//! * Every so many: layers evenly apart.
//!
//! The first and the last layer stay unless they may go.
//!
//! In: the parent, text, how many layers stay. Out: their indices, ascending.

use std::collections::VecDeque;

use burn::tensor::{Device, Tensor};
use retort_model::Decoder;

use super::calibration::Calibration;
use super::error::{Error, Result};

/// How layers are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayersBy {
    /// Those of least influence go.
    #[default]
    Influence,
    /// One range of layers goes.
    Range,
    /// Layers evenly apart stay.
    Every,
}

/// Values of a batch's hidden states that are held at once: 256 MiB in f32.
const HELD: usize = 1 << 26;

/// How far the residual stream moves over `span` layers from each layer on (`layers − span + 1`
/// figures): the mean over the positions of `text` of `distance` of the cosine.
///
/// `progress` is told tokens done.
pub(super) fn moved(
    model: &Decoder,
    text: &Calibration,
    span: usize,
    distance: fn(f64) -> f64,
    device: &Device,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<f64>> {
    let config = model.config();
    let layers = config.num_hidden_layers;
    let mut sums = vec![0.0; layers + 1 - span];
    let tokens = HELD / (config.hidden_size * (span + 1));
    let mut done = 0;
    // Long batches gain nothing.
    for ids in text.batches(tokens.min(2048), device) {
        done += ids.dims().iter().product::<usize>();
        let pieces = model.layerwise(ids, None);
        let mut states = VecDeque::from([pieces.embedded()]);
        for layer in 0..layers {
            let last = states[states.len() - 1].clone();
            states.push_back(pieces.layer(layer, last));
            if states.len() > span {
                let ends = [&states[0], &states[span]].map(Tensor::clone);
                let at = layer + 1 - span;
                sums[at] += cosines(ends).map(distance).sum::<f64>();
                states.pop_front();
            }
        }
        progress(done)?;
    }
    let positions = text.tokens() as f64;
    Ok(sums.into_iter().map(|sum| sum / positions).collect())
}

/// The cosines of two `[B, T, D]` at each position. A vector of zeros is like any other.
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

/// 1 − cos.
pub(super) fn unlikeness(cos: f64) -> f64 {
    1.0 - cos
}

/// arccos(cos) / π.
pub(super) fn angle(cos: f64) -> f64 {
    cos.acos() / std::f64::consts::PI
}

/// The `keep` layers that stay if those of least `influence` go.
pub(super) fn by_influence(influence: &[f64], keep: usize, ends: bool) -> Vec<usize> {
    let layers = influence.len();
    let mut going: Vec<usize> = inner(layers, ends).collect();
    going.sort_by(|&a, &b| influence[a].total_cmp(&influence[b]).then(b.cmp(&a)));
    going.truncate(layers - keep);
    (0..layers).filter(|layer| !going.contains(layer)).collect()
}

/// The layers that stay if one range goes; `distances` are those over as many layers as go.
pub(super) fn by_range(distances: &[f64], layers: usize, ends: bool) -> Vec<usize> {
    let span = layers + 1 - distances.len();
    let allowed = inner(layers, ends);
    let first = (0..distances.len())
        .filter(|&first| allowed.contains(&first) && first + span <= allowed.end)
        .min_by(|&a, &b| distances[a].total_cmp(&distances[b]))
        .unwrap_or(0);
    (0..first).chain(first + span..layers).collect()
}

/// `keep` of `layers`, evenly apart, the first and the last among them.
pub(super) fn every(layers: usize, keep: usize) -> Vec<usize> {
    let apart = keep.saturating_sub(1).max(1);
    // Rounded to nearest.
    (0..keep)
        .map(|i| (2 * i * (layers - 1) + apart) / (2 * apart))
        .collect()
}

/// The layers that may go.
fn inner(layers: usize, ends: bool) -> std::ops::Range<usize> {
    if ends { 0..layers } else { 1..layers - 1 }
}

/// Refuses to keep fewer layers than must stay.
pub(super) fn check(layers: usize, keep: usize, ends: bool) -> Result<()> {
    if keep == layers || ends || keep >= 2 {
        return Ok(());
    }
    let reason = format!(
        "{keep} of {layers}: the first and the last layer stay; give 2 or more, or let them go \
         with --ends"
    );
    Err(Error::option("layers", reason))
}

/// `--keep-layers`: indices and ranges such as `0,1,4-7`, ascending, below `layers`.
///
/// # Errors
/// [`Error::Option`] names what is wrong.
pub fn listed(text: &str, layers: usize) -> Result<Vec<usize>> {
    let bad = |reason: String| Err(Error::option("keep-layers", reason));
    let number = |n: &str| n.trim().parse::<usize>().ok().filter(|&n| n < layers);
    let mut kept: Vec<usize> = Vec::new();
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            let reason = format!("{item:?} is not a layer from 0 to {}", layers - 1);
            return bad(reason + " or a range such as 4-7");
        };
        if last < first || kept.last().is_some_and(|&before| first <= before) {
            return bad(format!("{item:?} does not ascend: layers keep their order"));
        }
        kept.extend(first..=last);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_of_least_influence_go_and_the_ends_stay() {
        let influence = [0.0, 0.3, 0.1, 0.2, 0.5, 0.01];
        assert_eq!(by_influence(&influence, 4, false), [0, 1, 4, 5]);
        assert_eq!(by_influence(&influence, 4, true), [1, 2, 3, 4]);
        assert_eq!(by_influence(&influence, 6, false), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_range_between_the_nearest_ends_goes() {
        // Two of five layers go: four ranges, of which the middle two keep both ends.
        assert_eq!(by_range(&[0.1, 0.4, 0.3, 0.2], 5, false), [0, 1, 4]);
        assert_eq!(by_range(&[0.1, 0.4, 0.3, 0.2], 5, true), [2, 3, 4]);
        assert_eq!(by_range(&[0.4, 0.4, 0.3, 0.2], 5, true), [0, 1, 2]);
    }

    #[test]
    fn layers_are_taken_evenly_from_first_to_last() {
        assert_eq!(every(30, 2), [0, 29]);
        assert_eq!(every(7, 4), [0, 2, 4, 6]);
        assert_eq!(every(6, 6), [0, 1, 2, 3, 4, 5]);
        assert_eq!(every(6, 1), [0]);
        let half = every(30, 15);
        assert!(half.windows(2).all(|w| (1..=3).contains(&(w[1] - w[0]))));
        assert_eq!((half.len(), half[0], half[14]), (15, 0, 29));
    }

    #[test]
    fn a_list_of_layers_is_read_or_refused() {
        assert_eq!(listed("0,1,4-6, 8", 9).unwrap(), [0, 1, 4, 5, 6, 8]);
        for text in ["", "9", "3-1", "2,2", "5,1", "a", "1--2", "0-9"] {
            let message = listed(text, 9).unwrap_err().to_string();
            assert!(message.starts_with("--keep-layers:"), "{message}");
        }
    }
}
