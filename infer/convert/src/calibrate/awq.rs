//! Large inputs made smaller, and their columns larger, before a layer is rounded: activation-aware scaling (AWQ,
//! arXiv 2306.00978).
//!
//! In: a layer as the parent has it, and a few windows of its residual stream; out: the same function in other numbers.
//! A group's column j is multiplied with s_j, and what its input comes from divided by it: the norm before q k v and
//! gate up, the rows of v before o (one s for all query heads of a key head), the rows of up before down. With the mean
//! square m of an input, `s = m^(α/2)`; α is grid-searched: a sample of rows is quantized and the α with the smallest
//! activation-weighted squared error is kept.

use super::cap::cap;
use super::layer_runner::{LayerRunner, Stream};
use super::weights::{GroupWeights, LayerWeights};
use retort_engine::decoder::Config;
use retort_engine::decoder::layer::LinearGroup;
use retort_format::quant::search::{BLOCK, error, is_searched, quantize_row_searched};
use retort_format::{GgmlType, LayerLinear, Result};

/// Tokens that mean squares are taken over, about.
const TOKENS: usize = 4096;
/// Rows of a matrix that are rounded to choose α, about.
const ROWS: usize = 96;
/// The α's that are tried: 0 leaves a group as it is.
const EXPONENTS: [f32; 6] = [0.0, 0.15, 0.3, 0.45, 0.6, 0.8];
/// How much larger or smaller than the geometric mean a scale is at most.
const MOST: f32 = 32.0;

/// Balances all four groups of `layer`, whose residual stream is `stream`.
///
/// # Errors
///
/// As rounding has them.
pub(super) fn balance(
    runner: &LayerRunner,
    stream: &Stream,
    layer: &mut LayerWeights,
    ty: &impl Fn(&str) -> GgmlType,
) -> Result<()> {
    let mut stream = runner.first(stream, TOKENS);
    for group in LinearGroup::ALL {
        let mut squares = mean_squares(runner, &stream, layer, group);
        if group == LinearGroup::O {
            squares = share(&squares, &runner.config);
        }
        let scales = choose(runner, layer.group(group), &squares, ty)?;
        if group != LinearGroup::Down {
            runner.step(&mut stream, layer, group)?;
        }
        match group {
            LinearGroup::Qkv => divide(&mut layer.vectors.attn_norm, &scales),
            LinearGroup::O => {
                let scales = of_values(&scales, &runner.config);
                divide_rows(layer, LinearGroup::Qkv, LayerLinear::V, &scales);
                if let Some([_, _, bias]) = &mut layer.vectors.qkv_bias {
                    divide(bias, &scales);
                }
            }
            LinearGroup::GateUp => divide(&mut layer.vectors.ffn_norm, &scales),
            LinearGroup::Down => divide_rows(layer, LinearGroup::GateUp, LayerLinear::Up, &scales),
        }
        multiply_columns(layer.group_mut(group), &scales);
    }
    Ok(())
}

/// Numbers of query heads [q_size], each replaced by the mean over the heads of its group, which read the same values.
fn share(squares: &[f32], config: &Config) -> Vec<f32> {
    let (width, group) = (config.head_dim, config.n_heads / config.n_kv_heads);
    let shared: Vec<f32> = (0..config.kv_size())
        .map(|i| {
            let heads = (0..group).map(|head| (i / width * group + head) * width + i % width);
            heads.map(|at| squares[at]).sum::<f32>() / group as f32
        })
        .collect();
    let at = |i: usize| i / width / group * width + i % width;
    (0..config.q_size()).map(|i| shared[at(i)]).collect()
}

/// Of such numbers, alike for the heads of a group, those of key heads [kv_size].
fn of_values(all: &[f32], config: &Config) -> Vec<f32> {
    let (width, group) = (config.head_dim, config.n_heads / config.n_kv_heads);
    let at = |i: usize| i / width * group * width + i % width;
    (0..config.kv_size()).map(|i| all[at(i)]).collect()
}

