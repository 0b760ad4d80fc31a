//! How weights are stored: in files, and in memory where they are not trained.

use burn::tensor::{DType, TensorData};
use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// A floating-point type of weights, by PyTorch's name in recipes and configs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// 32 bits.
    #[default]
    #[serde(rename = "float32")]
    F32,
    /// IEEE half precision, 16 bits.
    #[serde(rename = "float16")]
    F16,
    /// The upper half of an f32, 16 bits.
    #[serde(rename = "bfloat16")]
    Bf16,
}

impl Precision {
    /// Its name in `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// As a tensor's.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Bytes of one weight.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(crate) fn from_file(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(crate) fn in_file(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// The matrix `[rows, columns]` in little-endian `bytes` of type `from`, as `to`, row-major
/// or with rows and columns exchanged. The result is the only allocation.
///
/// # Panics
/// `bytes` is shorter than the matrix.
pub(crate) fn decode(
    bytes: &[u8],
    from: Precision,
    to: Precision,
    [rows, columns]: [usize; 2],
    transpose: bool,
) -> TensorData {
    let shape = if transpose {
        [columns, rows]
    } else {
        [rows, columns]
    };
    macro_rules! collect {
        ($type:ty, $get:expr) => {
            TensorData::new::<$type, _>(gather(rows, columns, transpose, $get), shape)
        };
    }
    let (wide, narrow) = (bytes.as_chunks::<4>().0, bytes.as_chunks::<2>().0);
    match (from, to) {
        (Precision::F32, Precision::F32) => collect!(f32, |i| f32::from_le_bytes(wide[i])),
        (Precision::F32, Precision::F16) => {
            collect!(f16, |i| f16::from_f32(f32::from_le_bytes(wide[i])))
        }
        (Precision::F32, Precision::Bf16) => {
            collect!(bf16, |i| bf16::from_f32(f32::from_le_bytes(wide[i])))
        }
        (Precision::F16, Precision::F32) => {
            collect!(f32, |i| f16::from_le_bytes(narrow[i]).to_f32())
        }
        (Precision::F16, Precision::F16) => collect!(f16, |i| f16::from_le_bytes(narrow[i])),
        (Precision::F16, Precision::Bf16) => {
            collect!(bf16, |i| bf16::from_f32(
                f16::from_le_bytes(narrow[i]).to_f32()
            ))
        }
        (Precision::Bf16, Precision::F32) => {
            collect!(f32, |i| bf16::from_le_bytes(narrow[i]).to_f32())
        }
        (Precision::Bf16, Precision::F16) => {
            collect!(f16, |i| f16::from_f32(
                bf16::from_le_bytes(narrow[i]).to_f32()
            ))
        }
        (Precision::Bf16, Precision::Bf16) => collect!(bf16, |i| bf16::from_le_bytes(narrow[i])),
    }
}

/// `data`'s values as little-endian `to`, a matrix with rows and columns exchanged if
/// `transpose`.
pub(crate) fn encode(data: &TensorData, to: Precision, transpose: bool) -> Vec<u8> {
    let shape = data.shape();
    let (rows, columns) = match shape.as_slice() {
        [rows, columns] => (*rows, *columns),
        other => (1, other.iter().product()),
    };
    macro_rules! bytes {
        ($type:ty, $to_f32:expr) => {{
            let values: &[$type] = data.as_slice().expect("the type was matched");
            let get = |i: usize| $to_f32(values[i]);
            match to {
                Precision::F32 => {
                    gather(rows, columns, transpose, |i| get(i).to_le_bytes()).into_flattened()
                }
                Precision::F16 => gather(rows, columns, transpose, |i| {
                    f16::from_f32(get(i)).to_le_bytes()
                })
                .into_flattened(),
                Precision::Bf16 => gather(rows, columns, transpose, |i| {
                    bf16::from_f32(get(i)).to_le_bytes()
                })
                .into_flattened(),
            }
        }};
    }
    match data.dtype() {
        DType::F32 => bytes!(f32, |v: f32| v),
        DType::F16 => bytes!(f16, f16::to_f32),
        DType::BF16 => bytes!(bf16, bf16::to_f32),
        other => unreachable!("weights are never {other:?}"),
    }
}

/// The values `get(i)` for `i` over a row-major `[rows, columns]`, in that order or, with
/// `transpose`, column by column.
fn gather<T: Copy + Default>(
    rows: usize,
    columns: usize,
    transpose: bool,
    get: impl Fn(usize) -> T,
) -> Vec<T> {
    if !transpose {
        return (0..rows * columns).map(get).collect();
    }
    // Square tiles keep both sides' cache lines in use until they are done with.
    const TILE: usize = 32;
    let mut out = vec![T::default(); rows * columns];
    for r0 in (0..rows).step_by(TILE) {
        for c0 in (0..columns).step_by(TILE) {
            for c in c0..columns.min(c0 + TILE) {
                for r in r0..rows.min(r0 + TILE) {
                    out[c * rows + r] = get(r * columns + c);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 45 x 70 crosses tiles in both directions with remainders.
    #[test]
    fn decoding_and_encoding_undo_each_other_in_every_precision() {
        let values: Vec<f32> = (0..45 * 70).map(|i| (i as f32 - 1500.0) / 64.0).collect();
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            let data = TensorData::new(values.clone(), [45, 70]);
            let bytes = encode(&data, precision, false);
            assert_eq!(bytes.len(), values.len() * precision.size());
            for to in [precision, Precision::F32] {
                for transpose in [false, true] {
                    let read = decode(&bytes, precision, to, [45, 70], transpose);
                    assert_eq!(bytes, encode(&read, precision, transpose));
                }
            }
        }
    }

    #[test]
    fn transposing_exchanges_rows_and_columns() {
        let bytes: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let data = decode(&bytes, Precision::F32, Precision::F32, [2, 3], true);
        assert_eq!(data.shape().as_slice(), [3, 2]);
        assert_eq!(
            data.as_slice::<f32>().unwrap(),
            [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
        );
    }
}
