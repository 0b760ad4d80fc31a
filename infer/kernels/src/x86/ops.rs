//! The bodies of `vector_ops.rs`, and the quantization of activations, compiled for AVX2 and, where
//! that was measured to be faster, for vectors of 512 bits.

use super::float;
use crate::int8::{self, Scale, Start};
use crate::vector_ops::{self, VectorOps};

/// Functions of the same arguments as `$body`, compiled for `$features`.
macro_rules! compiled {
    ($features:literal: $($visibility:vis fn $name:ident($($x:ident: $type:ty),+) $(-> $result:ty)? = $body:path;)+) => {
        $(
            #[target_feature(enable = $features)]
            $visibility fn $name($($x: $type),+) $(-> $result)? {
                $body($($x),+)
            }
        )+
    };
}

compiled! { "avx2":
    fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = vector_ops::rms_norm;
    fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) = vector_ops::swiglu;
    fn axpy(a: f32, x: &[f32], y: &mut [f32]) = vector_ops::axpy;
    fn log_sum_exp(x: &[f32]) -> f64 = vector_ops::log_sum_exp;
    pub(super) fn quantize_blocks(x: &[f32], q: &mut [i8], scales: &mut [Scale], starts: &mut [Start])
        = int8::quantize_blocks;
}

compiled! { "avx2,avx512f,avx512vl":
    fn swiglu_512(gate: &[f32], up: &[f32], out: &mut [f32]) = vector_ops::swiglu;
    fn log_sum_exp_512(x: &[f32]) -> f64 = vector_ops::log_sum_exp;
}

pub(super) const AVX2: VectorOps = VectorOps {
    rms_norm,
    swiglu,
    axpy,
    from_f16: float::from_f16,
    log_sum_exp,
};

pub(super) const AVX512: VectorOps = VectorOps {
    swiglu: swiglu_512,
    log_sum_exp: log_sum_exp_512,
    ..AVX2
};