/// The mean square of each of a group's inputs.
fn mean_squares(
    runner: &LayerRunner,
    stream: &Stream,
    layer: &LayerWeights,
    group: LinearGroup,
) -> Vec<f32> {
    let (tokens, n) = (runner.tokens(stream), layer.group(group).columns);
    let mut sums = vec![0.0; n];
    runner.each_input(stream, &layer.vectors, group, |x| {
        cap(x, n);
        for row in x.chunks_exact(n) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x * x / tokens as f32;
            }
        }
    });
    sums
}

/// The scales of a group's columns; all 1 where it is not rounded to blocks.
fn choose(
    runner: &LayerRunner,
    group: &GroupWeights,
    squares: &[f32],
    ty: &impl Fn(&str) -> GgmlType,
) -> Result<Vec<f32>> {
    let n = group.columns;
    let mut least = (f64::INFINITY, vec![1.0; n]);
    if !group.tensors.iter().all(|(name, _)| is_searched(ty(name))) {
        return Ok(least.1);
    }
    for exponent in EXPONENTS {
        let scales = scales(squares, exponent);
        let importance: Vec<f32> = (squares.iter().zip(&scales))
            .map(|(square, s)| square / (s * s))
            .collect();
        let mut rows = Vec::new();
        let mut first = 0;
        for (name, n_rows) in &group.tensors {
            let step = (n_rows / ROWS).max(1);
            let taken = (first..first + n_rows).step_by(step);
            rows.extend(taken.map(|row| (row, ty(name), Ok(0.0))));
            first += n_rows;
        }
        runner.pool.rows(&mut rows, 1, 4, |_, part| {
            let (row, ty, lost) = &mut part[0];
            let mut weights = group.weights[*row * n..(*row + 1) * n].to_vec();
            weights.iter_mut().zip(&scales).for_each(|(w, s)| *w *= s);
            *lost = lost_of(*ty, &weights, &importance);
        });
        let mut sum = 0.0;
        for (_, _, lost) in rows {
            sum += lost?;
        }
        if sum < least.0 {
            least = (sum, scales);
        }
    }
    Ok(least.1)
}

/// What a row loses, weighed, when each block is rounded by itself.
fn lost_of(ty: GgmlType, row: &[f32], importance: &[f32]) -> Result<f64> {
    let mut out = Vec::new();
    quantize_row_searched(ty, row, Some(importance), &mut out)?;
    let blocks = out.chunks_exact(ty.bytes_per_block());
    let inputs = row.as_chunks::<BLOCK>().0.iter();
    let losses = inputs.zip(importance.as_chunks::<BLOCK>().0);
    Ok(blocks
        .zip(losses)
        .map(|(block, (x, w))| error(ty, block, x, w))
        .sum())
}

/// `m^(exponent / 2)` over their geometric mean.
fn scales(squares: &[f32], exponent: f32) -> Vec<f32> {
    let positive = squares.iter().filter(|m| **m > 0.0);
    let (sum, n) = positive.fold((0.0, 0), |(sum, n), m| (sum + m.ln(), n + 1));
    let mean = if n > 0 { sum / n as f32 } else { 0.0 };
    let scale = |m: &f32| {
        if *m > 0.0 {
            (exponent * 0.5 * (m.ln() - mean)).exp()
        } else {
            1.0
        }
    };
    squares
        .iter()
        .map(|m| scale(m).clamp(1.0 / MOST, MOST))
        .collect()
}

fn divide(values: &mut [f32], scales: &[f32]) {
    values.iter_mut().zip(scales).for_each(|(v, s)| *v /= s);
}

fn multiply_columns(group: &mut GroupWeights, scales: &[f32]) {
    for row in group.weights.chunks_exact_mut(group.columns) {
        row.iter_mut().zip(scales).for_each(|(w, s)| *w *= s);
    }
}

/// Divides the rows of one matrix.
fn divide_rows(layer: &mut LayerWeights, group: LinearGroup, linear: LayerLinear, scales: &[f32]) {
    let group = layer.group_mut(group);
    let at = group.matrix(linear);
    let rows = group.weights[at].chunks_exact_mut(group.columns);
    for (row, s) in rows.zip(scales) {
        row.iter_mut().for_each(|w| *w /= s);
    }
}
