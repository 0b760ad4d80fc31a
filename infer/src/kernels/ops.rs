//! Vector operations between the matrix products: RMSNorm, softmax, SwiGLU, and the dot products and weighted sums
//! of attention. Slices of unequal length are cut to the shorter one.
//!
//! Each body is written once, in lanes that LLVM vectorises, and instantiated per instruction set (`PORTABLE`, which
//! on Arm is already NEON, and an AVX2 version), so all tables round alike.

use super::table::{FloatDot, current};
use crate::quant::GgmlType;
use half::f16;

/// The operations of one instruction set.
pub(super) struct Table {
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    softmax: unsafe fn(&mut [f32]),
    swiglu: unsafe fn(&mut [f32], &[f32]),
    axpy: unsafe fn(f32, &[f32], &mut [f32]),
    axpy_f16: unsafe fn(f32, &[f16], &mut [f32]),
    to_f16: unsafe fn(&[f32], &mut [f16]),
}

pub(super) const PORTABLE: Table = Table {
    rms_norm: body::rms_norm,
    softmax: body::softmax,
    swiglu: body::swiglu,
    axpy: body::axpy,
    axpy_f16: body::axpy_f16,
    to_f16: body::to_f16,
};

/// `out = x / sqrt(mean(x²) + eps) * weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: the current table's features were detected; the function takes slices of any length.
    unsafe { (current().ops.rms_norm)(x, weight, eps, out) }
}

/// Softmax in place; an empty slice stays empty, entries of -inf become 0 (all of them -inf: NaN).
pub fn softmax(x: &mut [f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.softmax)(x) }
}

/// `gate = silu(gate) * up`, where `silu(v) = v / (1 + exp(-v))`.
pub fn swiglu(gate: &mut [f32], up: &[f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.swiglu)(gate, up) }
}

/// `y += a x`.
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.axpy)(a, x, y) }
}

/// `y += a x` with `x` in half precision.
pub fn axpy_f16(a: f32, x: &[f16], y: &mut [f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.axpy_f16)(a, x, y) }
}

/// `out = x`, rounded to half precision.
pub fn to_f16(x: &[f32], out: &mut [f16]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.to_f16)(x, out) }
}

/// `Σ a b`.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    float_dot(GgmlType::F32, bytemuck::cast_slice(&b[..n]), &a[..n])
}

/// `Σ a b` with `b` in half precision.
pub fn dot_f16(a: &[f32], b: &[f16]) -> f32 {
    let n = a.len().min(b.len());
    float_dot(GgmlType::F16, bytemuck::cast_slice(&b[..n]), &a[..n])
}

/// Memory and files are both little-endian on the machines that are supported.
const _: () = assert!(cfg!(target_endian = "little"));

fn float_dot(ty: GgmlType, w: &[u8], x: &[f32]) -> f32 {
    let kernel: FloatDot<1> = current().float_dot_1;
    // SAFETY: the current table's features were detected; both slices have the same number of elements.
    unsafe { kernel(ty, w, &[x])[0] }
}

/// The bodies, inlined into each instruction set's instances.
pub(super) mod body {
    use half::f16;
    use half::slice::HalfFloatSliceExt;

    const LANES: usize = 16;

    /// A reduction in sixteen lanes, the rest in the first ones.
    #[inline(always)]
    fn reduce(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
        let mut lanes = [start; LANES];
        let (chunks, rest) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = f(*lane, *x);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane = f(*lane, *x);
        }
        lanes
    }

    #[inline(always)]
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let squares: f32 = reduce(x, 0.0, |sum, x| sum + x * x).iter().sum();
        let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
        for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * w;
        }
    }

    /// `exp(x)` to about 2 units in the last place: range reduction by ln 2 in two parts, then Cephes' polynomial.
    /// Below the smallest normal result it is 0, above the largest infinity.
    #[inline(always)]
    pub fn exp(x: f32) -> f32 {
        const ROUND: f32 = 12_582_912.0;
        let clamped = x.clamp(-87.3, 88.7);
        let n = clamped * std::f32::consts::LOG2_E + ROUND;
        let k = n.to_bits() as i32 - ROUND.to_bits() as i32;
        let n = n - ROUND;
        let r = clamped - n * 0.693_359_4 - n * -2.121_944_4e-4;
        let p = 1.987_569_1e-4;
        let p = p * r + 1.398_199_9e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let y = p * r * r + r + 1.0;
        // 2^k in two halves, as k may be 128
        let half = k >> 1;
        let power = |k: i32| f32::from_bits(((k + 127) << 23) as u32);
        let y = y * power(half) * power(k - half);
        let y = if x < -87.3 { 0.0 } else { y };
        let y = if x > 88.7 { f32::INFINITY } else { y };
        if x.is_nan() { x } else { y }
    }

    #[inline(always)]
    pub fn softmax(x: &mut [f32]) {
        let largest = reduce(x, f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        let largest = largest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        x.iter_mut().for_each(|x| *x = exp(*x - largest));
        let sum: f32 = reduce(x, 0.0, |a, b| a + b).iter().sum();
        let scale = 1.0 / sum;
        x.iter_mut().for_each(|x| *x *= scale);
    }

    #[inline(always)]
    pub fn swiglu(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = *g / (1.0 + exp(-*g)) * u;
        }
    }

    #[inline(always)]
    pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * x;
        }
    }

    #[inline(always)]
    pub fn axpy_f16(a: f32, x: &[f16], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * x.to_f32();
        }
    }

    #[inline(always)]
    pub fn to_f16(x: &[f32], out: &mut [f16]) {
        let n = x.len().min(out.len());
        out[..n].convert_from_f32_slice(&x[..n]);
    }
}
