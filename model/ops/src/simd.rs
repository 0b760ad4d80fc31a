//! Loops over slices of f32 that the compiler vectorises: [`simd!`](simd) computes an expression
//! compiled for the widest instructions that the processor has (AVX-512, AVX2 or NEON), and the
//! functions are inlined into it. Sums are kept in 16 lanes, so that a result does not depend on the
//! instructions chosen; nothing is contracted into fused multiply-adds.

/// Lanes that sums are kept in.
const LANES: usize = 16;

/// Computes an expression by code that is compiled for this processor. Without the attribute its
/// closure might be compiled once, for any.
macro_rules! simd {
    ($body:expr) => {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || $body,
        )
    };
}
pub(crate) use simd;

/// e^x within 2 units in the last place, for x clamped to ±87 (Cephes `expf`: the nearest
/// power of two times a polynomial of degree 5 on ±ln 2 / 2). Not a number stays one.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first short enough that n times it is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_5e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // The integer stands in the last bits of the shifted number: no conversion, which would
    // have to look after what is out of range.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    f32::from_bits(n.wrapping_add(127) << 23) * y
}

/// The natural logarithm within 2 units in the last place, of x no less than the smallest
/// normal number (Cephes `logf`: the exponent, and a polynomial of degree 8 on what is left).
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;
    let bits = x.max(f32::MIN_POSITIVE).to_bits();
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let small = mantissa < HALF_ROOT;
    let m = if small { mantissa + mantissa } else { mantissa } - 1.0;
    let exponent = (bits >> 23) as i32 - 126 - i32::from(small);
    let e = exponent as f32;
    let mut p = 7.037_683_6e-2;
    p = p * m - 1.151_461e-1;
    p = p * m + 1.167_699_9e-1;
    p = p * m - 1.242_014_1e-1;
    p = p * m + 1.424_932_3e-1;
    p = p * m - 1.666_805_8e-1;
    p = p * m + 2.000_071_5e-1;
    p = p * m - 2.499_999_4e-1;
    p = p * m + 3.333_333e-1;
    let square = m * m;
    let y = p * m * square - e * 2.121_944_4e-4 - 0.5 * square;
    m + y + e * 0.693_359_4
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The slices' parts of 16, then what is left of them: loops over arrays are vectorised.
#[inline(always)]
fn parts(x: &[f32]) -> (impl Iterator<Item = &[f32; LANES]>, &[f32]) {
    let (whole, rest) = x.as_chunks::<LANES>();
    (whole.iter(), rest)
}

/// a · b over the shorter of them.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let ((a, last_a), (b, last_b)) = (parts(&a[..n]), parts(&b[..n]));
    let mut lanes = [0f32; LANES];
    for (a, b) in a.zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = last_a.iter().zip(last_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Σ a · b · c over the shortest of them.
#[inline(always)]
pub(crate) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let n = a.len().min(b.len()).min(c.len());
    let (a, last_a) = parts(&a[..n]);
    let ((b, last_b), (c, last_c)) = (parts(&b[..n]), parts(&c[..n]));
    let mut lanes = [0f32; LANES];
    for (a, (b, c)) in a.zip(b.zip(c)) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i] * c[i];
        }
    }
    let last = last_a.iter().zip(last_b.iter().zip(last_c));
    let rest: f32 = last.map(|(a, (b, c))| a * b * c).sum();
    lanes.iter().sum::<f32>() + rest
}

/// The largest, −∞ of none.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = parts(x);
    for part in whole {
        for i in 0..LANES {
            lanes[i] = if part[i] > lanes[i] {
                part[i]
            } else {
                lanes[i]
            };
        }
    }
    let largest = |a: f32, &b: &f32| if b > a { b } else { a };
    let of_lanes = lanes.iter().fold(f32::NEG_INFINITY, largest);
    rest.iter().fold(of_lanes, largest)
}

/// x ← e^(x − shift); returns the sum.
#[inline(always)]
pub(crate) fn exp_sum(x: &mut [f32], shift: f32) -> f32 {
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    let mut lanes = [0f32; LANES];
    for part in whole {
        for i in 0..LANES {
            part[i] = exp(part[i] - shift);
            lanes[i] += part[i];
        }
    }
    let mut total: f32 = lanes.iter().sum();
    for x in rest {
        *x = exp(*x - shift);
        total += *x;
    }
    total
}

/// log Σ e^(scale · x), −∞ of none.
#[inline(always)]
pub(crate) fn log_sum_exp(x: &[f32], scale: f32) -> f32 {
    let shift = max(x) * scale;
    let (whole, rest) = parts(x);
    let mut lanes = [0f32; LANES];
    for part in whole {
        for i in 0..LANES {
            lanes[i] += exp(part[i] * scale - shift);
        }
    }
    let rest: f32 = rest.iter().map(|&x| exp(x * scale - shift)).sum();
    shift + (lanes.iter().sum::<f32>() + rest).ln()
}

/// The sum of `f` over the elements of `a` and `b`; `f` may change the element of `c` at the same
/// index.
#[inline(always)]
pub(crate) fn sum_pairs(
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    f: impl Fn(f32, f32, &mut f32) -> f32,
) -> f32 {
    let n = a.len().min(b.len()).min(c.len());
    let ((a, last_a), (b, last_b)) = (parts(&a[..n]), parts(&b[..n]));
    let (c, last_c) = c[..n].as_chunks_mut::<LANES>();
    let mut lanes = [0f32; LANES];
    for (c, (a, b)) in c.iter_mut().zip(a.zip(b)) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i], &mut c[i]);
        }
    }
    let last = last_c.iter_mut().zip(last_a.iter().zip(last_b));
    let rest: f32 = last.map(|(c, (&a, &b))| f(a, b, c)).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_is_within_two_units_in_the_last_place() {
        let mut worst = 0f64;
        for i in 0..2_000_000u32 {
            // All exponents, and often enough near 1, where the logarithm is small.
            let bits = match i % 2 {
                0 => 0x0080_0000 + i * 1000,
                _ => 1f32.to_bits() - 1_000_000 + i,
            };
            let x = f32::from_bits(bits);
            let (got, exact) = (f64::from(ln(x)), f64::from(x).ln());
            worst = worst.max((got - exact).abs() / exact.abs().max(f64::from(f32::EPSILON)));
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst}");
        assert_eq!(ln(0.0), ln(f32::MIN_POSITIVE));
    }

    #[test]
    fn log_sum_exp_is_its_definition() {
        for n in [1, 5, 16, 100] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 23) as f32) - 11.0).collect();
            let exact: f64 = x.iter().map(|&x| (f64::from(x) * 0.5).exp()).sum();
            let got = f64::from(simd!(log_sum_exp(&x, 0.5)));
            assert!((got - exact.ln()).abs() < 1e-6, "{got} {exact}");
        }
    }

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
            assert_eq!(simd!(dot(&x, &y)), plain);
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(simd!(max(&x)), largest);
            let mut e = x.clone();
            let total = simd!(exp_sum(&mut e, 3.0));
            let exact: f64 = x.iter().map(|&x| f64::from(x - 3.0).exp()).sum();
            assert!((f64::from(total) - exact).abs() <= 1e-5 * exact);
        }
    }
}
