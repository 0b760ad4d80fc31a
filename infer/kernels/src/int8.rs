//! One token's activations in int8, as kernels for one token read them, and their quantization.
//!
//! In: f32 `[cols]`. Out, per block of 32 neighbouring values: `d = max|x| / 127`, `q = round(x / d)` with halves to
//! even. So `q` is in -127..=127, never -128 (which the sign tricks of some kernels rely on). A block with a NaN or an
//! infinity gets `d = NaN`, so that the result shows it.

use retort_format::quant::round;

/// Values per activation block.
pub(crate) const BLOCK: usize = round::BLOCK;

/// Scale of a block of 32 and the scaled sum of its integers, `[d, d Σq]`, which minima are multiplied with.
pub(crate) type Scale = [f32; 2];

/// `-8 Σq` over a block: what a sum of products with nibbles that are 8 too large starts from.
pub(crate) type Start = i32;

/// One token's int8 activations.
#[derive(Clone, Copy, Default)]
pub(crate) struct Int8Row<'a> {
    /// `cols` integers.
    pub q: &'a [i8],
    /// `cols / 32` scales with sums.
    pub scales: &'a [Scale],
    /// `cols / 32` corrections for kernels that take nibbles as they are.
    pub starts: &'a [Start],
}

/// The scalar form of the quantization, written so that it vectorises where it is inlined.
#[inline(always)]
pub(crate) fn quantize_blocks(x: &[f32], q: &mut [i8], scales: &mut [Scale], starts: &mut [Start]) {
    let (x, _) = x.as_chunks::<BLOCK>();
    let (q, _) = q.as_chunks_mut::<BLOCK>();
    for (((x, q), scale), start) in x.iter().zip(q).zip(scales).zip(starts) {
        let (d, integers) = round::int8(x);
        for (q, i) in q.iter_mut().zip(&integers) {
            *q = *i as i8;
        }
        let sum: i32 = integers.iter().sum();
        *start = -8 * sum;
        *scale = [d, d * sum as f32];
    }
}
