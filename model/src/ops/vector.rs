//! Loops over slices of f32 that the compiler vectorises: [`simd`] runs a closure compiled
//! for the widest instructions that the processor has (AVX-512, AVX2 or NEON), and the rest
//! are inlined into it. Sums are kept in 16 lanes, so that a result does not depend on the
//! instructions chosen; nothing is contracted into fused multiply-adds.

/// Lanes that sums are kept in.
const LANES: usize = 16;

/// Runs `f`, compiled for this processor.
#[inline(always)]
pub(crate) fn simd<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// e^x within 2 units in the last place, for x clamped to ±87 (Cephes `expf`: the nearest
/// power of two times a polynomial of degree 5 on ±ln 2 / 2). Not a number stays one.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln 2 in two parts, the first short enough that n times it is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_5e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    f32::from_bits(((n as i32 + 127) << 23) as u32) * y
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Σ over `n` of `f`, which answers the term at an index, in lanes.
#[inline(always)]
pub(crate) fn sum(n: usize, mut f: impl FnMut(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(first + lane);
        }
    }
    let mut total: f32 = lanes.iter().sum();
    for i in whole..n {
        total += f(i);
    }
    total
}

/// a · b over the shorter of them.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    sum(n, |i| a[i] * b[i])
}

/// The largest, −∞ of none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.split_at(x.len() / LANES * LANES);
    for part in whole.chunks_exact(LANES) {
        for (lane, &x) in lanes.iter_mut().zip(part) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let largest = |a: f32, &b: &f32| if b > a { b } else { a };
    let of_lanes = lanes.iter().fold(f32::NEG_INFINITY, largest);
    rest.iter().fold(of_lanes, largest)
}

/// x ← e^(x − shift); answers the sum.
#[inline(always)]
pub(crate) fn exp_sum(x: &mut [f32], shift: f32) -> f32 {
    sum(x.len(), |i| {
        x[i] = exp(x[i] - shift);
        x[i]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0f64;
        for i in -870_000..=870_000 {
            let x = i as f32 / 10_000.0;
            let (got, exact) = (f64::from(exp(x)), f64::from(x).exp());
            worst = worst.max((got - exact).abs() / exact);
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst}");
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::INFINITY) > 1e37);
    }

    #[test]
    fn sums_and_maxima_are_those_of_plain_loops() {
        for n in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 23) as f32) - 11.0).collect();
            let y: Vec<f32> = (0..n).map(|i| ((i * 31 % 19) as f32) - 9.0).collect();
            let plain: f32 = x.iter().zip(&y).map(|(a, b)| a * b).sum();
            assert_eq!(simd(|| dot(&x, &y)), plain);
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(simd(|| max(&x)), largest);
            let mut e = x.clone();
            let total = simd(|| exp_sum(&mut e, 3.0));
            let exact: f64 = x.iter().map(|&x| f64::from(x - 3.0).exp()).sum();
            assert!((f64::from(total) - exact).abs() <= 1e-5 * exact);
        }
    }
}
