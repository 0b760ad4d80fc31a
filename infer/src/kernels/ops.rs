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
    pub(super) rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub(super) softmax: unsafe fn(&mut [f32]),
    pub(super) swiglu: unsafe fn(&[f32], &[f32], &mut [f32]),
    pub(super) axpy: unsafe fn(f32, &[f32], &mut [f32]),
    pub(super) axpy_f16: unsafe fn(f32, &[f16], &mut [f32]),
    pub(super) to_f16: unsafe fn(&[f32], &mut [f16]),
    pub(super) from_f16: unsafe fn(&[f16], &mut [f32]),
}

pub(super) const PORTABLE: Table = Table {
    rms_norm: body::rms_norm,
    softmax: body::softmax,
    swiglu: body::swiglu,
    axpy: body::axpy,
    axpy_f16: body::axpy_f16,
    to_f16: body::to_f16,
    from_f16: body::from_f16,
};

/// `out = x / sqrt(mean(x²) + eps) * weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: the current table's features were detected; the function takes slices of any length.
    unsafe { (current().ops.rms_norm)(x, weight, eps, out) }
}

/// [`rms_norm`] in place, for the few numbers of a head.
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let scale = body::rms_scale(x, eps);
    for (x, w) in x.iter_mut().zip(weight) {
        *x = *x * scale * w;
    }
}

/// Softmax in place; an empty slice stays empty, entries of -inf become 0 (all of them -inf: NaN).
pub fn softmax(x: &mut [f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.softmax)(x) }
}

/// `out = silu(gate) * up`, where `silu(v) = v / (1 + exp(-v))`.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.swiglu)(gate, up, out) }
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

/// `out = x`, in single precision.
pub fn from_f16(x: &[f16], out: &mut [f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.from_f16)(x, out) }
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

    /// What RMSNorm multiplies by.
    #[inline(always)]
    pub fn rms_scale(x: &[f32], eps: f32) -> f32 {
        let squares: f32 = reduce(x, 0.0, |sum, x| sum + x * x).iter().sum();
        1.0 / (squares / x.len() as f32 + eps).sqrt()
    }

    #[inline(always)]
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let scale = rms_scale(x, eps);
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
    pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((g, u), out) in gate.iter().zip(up).zip(out) {
            *out = g / (1.0 + exp(-g)) * u;
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
            *y += a * crate::quant::half_to_f32(x.to_bits());
        }
    }

    #[inline(always)]
    pub fn to_f16(x: &[f32], out: &mut [f16]) {
        let n = x.len().min(out.len());
        out[..n].convert_from_f32_slice(&x[..n]);
    }

    #[inline(always)]
    pub fn from_f16(x: &[f16], out: &mut [f32]) {
        let n = x.len().min(out.len());
        x[..n].convert_to_f32_slice(&mut out[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernels;
    use super::*;

    fn values(n: usize, scale: f32) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * scale)
            .collect()
    }

    fn close(got: f32, want: f64, relative: f64) {
        assert!(
            (f64::from(got) - want).abs() <= relative * want.abs() + 1e-37,
            "{got} for {want}"
        );
    }

    #[test]
    fn exp_is_accurate() {
        for i in -88_000..=88_000 {
            let x = i as f32 / 1000.0;
            let want = f64::from(x).exp();
            close(body::exp(x), if x < -87.3 { 0.0 } else { want }, 2.5e-7);
        }
        assert_eq!(body::exp(0.0), 1.0);
        assert_eq!(body::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(body::exp(89.0), f32::INFINITY);
        assert!(body::exp(f32::NAN).is_nan());
    }

    /// Calls every operation of every table and compares with f64.
    #[test]
    fn operations_agree_with_f64() {
        for (k, n) in Kernels::available()
            .into_iter()
            .flat_map(|k| [1, 7, 16, 33, 576].map(|n| (k, n)))
        {
            let (x, w) = (values(n, 20.0), values(n + 3, 1.0));
            let mut y = vec![0.0; n];
            // SAFETY: the table is available, so its features were detected.
            unsafe { (k.ops.rms_norm)(&x, &w, 1e-5, &mut y) };
            let square: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            let scale = 1.0 / (square / n as f64 + 1e-5).sqrt();
            x.iter()
                .zip(&w)
                .zip(&y)
                .for_each(|((x, w), y)| close(*y, f64::from(*x) * scale * f64::from(*w), 1e-5));

            let mut y = x.clone();
            // SAFETY: as above.
            unsafe { (k.ops.softmax)(&mut y) };
            let largest = x.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = x.iter().map(|x| f64::from(x - largest).exp()).sum();
            x.iter()
                .zip(&y)
                .for_each(|(x, y)| close(*y, f64::from(x - largest).exp() / total, 1e-5));

            let mut y = vec![0.0; n];
            // SAFETY: as above.
            unsafe { (k.ops.swiglu)(&x, &w, &mut y) };
            for ((x, w), y) in x.iter().zip(&w).zip(&y) {
                close(
                    *y,
                    f64::from(*x) / (1.0 + (-f64::from(*x)).exp()) * f64::from(*w),
                    1e-5,
                );
            }

            let mut halves = vec![f16::ZERO; n];
            let mut y = vec![1.0; n];
            let mut z = vec![1.0; n];
            let mut back = vec![0.0; n];
            // SAFETY: as above.
            unsafe {
                (k.ops.to_f16)(&x, &mut halves);
                (k.ops.from_f16)(&halves, &mut back);
                (k.ops.axpy_f16)(0.5, &halves, &mut y);
                (k.ops.axpy)(0.5, &x, &mut z);
            }
            for i in 0..n {
                assert_eq!(halves[i], f16::from_f32(x[i]), "{}", k.name);
                assert_eq!(back[i], halves[i].to_f32(), "{}", k.name);
                close(y[i], 1.0 + 0.5 * f64::from(halves[i].to_f32()), 1e-6);
                close(z[i], 1.0 + 0.5 * f64::from(x[i]), 1e-6);
            }
        }
        let (x, w) = (values(77, 1.0), values(80, 1.0));
        let halves: Vec<f16> = w.iter().map(|&w| f16::from_f32(w)).collect();
        let sum = |w: &dyn Fn(usize) -> f32| {
            (0..77)
                .map(|i| f64::from(x[i]) * f64::from(w(i)))
                .sum::<f64>()
        };
        assert!((f64::from(dot(&x, &w)) - sum(&|i| w[i])).abs() < 1e-4);
        assert!((f64::from(dot_f16(&x, &halves)) - sum(&|i| halves[i].to_f32())).abs() < 1e-4);
    }

    #[test]
    fn edges() {
        softmax(&mut []);
        let mut x = [0.0, f32::NEG_INFINITY, 0.0];
        softmax(&mut x);
        assert_eq!(x, [0.5, 0.0, 0.5]);
        assert_eq!(dot(&[], &[]), 0.0);
    }
}
