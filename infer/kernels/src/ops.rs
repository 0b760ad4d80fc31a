//! Vector operations between the matrix products: RMSNorm, SwiGLU, sums, and widening keys and values from half
//! precision. Slices of unequal length are cut to the shorter one.
//!
//! The active kernels compute them (`vector_ops.rs`).

use crate::table::current;
pub use crate::vector_ops::exp;
use crate::vector_ops::rms_scale;
use half::f16;

/// `out = x / sqrt(mean(x²) + eps) * weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: the current table's features were detected; the function takes slices of any length.
    unsafe { (current().ops.rms_norm)(x, weight, eps, out) }
}

/// [`rms_norm`] in place, for the few numbers of a head.
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let scale = rms_scale(x, eps);
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
            close(exp(x), if x < -87.3 { 0.0 } else { want }, 2.5e-7);
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
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
