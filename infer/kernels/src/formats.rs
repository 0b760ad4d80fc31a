//! The quantized formats of weights as types, so that a kernel generic over one is compiled for each, and the checks of
//! sizes that make the kernels' loads sound.
//!
//! In: rows as they lie in a file, `[rows, cols / SIZE]` blocks of `BYTES` bytes (layouts in [`retort_format::quant`]),
//! or panels of sixteen rows ([`retort_format::quant::rows16`]).

use crate::int8::{BLOCK, Int8Row};
use retort_format::quant::GgmlType;
use retort_format::quant::rows16::{Format, ROWS};
pub(crate) use retort_format::quant::rows16::{Q4_0, Q4_1, Q8_0};

/// A quantized format in the file's own layout.
pub(crate) trait RowFormat {
    /// Its type in a file.
    const TY: GgmlType;
    /// Weights in a block.
    const SIZE: usize = Self::TY.block_size();
    /// Bytes of a block.
    const BYTES: usize = Self::TY.bytes_per_block();
    /// Whether a minimum follows the scale.
    const MIN: bool = Self::TY.has_min();
}

macro_rules! row_formats {
    ($($name:ident)+) => {
        $(impl RowFormat for $name {
            const TY: GgmlType = GgmlType::$name;
        })+
    };
}

pub(crate) enum Q5_0 {}
pub(crate) enum Q5_1 {}
#[allow(non_camel_case_types)] // ggml's name
pub(crate) enum Q4_K {}
#[allow(non_camel_case_types)] // ggml's name
pub(crate) enum Q5_K {}
#[allow(non_camel_case_types)] // ggml's name
pub(crate) enum Q6_K {}

row_formats! { Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K }

/// Bytes of a row of `F` as long as `x`.
///
/// # Panics
///
/// If `w` does not hold `y.len()` such rows, or `x` has no block or a part of one.
pub(crate) fn row_bytes<F: RowFormat>(w: &[u8], x: &Int8Row, y: &[f32]) -> usize {
    let scales = F::SIZE / BLOCK;
    let blocks = x.scales.len() / scales;
    let bytes = blocks * F::BYTES;
    assert!(
        blocks > 0
            && x.scales.len() == blocks * scales
            && x.q.len() == blocks * F::SIZE
            && x.starts.len() == x.scales.len()
            && w.len() == y.len() * bytes,
        "gemv sizes"
    );
    bytes
}

/// A kernel of one token that takes one row after another, of a function `row::<F>(w, x)` in scope.
macro_rules! row_by_row {
    ($features:literal) => {
        /// `y[r] = Σ w[r] x`.
        #[target_feature(enable = $features)]
        pub fn gemv<F: RowFormat>(w: &[u8], x: Int8Row, y: &mut [f32]) {
            let bytes = $crate::formats::row_bytes::<F>(w, &x, y);
            for (y, w) in y.iter_mut().zip(w.chunks_exact(bytes)) {
                // SAFETY: `row_bytes`: `w` has as many blocks as `x`, which has 32 values for every scale.
                *y = unsafe { row::<F>(w.as_ptr(), x) };
            }
        }
    };
}
pub(crate) use row_by_row;

/// Bytes of a panel of sixteen rows of `F` as long as `x`.
///
/// # Panics
///
/// If `panels` does not hold `y.len()` such rows, or `x` has no block or a part of one.
pub(crate) fn panel_bytes<F: Format>(panels: &[u8], x: &Int8Row, y: &[f32]) -> usize {
    let blocks = x.scales.len();
    let bytes = blocks * F::BLOCK;
    assert!(
        blocks > 0
            && x.q.len() == blocks * BLOCK
            && x.starts.len() == blocks
            && y.len().is_multiple_of(ROWS)
            && panels.len() == y.len() / ROWS * bytes,
        "gemv sizes"
    );
    bytes
}
