//! Between a checkpoint's bytes and Burn's tensor data.

use std::ops::Range;

use burn::tensor::{DType, TensorData};
use half::{bf16, f16};
use retort_format::checkpoint::SafetensorsMap;
use retort_format::{Precision, TensorSpec, precision};

/// Burn's name of `precision`.
pub(crate) fn dtype(precision: Precision) -> DType {
    match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::Bf16 => DType::BF16,
    }
}

/// Rows `rows` of `spec` as `precision`: a vector as it is, a matrix as `[rows, in]` or, with
/// `transpose`, as `[in, rows]`.
///
/// # Panics
/// As [`SafetensorsMap::rows`].
pub(crate) fn read(
    map: &SafetensorsMap,
    spec: &TensorSpec,
    rows: Range<usize>,
    precision: Precision,
    transpose: bool,
) -> TensorData {
    let shape = match spec.shape.get(1) {
        None => vec![rows.len()],
        Some(&columns) if transpose => vec![columns, rows.len()],
        Some(&columns) => vec![rows.len(), columns],
    };
    match precision {
        Precision::F32 => TensorData::new(map.rows::<f32>(spec, rows, transpose), shape),
        Precision::F16 => TensorData::new(map.rows::<f16>(spec, rows, transpose), shape),
        Precision::Bf16 => TensorData::new(map.rows::<bf16>(spec, rows, transpose), shape),
    }
}

/// `data`'s values as little-endian `to`, a matrix with rows and columns exchanged if
/// `transpose`.
pub(crate) fn encode(data: &TensorData, to: Precision, transpose: bool) -> Vec<u8> {
    let shape = data.shape();
    let dims = match shape.as_slice() {
        [rows, columns] => [*rows, *columns],
        other => [1, other.iter().product()],
    };
    macro_rules! bytes {
        ($type:ty) => {{
            let values: &[$type] = data.as_slice().expect("the type was matched");
            precision::encode(values, to, dims, transpose)
        }};
    }
    match data.dtype() {
        DType::F32 => bytes!(f32),
        DType::F16 => bytes!(f16),
        DType::BF16 => bytes!(bf16),
        other => unreachable!("weights are never {other:?}"),
    }
}
