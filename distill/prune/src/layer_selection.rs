//! Selects the layers that a student keeps.
//!
//! * By influence (ShortGPT, arXiv 2403.03853): removes the layers whose influence, the mean over
//!   positions of 1 − cos(input, output), is least.
//! * By range (arXiv 2403.17887): removes the contiguous layers over which the angular distance
//!   arccos(cos(input, output)) / π is least.
//! * Evenly spaced.
//!
//! The first and the last layer stay unless they may be removed.
//!
//! In: distances (`layer_distances.rs`), the number of layers to keep. Out: their numbers,
//! ascending.

use crate::error::{Error, Result};

/// Removes the layers of least `influence`. Returns the `keep` layers that stay.
pub(crate) fn by_influence(influence: &[f64], keep: usize, ends: bool) -> Vec<usize> {
    let layers = influence.len();
    let mut removed: Vec<usize> = removable(layers, ends).collect();
    removed.sort_by(|&a, &b| influence[a].total_cmp(&influence[b]).then(b.cmp(&a)));
    removed.truncate(layers - keep);
    (0..layers)
        .filter(|layer| !removed.contains(layer))
        .collect()
}

/// Removes the range of least distance. `distances` are those over the number of layers to
/// remove. Returns the layers that stay.
pub(crate) fn by_range(distances: &[f64], layers: usize, ends: bool) -> Vec<usize> {
    let span = layers + 1 - distances.len();
    let allowed = removable(layers, ends);
    let first = (0..distances.len())
        .filter(|&first| allowed.contains(&first) && first + span <= allowed.end)
        .min_by(|&a, &b| distances[a].total_cmp(&distances[b]))
        .unwrap_or(0);
    (0..first).chain(first + span..layers).collect()
}

/// `keep` of `layers` layers, evenly spaced, the first and the last among them.
pub(crate) fn evenly_spaced(layers: usize, keep: usize) -> Vec<usize> {
    let gaps = keep.saturating_sub(1).max(1);
    // Rounded to nearest.
    (0..keep)
        .map(|i| (2 * i * (layers - 1) + gaps) / (2 * gaps))
        .collect()
}

/// The layers that may be removed; `ends` says whether the first and the last may be.
fn removable(layers: usize, ends: bool) -> std::ops::Range<usize> {
    if ends { 0..layers } else { 1..layers - 1 }
}

/// Refuses to keep fewer than the two layers that must stay.
pub(crate) fn check_count(layers: usize, keep: usize, ends: bool) -> Result<()> {
    if keep == layers || ends || keep >= 2 {
        return Ok(());
    }
    let reason = format!(
        "{keep} of {layers}: the first and the last layer stay; give 2 or more, or let them go \
         with --ends"
    );
    Err(Error::option("layers", reason))
}

/// The layers in `--keep-layers`: numbers and ranges such as `0,1,4-7`, ascending, below `layers`.
///
/// # Errors
/// [`Error::Option`] names what is wrong.
pub(crate) fn parse_list(text: &str, layers: usize) -> Result<Vec<usize>> {
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
    fn by_influence_removes_the_least_and_keeps_first_and_last() {
        let influence = [0.0, 0.3, 0.1, 0.2, 0.5, 0.01];
        assert_eq!(by_influence(&influence, 4, false), [0, 1, 4, 5]);
        assert_eq!(by_influence(&influence, 4, true), [1, 2, 3, 4]);
        assert_eq!(by_influence(&influence, 6, false), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn by_range_removes_the_range_of_least_distance() {
        // Two of five layers are removed: the middle two of the four ranges keep first and last.
        assert_eq!(by_range(&[0.1, 0.4, 0.3, 0.2], 5, false), [0, 1, 4]);
        assert_eq!(by_range(&[0.1, 0.4, 0.3, 0.2], 5, true), [2, 3, 4]);
        assert_eq!(by_range(&[0.4, 0.4, 0.3, 0.2], 5, true), [0, 1, 2]);
    }

    #[test]
    fn evenly_spaced_layers_include_first_and_last() {
        assert_eq!(evenly_spaced(30, 2), [0, 29]);
        assert_eq!(evenly_spaced(7, 4), [0, 2, 4, 6]);
        assert_eq!(evenly_spaced(6, 6), [0, 1, 2, 3, 4, 5]);
        assert_eq!(evenly_spaced(6, 1), [0]);
        let half = evenly_spaced(30, 15);
        assert!(half.windows(2).all(|w| (1..=3).contains(&(w[1] - w[0]))));
        assert_eq!((half.len(), half[0], half[14]), (15, 0, 29));
    }

    #[test]
    fn keep_layers_list_is_parsed_or_an_error_naming_the_option() {
        assert_eq!(parse_list("0,1,4-6, 8", 9).unwrap(), [0, 1, 4, 5, 6, 8]);
        for text in ["", "9", "3-1", "2,2", "5,1", "a", "1--2", "0-9"] {
            let message = parse_list(text, 9).unwrap_err().to_string();
            assert!(message.starts_with("--keep-layers:"), "{message}");
        }
    }
}
