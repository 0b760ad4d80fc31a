//! The type of every tensor: what the recipe says, and more bits under its budget where they take away most error.
//!
//! The error of a matrix in a type is the squared error of its weights over their mean square, which is the share of its
//! output's variance that is lost, times its size, for inputs alike in all directions.

use super::budget::{Choice, spend};
use super::encode::each_block;
use super::recipe::{Recipe, Rounding};
use crate::source::{SourceTensor, WeightSource};
use retort_format::{Error, GgmlType, Result, quant};
use retort_kernels::pool::Pool;

/// Bytes of a tensor in `ty`, which its rows divide into.
pub(super) fn size(tensor: &SourceTensor, ty: GgmlType) -> u64 {
    tensor.elements() / ty.block_size() as u64 * ty.bytes_per_block() as u64
}

/// The type of every tensor, in the source's order.
pub(super) fn types(
    source: &dyn WeightSource,
    recipe: &Recipe,
    pool: &Pool,
) -> Result<Vec<GgmlType>> {
    let tensors = source.tensors();
    let mut types: Vec<_> = tensors.iter().map(|tensor| recipe.ty(tensor)).collect();
    let Some(bits) = recipe.bits_per_weight else {
        return Ok(types);
    };
    let all: u64 = tensors.iter().map(SourceTensor::elements).sum();
    let least: u64 = tensors
        .iter()
        .zip(&types)
        .map(|(tensor, ty)| size(tensor, *ty))
        .sum();
    let budget = (bits * all as f64 / 8.0) as u64;
    if least > budget {
        return Err(Error::Argument(format!(
            "--bits-per-weight {bits}: {} is the least with --quant {}",
            (least as f64 * 8000.0 / all as f64).ceil() / 1000.0,
            recipe.quant.name().to_lowercase()
        )));
    }
    let mut choices = Vec::new();
    for (index, (tensor, &ty)) in tensors.iter().zip(&types).enumerate() {
        let mut options = vec![(ty, size(tensor, ty), 0.0)];
        if tensor.is_matrix() && !recipe.names(&tensor.name) {
            let larger = [GgmlType::Q4_1, GgmlType::Q8_0, GgmlType::F16];
            let fits = |ty: &GgmlType| tensor.dims[0].is_multiple_of(ty.block_size() as u64);
            options.extend(
                (larger.into_iter().filter(fits))
                    .map(|larger| (larger, size(tensor, larger), 0.0))
                    .filter(|(_, bytes, _)| *bytes > size(tensor, ty)),
            );
        }
        if options.len() > 1 {
            for (ty, _, error) in &mut options {
                *error = lost(source, index, *ty, recipe.rounding(), pool)?;
            }
        }
        choices.push(Choice { options, chosen: 0 });
    }
    spend(&mut choices, budget);
    for (ty, choice) in types.iter_mut().zip(choices) {
        *ty = choice.options[choice.chosen].0;
    }
    Ok(types)
}

/// The squared error of tensor number `tensor` in `ty` over its weights' mean square.
fn lost(
    source: &dyn WeightSource,
    tensor: usize,
    ty: GgmlType,
    rounding: Rounding,
    pool: &Pool,
) -> Result<f64> {
    let (mut error, mut square, mut n) = (0.0, 0.0, 0u64);
    each_block(source, tensor, ty, rounding, pool, |weights, bytes| {
        let mut decoded = vec![0.0; weights.len()];
        quant::dequantize_row(ty, bytes, &mut decoded)?;
        for (w, d) in weights.iter().zip(decoded) {
            error += f64::from(w - d).powi(2);
            square += f64::from(*w).powi(2);
        }
        n += weights.len() as u64;
        Ok(())
    })?;
    Ok(if square > 0.0 {
        error / square * n as f64
    } else {
        0.0
    })
}
