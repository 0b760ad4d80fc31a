//! Chooses sizes for a number of parameters.
//!
//! In: the parent's config, the sizes that are given, the number. Out: the other sizes.
//!
//! Depth and width shrink alike (Minitron, arXiv 2407.14679, searches around such shapes). Of
//! the shapes whose parameters are 96 to 100 % of the number, or else nearest to it, the one is
//! taken whose ratio of layers to width is closest to the parent's. Heads and the feed-forward
//! block shrink with the width. A size stays a multiple of the largest power of two that divides
//! the parent's, up to 32 (the block of the 4-bit formats).

use retort_format::{Architecture, ModelConfig};

use crate::error::{Error, Result};
use crate::sizes::{FixedSizes, Sizes};

/// The sizes for about `wanted` parameters. `base` is the parent with the student's vocabulary.
///
/// # Errors
/// [`Error::Option`] if no shape is within a factor of e^0.25 of `wanted`.
pub(crate) fn search(base: &ModelConfig, fixed: &FixedSizes, wanted: u64) -> Result<Sizes> {
    let parent = Sizes::of(base);
    // The first Qwen's heads are together as wide as the model.
    let heads_follow_width = base.model_type == Architecture::Qwen;
    let step = if heads_follow_width {
        base.head_dim
    } else {
        multiple(parent.hidden)
    };
    let widths = match fixed.hidden {
        Some(n) => vec![n],
        None => (step..=parent.hidden).step_by(step).collect(),
    };
    let depths = match fixed.layers {
        Some(n) => n..=n,
        None => parent.layers.min(2)..=parent.layers,
    };
    let log_ratio = |a: usize, b: usize| (a as f64 / b as f64).ln();
    // The best shape so far, with its distance from the number and from the parent's proportions.
    let mut best: Option<(f64, f64, Sizes)> = None;
    for layers in depths {
        for &hidden in &widths {
            let scaled = |n: usize, step: usize| {
                let exact = n as f64 * hidden as f64 / parent.hidden as f64;
                ((exact / step as f64).round() as usize * step).clamp(step, n)
            };
            let sizes = Sizes {
                layers,
                hidden,
                kv_heads: match (fixed.kv_heads, heads_follow_width) {
                    (Some(n), _) => n,
                    (None, true) => hidden / base.head_dim,
                    (None, false) => scaled(parent.kv_heads, 1),
                },
                mlp: fixed
                    .mlp
                    .unwrap_or_else(|| scaled(parent.mlp, multiple(parent.mlp))),
            };
            let share = sizes.applied_to(base).parameters() as f64 / wanted as f64;
            let miss = if (0.96..=1.0).contains(&share) {
                0.0
            } else {
                share.ln().abs()
            };
            let skew = (log_ratio(layers, parent.layers) - log_ratio(hidden, parent.hidden)).abs();
            if best.is_none_or(|(m, s, _)| (miss, skew) < (m, s)) {
                best = Some((miss, skew, sizes));
            }
        }
    }
    match best {
        Some((miss, _, sizes)) if miss < 0.25 => Ok(sizes),
        other => {
            let nearest = other.map_or(0, |(_, _, sizes)| sizes.applied_to(base).parameters());
            let reason = format!(
                "{wanted} cannot be had: the nearest shape has {nearest}; ask for another number, \
                 or shrink the vocabulary, too (--vocab)"
            );
            Err(Error::option("params", reason))
        }
    }
}

/// The largest power of two up to 32 that divides `n`.
fn multiple(n: usize) -> usize {
    1 << n.trailing_zeros().min(5)
}
