//! How much arithmetic this machine's processor can do at once: what a run's is compared with.
//!
//! Nothing in; out floating-point operations a second of all threads together, in fused multiply-adds of f32 vectors
//! that depend on nothing but themselves, with the widest instructions there are. No product of matrices can be faster.

use std::hint::black_box;
use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};

/// Sums that are added to in turn: enough to hide the latency of an addition.
const SUMS: usize = 12;
/// Additions to each of them in one measurement, some milliseconds.
const ROUNDS: usize = 1 << 20;
/// Measurements, of which the fastest counts.
const TIMES: usize = 5;

/// Where the sums begin, what they are multiplied with, and what is added. Nobody who compiles it may know
/// them: what is known in advance need not be computed.
struct Loop([f32; 3]);

impl WithSimd for Loop {
    /// Operations done, and what they came to, which nobody can leave out.
    type Output = (f64, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let [first, factor, term] = self.0.map(|x| simd.splat_f32s(x));
        let mut sums = [first; SUMS];
        for i in 1..SUMS {
            // No two alike, which could be one.
            sums[i] = simd.add_f32s(sums[i - 1], first);
        }
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, factor, term);
            }
        }
        let total = sums
            .into_iter()
            .fold(simd.splat_f32s(0.0), |a, b| simd.add_f32s(a, b));
        let operations = 2 * SUMS * ROUNDS * S::F32_LANES;
        (operations as f64, simd.reduce_sum_f32s(total))
    }
}

/// Measures it, in about a twentieth of a second.
pub fn peak_flops_per_second() -> f64 {
    let arch = Arch::new();
    let once = |_: rayon::BroadcastContext<'_>| {
        let (operations, sum) = arch.dispatch(Loop(black_box([1.0, 0.999_999, 1e-6])));
        black_box(sum);
        operations
    };
    let measure = || {
        let start = Instant::now();
        let operations: f64 = rayon::broadcast(once).iter().sum();
        operations / start.elapsed().as_secs_f64()
    };
    (0..TIMES).map(|_| measure()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    #[test]
    fn peak_flops_are_plausible_per_thread() {
        // A thread of the slowest processor that this is built for does a hundred million, and none two units of
        // 512 bits at more than 8 GHz; a loop that the compiler left out is faster.
        let peak = super::peak_flops_per_second() / rayon::current_num_threads() as f64;
        assert!(peak > 1e8 && peak < 5e11, "{peak}");
    }
}
