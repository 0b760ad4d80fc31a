//! Products of float weights with f32 activations, and widening of half precision, written once for vectors of any
//! instruction set.
//!
//! In: a row of F32, F16 or BF16 weights `[cols]` in the file's encoding, `T` tokens `[cols]` in f32. Out: `T` sums.

/// The kernels of an instruction set with `$lanes` f32 to a `$vector`. The module that invokes it has
/// `load::<F>(w, i)`, `$lanes` weights from weight `i` on, F being one of `F32`, `F16`, `BF16`.
macro_rules! float_kernels {
    ($features:literal, $vector:ty, $lanes:literal, zero: $zero:expr, load: $load:ident, store: $store:ident,
     add: $add:ident, sum: $sum:ident, |$acc:ident, $w:ident, $x:ident| $multiply_add:expr) => {
        const F32: usize = 0;
        const F16: usize = 1;
        const BF16: usize = 2;

        /// `T` tokens in `C` chains of sums each; the tail of less than a vector for each chain goes to the scalar
        /// kernel.
        #[inline]
        #[target_feature(enable = $features)]
        #[allow(clippy::needless_range_loop)] // `c` counts vectors, of the weights and of each token alike
        fn dot<const F: usize, const T: usize, const C: usize>(
            ty: GgmlType,
            w: &[u8],
            x: &[&[f32]; T],
        ) -> [f32; T] {
            let size = if F == F32 { 4 } else { 2 };
            let n = w.len() / size;
            assert!(x.iter().all(|x| x.len() == n), "dot sizes");
            let whole = n - n % ($lanes * C);
            let mut sums: [[$vector; C]; T] = [[$zero; C]; T];
            for i in (0..whole).step_by($lanes * C) {
                for c in 0..C {
                    // SAFETY: `i + $lanes C <= n`, and every `x` has `n` values.
                    unsafe {
                        let $w = load::<F>(w.as_ptr(), i + $lanes * c);
                        for t in 0..T {
                            let $x = $load(x[t].as_ptr().add(i + $lanes * c));
                            let $acc = sums[t][c];
                            sums[t][c] = $multiply_add;
                        }
                    }
                }
            }
            let mut out = [0f32; T];
            for (out, sums) in out.iter_mut().zip(sums) {
                *out = $sum(sums.into_iter().reduce(|a, b| $add(a, b)).unwrap_or($zero));
            }
            if whole < n {
                let rest = scalar::float_dot(ty, &w[whole * size..], &x.map(|x| &x[whole..]));
                for (out, rest) in out.iter_mut().zip(rest) {
                    *out += rest;
                }
            }
            out
        }

        /// One token.
        #[target_feature(enable = $features)]
        pub(super) fn dot_1(ty: GgmlType, w: &[u8], x: &[&[f32]; 1]) -> [f32; 1] {
            match ty {
                GgmlType::F16 => dot::<F16, 1, 4>(ty, w, x),
                GgmlType::BF16 => dot::<BF16, 1, 4>(ty, w, x),
                _ => dot::<F32, 1, 4>(ty, w, x),
            }
        }

        /// Four tokens.
        #[target_feature(enable = $features)]
        pub(super) fn dot_4(
            ty: GgmlType,
            w: &[u8],
            x: &[&[f32]; FLOAT_TOKENS],
        ) -> [f32; FLOAT_TOKENS] {
            match ty {
                GgmlType::F16 => dot::<F16, FLOAT_TOKENS, 2>(ty, w, x),
                GgmlType::BF16 => dot::<BF16, FLOAT_TOKENS, 2>(ty, w, x),
                _ => dot::<F32, FLOAT_TOKENS, 2>(ty, w, x),
            }
        }

        /// Widens half precision, sixteen numbers at a time; the half crate calls a function for every vector.
        #[target_feature(enable = $features)]
        pub(super) fn from_f16(x: &[f16], out: &mut [f32]) {
            let n = x.len().min(out.len());
            let (x, x_rest) = x[..n].as_chunks::<16>();
            let (out, out_rest) = out[..n].as_chunks_mut::<16>();
            for (out, x) in out.iter_mut().zip(x) {
                for i in (0..16).step_by($lanes) {
                    // SAFETY: both are references to sixteen numbers.
                    unsafe { $store(out.as_mut_ptr().add(i), load::<F16>(x.as_ptr().cast(), i)) };
                }
            }
            for (out, x) in out_rest.iter_mut().zip(x_rest) {
                *out = x.to_f32();
            }
        }
    };
}
pub(crate) use float_kernels;
