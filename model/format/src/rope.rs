//! Rotary position embedding as numbers: frequencies and angles.
//!
//! The pair (i, i + head_dim/2) of a query or key at position p is rotated by
//! p · theta^(−2i/head_dim) radians (Su et al., arXiv 2104.09864, eq. 34; half-split pairs as in
//! Hugging Face's Llama and Qwen). The frequencies may be scaled for longer sequences: see
//! [`RopeScaling`](crate::RopeScaling).

use crate::config::ModelConfig;
use crate::rope_scaling::base_frequencies;

/// Radians a position for each of the head_dim / 2 pairs, in a sequence of `length` tokens
/// (which only matters to dynamic scaling, used where `stretch`).
pub fn frequencies(config: &ModelConfig, length: usize, stretch: bool) -> Vec<f64> {
    let d = config.head_dim as f64;
    let mut theta = config.rope_theta;
    if stretch && config.use_dynamic_ntk {
        theta *= ntk_alpha(length, config.seq_length).powf(d / (d - 2.0));
    }
    base_frequencies(config.head_dim, theta)
        .map(|f| config.rope_scaling.as_ref().map_or(f, |s| s.apply(f)))
        .collect()
}

/// Cosines and sines of the angles at `positions`, each `[positions, head_dim / 2]`, in f32
/// rounded from f64.
pub fn angles(positions: &[usize], frequencies: &[f64]) -> (Vec<f32>, Vec<f32>) {
    let angles = positions
        .iter()
        .flat_map(|&p| frequencies.iter().map(move |f| p as f64 * f));
    angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip()
}

/// Qwen's α of its dynamic NTK scaling (`architecture/qwen.rs`) for a sequence of `length` tokens:
/// 1 within `trained`, then 3, 7, 15 at each doubling.
pub fn ntk_alpha(length: usize, trained: usize) -> f64 {
    if length <= trained {
        return 1.0;
    }
    let context = (length as f64 / trained as f64).log2() + 1.0;
    (2f64.powf(context.ceil()) - 1.0).max(1.0)
}

/// Qwen's logn scaling: the factor of the query at 0-based `position`.
pub fn logn_factor(position: usize, trained: usize) -> f64 {
    if position < trained || trained < 2 {
        return 1.0;
    }
    ((position + 1) as f64).ln() / (trained as f64).ln()
}
