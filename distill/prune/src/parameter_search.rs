//! Sizes for a number of parameters.
//!
//! Depth and width shrink alike (Minitron, arXiv 2407.14679, searches around such shapes): of all
//! shapes within 4 % below the number, or of the nearest, the one whose layers : width is closest
//! to the parent's; heads and the feed-forward block shrink with the width. Sizes stay multiples
//! of what the parent's are multiples of, up to 32, the block of the 4-bit formats.

use retort_format::{Architecture, ModelConfig};

use super::error::{Error, Result};
use super::shape::{Fixed, Sizes, shaped};

/// The sizes whose parameters are about `wanted`.
pub(super) fn search(
    base: &ModelConfig,
    parent: Sizes,
    fixed: &Fixed,
    wanted: u64,
) -> Result<Sizes> {
    let whole_heads = base.model_type == Architecture::Qwen;
    let step = match whole_heads {
        true => base.head_dim,
        false => multiple(parent.hidden),
    };
    let hidden = match fixed.hidden {
        Some(n) => vec![n],
        None => (step..=parent.hidden).step_by(step).collect(),
    };
    let layers = match fixed.layers {
        Some(n) => n..=n,
        None => parent.layers.min(2)..=parent.layers,
    };
    let log = |a: usize, b: usize| (a as f64 / b as f64).ln();
    // How far a shape is from the number, and from the parent's proportions.
    let mut best: Option<(f64, f64, Sizes)> = None;
    for layers in layers {
        for &hidden in &hidden {
            let share = |n: usize, step: usize| {
                let exact = n as f64 * hidden as f64 / parent.hidden as f64;
                ((exact / step as f64).round() as usize * step).clamp(step, n)
            };
            let sizes = Sizes {
                layers,
                hidden,
                groups: match (fixed.groups, whole_heads) {
                    (Some(n), _) => n,
                    (None, true) => hidden / base.head_dim,
                    (None, false) => share(parent.groups, 1),
                },
                inner: fixed
                    .inner
                    .unwrap_or_else(|| share(parent.inner, multiple(parent.inner))),
            };
            let parameters = shaped(base, sizes).parameters();
            let off = parameters as f64 / wanted as f64;
            let far = match (0.96..=1.0).contains(&off) {
                true => 0.0,
                false => off.ln().abs(),
            };
            let bent = (log(layers, parent.layers) - log(hidden, parent.hidden)).abs();
            if best.is_none_or(|(f, b, _)| (far, bent) < (f, b)) {
                best = Some((far, bent, sizes));
            }
        }
    }
    match best {
        Some((far, _, sizes)) if far < 0.25 => Ok(sizes),
        other => {
            let nearest = other.map_or(0, |(_, _, sizes)| shaped(base, sizes).parameters());
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
