//! Vector operations between the matrix products: RMSNorm, SwiGLU, sums, and widening keys and values from half
//! precision. Slices of unequal length are cut to the shorter one.
//!
//! Each body is written once, in lanes that LLVM vectorises, and instantiated per instruction set (`PORTABLE`, which
//! on Arm is already NEON, and an AVX2 version), so all tables round alike.

use super::table::current;
use half::f16;

/// The operations of one instruction set.
pub(super) struct Table {
    pub(super) rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub(super) swiglu: unsafe fn(&[f32], &[f32], &mut [f32]),
    pub(super) axpy: unsafe fn(f32, &[f32], &mut [f32]),
    pub(super) from_f16: unsafe fn(&[f16], &mut [f32]),
    pub(super) log_sum_exp: unsafe fn(&[f32]) -> f64,
}

pub(super) const PORTABLE: Table = Table {
    rms_norm: body::rms_norm,
    swiglu: body::swiglu,
    axpy: body::axpy,
    from_f16: body::from_f16,
    log_sum_exp: body::log_sum_exp,
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

/// `out = x`, in single precision.
pub fn from_f16(x: &[f16], out: &mut [f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.from_f16)(x, out) }
}

/// The logarithm of the sum of exponentials: what a logit has to be less by to be a log-probability. NaN if any is.
pub fn log_sum_exp(x: &[f32]) -> f64 {
    // SAFETY: as in `rms_norm`.
    unsafe { (current().ops.log_sum_exp)(x) }
}

pub use body::exp;

/// The bodies, inlined into each instruction set's instances.
pub(super) mod body {
    use half::f16;
    use half::slice::HalfFloatSliceExt;

    const LANES: usize = 16;

    /// What RMSNorm multiplies by. Squares add up in sixteen lanes, the last ones in the first.
    #[inline(always)]
    pub fn rms_scale(x: &[f32], eps: f32) -> f32 {
        let mut lanes = [0f32; LANES];
        let (chunks, rest) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x * x;
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane += x * x;
        }
        let squares: f32 = lanes.iter().sum();
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

    /// Under the largest, so that none overflows; added in sixteen lanes of f64, the last ones in the first.
    #[inline(always)]
    pub fn log_sum_exp(x: &[f32]) -> f64 {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        for chunk in chunks.iter().map(|chunk| &chunk[..]).chain([rest]) {
            for (largest, x) in largest.iter_mut().zip(chunk) {
                *largest = if *x > *largest { *x } else { *largest };
            }
        }
        let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut lanes = [0f64; LANES];
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(exp(x - largest));
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(exp(x - largest));
        }
        lanes.iter().sum::<f64>().ln() + f64::from(largest)
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
    use retort_test_kit::Random;

    use super::*;

    fn values(n: usize, scale: f32) -> Vec<f32> {
        let values = Random::new(1).f32s(n).into_iter();
        values.map(|value| value * scale).collect()
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

            // SAFETY: as above.
            let found = unsafe { (k.ops.log_sum_exp)(&x) };
            let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
            assert!((found - sum.ln()).abs() < 1e-6, "{}: {found}", k.name);
            // SAFETY: as above.
            let found = unsafe { (k.ops.log_sum_exp)(&[&x[..], &[f32::NAN]].concat()) };
            assert!(found.is_nan(), "{}: {found}", k.name);

            let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
            let (mut wide, mut y) = (vec![0.0; n], vec![1.0; n]);
            // SAFETY: as above.
            unsafe {
                (k.ops.from_f16)(&halves, &mut wide);
                (k.ops.axpy)(0.5, &x, &mut y);
            }
            for i in 0..n {
                assert_eq!(wide[i], halves[i].to_f32(), "{}", k.name);
                close(y[i], 1.0 + 0.5 * f64::from(x[i]), 1e-6);
            }
        }
    }
}
