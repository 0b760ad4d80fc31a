//! A tensor encoded a few rows at a time.

use super::recipe::Rounding;
use crate::source::WeightSource;
use retort_format::{Error, GgmlType, Result, quant};
use retort_kernels::pool::Pool;

/// About how many weights are converted at once.
const BLOCK_WEIGHTS: usize = 1 << 20;

/// Encodes tensor number `tensor` a few rows at a time, handing on the weights and their bytes.
pub(super) fn each_block(
    source: &dyn WeightSource,
    tensor: usize,
    ty: GgmlType,
    rounding: Rounding,
    pool: &Pool,
    mut visit: impl FnMut(&[f32], &[u8]) -> Result<()>,
) -> Result<()> {
    let (cols, rows) = source.tensors()[tensor].shape();
    let step = (BLOCK_WEIGHTS / cols).max(1);
    let mut weights = Vec::new();
    for first in (0..rows).step_by(step) {
        source.rows(tensor, first..(first + step).min(rows), &mut weights)?;
        if weights.iter().any(|weight| !weight.is_finite()) || !quant::fits(ty, &weights) {
            let problem = format!(
                "it holds weights that {ty} cannot; choose bf16 or f32, with --tensor for it alone, or check the file"
            );
            let path = source.metadata().path();
            return Err(Error::tensor(path, source.label(tensor), problem));
        }
        let mut encoded: Vec<_> = weights
            .chunks(cols)
            .map(|row| (row, Ok(Vec::new())))
            .collect();
        pool.rows(&mut encoded, 1, 8, |_, part| {
            let mut out = Vec::new();
            part[0].1 = rounding(ty, part[0].0, &mut out).map(|()| out);
        });
        let mut bytes = Vec::new();
        for (_, row) in encoded {
            bytes.extend(row?);
        }
        visit(&weights, &bytes)?;
    }
    Ok(())
}
