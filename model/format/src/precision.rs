//! Floating-point types of weights, in files and in memory, and conversion between them.
//!
//! In: little-endian bytes of a matrix. Out: its values in the type asked for, row-major or
//! transposed; and back.

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

    /// Bytes of one weight.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(crate) fn from_dtype(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(crate) fn to_dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// A number of one of the [`Precision`]s.
pub trait Element: Copy + Default {
    /// From the value that a file holds.
    fn from_f32(value: f32) -> Self;
    /// From the value that a file holds; exact for `f16` itself.
    fn from_f16(value: f16) -> Self;
    /// From the value that a file holds; exact for `bf16` itself.
    fn from_bf16(value: bf16) -> Self;
    /// Its value.
    fn to_f32(self) -> f32;
}

macro_rules! element {
    ($ty:ty, $from_f32:expr, $from_f16:expr, $from_bf16:expr, $to_f32:expr) => {
        impl Element for $ty {
            fn from_f32(value: f32) -> Self {
                $from_f32(value)
            }
            fn from_f16(value: f16) -> Self {
                $from_f16(value)
            }
            fn from_bf16(value: bf16) -> Self {
                $from_bf16(value)
            }
            fn to_f32(self) -> f32 {
                $to_f32(self)
            }
        }
    };
}

element!(f32, From::from, f16::to_f32, bf16::to_f32, From::from);
element!(
    f16,
    f16::from_f32,
    From::from,
    |x| f16::from_f32(bf16::to_f32(x)),
    f16::to_f32
);
element!(
    bf16,
    bf16::from_f32,
    |x| bf16::from_f32(f16::to_f32(x)),
    From::from,
    bf16::to_f32
);

/// The matrix `[rows, columns]` in little-endian `bytes` of type `from`, row-major or with rows
/// and columns exchanged. The result is the only allocation.
///
/// # Panics
/// `bytes` is shorter than the matrix.
pub fn decode<T: Element>(
    bytes: &[u8],
    from: Precision,
    [rows, columns]: [usize; 2],
    transpose: bool,
) -> Vec<T> {
    let (wide, narrow) = (bytes.as_chunks::<4>().0, bytes.as_chunks::<2>().0);
    match from {
        Precision::F32 => gather(rows, columns, transpose, |i| {
            T::from_f32(f32::from_le_bytes(wide[i]))
        }),
        Precision::F16 => gather(rows, columns, transpose, |i| {
            T::from_f16(f16::from_le_bytes(narrow[i]))
        }),
        Precision::Bf16 => gather(rows, columns, transpose, |i| {
            T::from_bf16(bf16::from_le_bytes(narrow[i]))
        }),
    }
}

/// The matrix `[rows, columns]` in `values` as little-endian `to`, with rows and columns
/// exchanged if `transpose`.
///
/// # Panics
/// `values` are fewer than the matrix has.
pub fn encode<T: Element>(
    values: &[T],
    to: Precision,
    [rows, columns]: [usize; 2],
    transpose: bool,
) -> Vec<u8> {
    let get = |i: usize| values[i].to_f32();
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
}

/// The shortest decimal that is `x` in single precision: 1e-5 and not 9.999999747378752e-6.
pub fn shortest_decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
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
    fn encode_undoes_decode_in_every_precision() {
        let values: Vec<f32> = (0..45 * 70).map(|i| (i as f32 - 1500.0) / 64.0).collect();
        fn again<T: Element>(bytes: &[u8], precision: Precision) {
            for transpose in [false, true] {
                let read: Vec<T> = decode(bytes, precision, [45, 70], transpose);
                let dims = if transpose { [70, 45] } else { [45, 70] };
                assert_eq!(bytes, encode(&read, precision, dims, transpose));
            }
        }
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            let bytes = encode(&values, precision, [45, 70], false);
            assert_eq!(bytes.len(), values.len() * precision.size());
            again::<f32>(&bytes, precision);
            match precision {
                Precision::F32 => {}
                Precision::F16 => again::<f16>(&bytes, precision),
                Precision::Bf16 => again::<bf16>(&bytes, precision),
            }
        }
    }

    #[test]
    fn transpose_exchanges_rows_and_columns() {
        let bytes: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let values: Vec<f32> = decode(&bytes, Precision::F32, [2, 3], true);
        assert_eq!(values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}
