//! The bodies of the vector operations, written once in lanes that LLVM vectorises and inlined
//! into each instruction set's instances, so that all of them round alike.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// The operations of one instruction set.
pub(crate) struct VectorOps {
    pub rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub swiglu: unsafe fn(&[f32], &[f32], &mut [f32]),
    pub axpy: unsafe fn(f32, &[f32], &mut [f32]),
    pub from_f16: unsafe fn(&[f16], &mut [f32]),
    pub log_sum_exp: unsafe fn(&[f32]) -> f64,
}

/// Compiled for what every processor of the architecture has.
pub(crate) const PORTABLE: VectorOps = VectorOps {
    rms_norm,
    swiglu,
    axpy,
    from_f16,
    log_sum_exp,
};

const LANES: usize = 16;

/// RMSNorm's scale, `1 / sqrt(mean(x²) + eps)`. Squares add up in sixteen lanes, the last ones in the first.
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
