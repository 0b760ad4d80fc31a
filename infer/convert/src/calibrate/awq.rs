//! Large inputs made smaller, and their columns larger, before a layer is rounded: activation-aware scaling (AWQ,
//! arXiv 2306.00978).
//!
//! In: a layer as the parent has it, and a few windows of its residual stream; out: the same function in other numbers.
//! A site's column j is multiplied with s_j, and what its input comes from divided by it: the norm before q k v and
//! gate up, the rows of v before o (one s for all query heads of a key head), the rows of up before down. With the mean
//! square m of an input, `s = m^(α/2)`; α is what loses least where some of the rows are rounded in earnest, every
//! weight weighed by its input's mean square.

use super::cap;
use super::layer::{Input, Layer, Shape, Site, Stream};
use retort_format::quant::search::{BLOCK, error, is_searched, quantize_row_searched};
use retort_format::{GgmlType, Result};

/// Tokens that mean squares are taken over, about.
const TOKENS: usize = 4096;
/// Rows of a matrix that are rounded to choose α, about.
const ROWS: usize = 96;
/// The α's that are tried: 0 leaves a site as it is.
const EXPONENTS: [f32; 6] = [0.0, 0.15, 0.3, 0.45, 0.6, 0.8];
/// How much larger or smaller than the geometric mean a scale is at most.
const MOST: f32 = 32.0;

/// Balances all four sites of `layer`, whose residual stream is `stream`.
///
/// # Errors
///
/// As rounding has them.
pub(super) fn balance(
    shape: &Shape,
    stream: &Stream,
    layer: &mut Layer,
    ty: &impl Fn(&str) -> GgmlType,
) -> Result<()> {
    let config = &shape.config;
    let mut stream = stream.first(shape, TOKENS);
    let norm = layer.attn_norm.clone();
    let squares = mean_squares(shape, &stream, Input::Normed(&norm));
    let scales = choose(shape, &layer.qkv, &squares, ty)?;
    stream.attend(shape, layer);
    divide(&mut layer.attn_norm, &scales);
    multiply_columns(&mut layer.qkv, &scales);

    // the heads of a group read the same values
    let (width, group) = (config.head_dim, config.n_heads / config.n_kv_heads);
    let squares = mean_squares(shape, &stream, Input::Wide);
    let shared: Vec<f32> = (0..config.kv_size())
        .map(|i| {
            let heads = (0..group).map(|head| (i / width * group + head) * width + i % width);
            heads.map(|at| squares[at]).sum::<f32>() / group as f32
        })
        .collect();
    let of_query = |values: &[f32]| -> Vec<f32> {
        let at = |i: usize| i / width / group * width + i % width;
        (0..config.q_size()).map(|i| values[at(i)]).collect()
    };
    let all = choose(shape, &layer.o, &of_query(&shared), ty)?;
    let scales: Vec<f32> = (0..config.kv_size())
        .map(|i| all[i / width * group * width + i % width])
        .collect();
    stream.add(shape, &layer.o);
    let first = config.q_size() + config.kv_size();
    divide_rows(&mut layer.qkv, first, &scales);
    if let Some(bias) = &mut layer.bias {
        divide(&mut bias[first..], &scales);
    }
    multiply_columns(&mut layer.o, &all);

    let norm = layer.ffn_norm.clone();
    let squares = mean_squares(shape, &stream, Input::Normed(&norm));
    let scales = choose(shape, &layer.gate_up, &squares, ty)?;
    stream.branch(shape, layer);
    divide(&mut layer.ffn_norm, &scales);
    multiply_columns(&mut layer.gate_up, &scales);

    let squares = mean_squares(shape, &stream, Input::Wide);
    let scales = choose(shape, &layer.down, &squares, ty)?;
    divide_rows(&mut layer.gate_up, config.intermediate_size, &scales);
    multiply_columns(&mut layer.down, &scales);
    Ok(())
}

/// The mean square of each of a site's inputs.
fn mean_squares(shape: &Shape, stream: &Stream, input: Input) -> Vec<f32> {
    let tokens = stream.hidden.len() / shape.config.hidden_size;
    let mut sums = Vec::new();
    for chunk in shape.chunks(tokens) {
        let n_tokens = chunk.len();
        let mut x = stream.input(shape, input, chunk);
        let n = x.len() / n_tokens;
        cap(&mut x, n);
        sums.resize(n, 0.0);
        for row in x.chunks_exact(n) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x * x / tokens as f32;
            }
        }
    }
    sums
}

/// The scales of a site's columns; all 1 where it is not rounded to blocks.
fn choose(
    shape: &Shape,
    site: &Site,
    squares: &[f32],
    ty: &impl Fn(&str) -> GgmlType,
) -> Result<Vec<f32>> {
    let n = site.columns;
    let mut least = (f64::INFINITY, vec![1.0; n]);
    if !site.parts.iter().all(|(name, _)| is_searched(ty(name))) {
        return Ok(least.1);
    }
    for exponent in EXPONENTS {
        let scales = scales(squares, exponent);
        let importance: Vec<f32> = (squares.iter().zip(&scales))
            .map(|(square, s)| square / (s * s))
            .collect();
        let mut rows = Vec::new();
        let mut first = 0;
        for (name, n_rows) in &site.parts {
            let step = (n_rows / ROWS).max(1);
            let taken = (first..first + n_rows).step_by(step);
            rows.extend(taken.map(|row| (row, ty(name), Ok(0.0))));
            first += n_rows;
        }
        shape.pool.rows(&mut rows, 1, 4, |_, part| {
            let (row, ty, lost) = &mut part[0];
            let mut weights = site.weights[*row * n..(*row + 1) * n].to_vec();
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
    let scale = |m: &f32| match *m > 0.0 {
        true => (exponent * 0.5 * (m.ln() - mean)).exp(),
        false => 1.0,
    };
    squares
        .iter()
        .map(|m| scale(m).clamp(1.0 / MOST, MOST))
        .collect()
}

fn divide(values: &mut [f32], scales: &[f32]) {
    values.iter_mut().zip(scales).for_each(|(v, s)| *v /= s);
}

fn multiply_columns(site: &mut Site, scales: &[f32]) {
    for row in site.weights.chunks_exact_mut(site.columns) {
        row.iter_mut().zip(scales).for_each(|(w, s)| *w *= s);
    }
}

/// Divides the rows from `first` on, as many as there are scales.
fn divide_rows(site: &mut Site, first: usize, scales: &[f32]) {
    let rows = site.weights[first * site.columns..].chunks_exact_mut(site.columns);
    for (row, s) in rows.zip(scales) {
        row.iter_mut().for_each(|w| *w /= s);
    }
}
