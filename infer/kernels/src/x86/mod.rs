//! x86-64 kernels in three tables: AVX2, AVX2 with the VNNI dot product in its VEX form, and AVX-512 with VNNI.
//!
//! The int8 products differ in one instruction group only. `vpdpbusd` multiplies unsigned by signed bytes and adds
//! four neighbours to an i32 lane; AVX2 alone does the same in two steps (`vpmaddubsw`, `vpmaddwd`), whose i16
//! intermediate must not saturate: it holds two products, so unsigned × signed must stay below 2^14, which 4-bit
//! weights (15 × 127) and magnitudes of int8 weights (128 × 127) do.

mod attention;
mod float;
mod gemv;
mod gemv512;
mod gemv_k;
mod peak;
mod rows16;
mod rows16_512;
mod tile;

use super::activations::{self, Scale, Start};
use super::ops;
use super::table::{Kernels, Rows, panels};
use half::f16;
use std::arch::x86_64::*;

/// How many bytes before they are needed weights are asked for, where they are read once and in a straight line. The
/// processor's own prefetching stops at the end of a page.
const AHEAD: usize = 4096;

/// Asks for the `bytes` bytes that come [`AHEAD`] of `p`, which may be anywhere.
#[inline(always)]
fn ask_ahead(p: *const u8, bytes: usize) {
    for line in 0..bytes.div_ceil(64) {
        // SAFETY: a prefetch never faults and changes nothing that a program can see; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(AHEAD + 64 * line).cast()) };
    }
}

/// The sum of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn sum(v: __m256) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
}

fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) static AVX2: Kernels = Kernels {
    name: "avx2",
    needs: "AVX2, FMA and F16C",
    detect: has_avx2,
    rows: Rows {
        q4_0: gemv::avx2::q4_0,
        q4_1: gemv::avx2::q4_1,
        q5_0: gemv::avx2::q5_0,
        q5_1: gemv::avx2::q5_1,
        q8_0: gemv::avx2::q8_0,
        q4_k: gemv_k::avx2::q4_k,
        q5_k: gemv_k::avx2::q5_k,
        q6_k: gemv_k::avx2::q6_k,
    },
    panels: panels!(rows16::avx2::gemv, Tile(rows16::avx2::tile)),
    peak: Some(peak::avx2),
    tile: tile::avx2,
    interleave: tile::interleave,
    bias: 0,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks,
    attend: attention::avx2::attend,
    ops: OPS,
};

pub(super) static VNNI: Kernels = Kernels {
    name: "vnni",
    needs: "AVX2, FMA, F16C and AVX-VNNI",
    detect: || has_avx2() && is_x86_feature_detected!("avxvnni"),
    rows: Rows {
        q4_0: gemv::vnni::q4_0,
        q4_1: gemv::vnni::q4_1,
        q5_0: gemv::vnni::q5_0,
        q5_1: gemv::vnni::q5_1,
        q8_0: gemv::vnni::q8_0,
        q4_k: gemv_k::vnni::q4_k,
        q5_k: gemv_k::vnni::q5_k,
        q6_k: gemv_k::vnni::q6_k,
    },
    panels: panels!(rows16::vnni::gemv, Tile(rows16::vnni::tile)),
    peak: Some(peak::vnni),
    tile: tile::vnni,
    interleave: tile::interleave,
    bias: -128,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks,
    attend: attention::avx2::attend,
    ops: OPS,
};

pub(super) static AVX512: Kernels = Kernels {
    name: "avx512",
    needs: "AVX-512 F, BW, VL and VNNI",
    detect: has_avx512,
    rows: Rows {
        q4_0: gemv512::q4_0,
        q4_1: gemv512::q4_1,
        q5_0: gemv512::q5_0,
        q5_1: gemv512::q5_1,
        q8_0: gemv512::q8_0,
        q4_k: gemv_k::avx512::q4_k,
        q5_k: gemv_k::avx512::q5_k,
        q6_k: gemv_k::avx512::q6_k,
    },
    panels: panels!(rows16_512::gemv, Tile(rows16_512::tile)),
    peak: Some(peak::avx512),
    tile: tile::avx512,
    interleave: tile::interleave,
    bias: -128,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks,
    attend: attention::avx512::attend,
    ops: OPS_512,
};

const OPS: ops::Table = ops::Table {
    rms_norm,
    swiglu,
    axpy,
    from_f16,
    log_sum_exp,
};

/// The same bodies in vectors of 512 bits, where that was measured to be faster.
const OPS_512: ops::Table = ops::Table {
    swiglu: swiglu_512,
    log_sum_exp: log_sum_exp_512,
    ..OPS
};

#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn swiglu_512(gate: &[f32], up: &[f32], out: &mut [f32]) {
    ops::body::swiglu(gate, up, out);
}

#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn log_sum_exp_512(x: &[f32]) -> f64 {
    ops::body::log_sum_exp(x)
}

#[target_feature(enable = "avx2")]
fn log_sum_exp(x: &[f32]) -> f64 {
    ops::body::log_sum_exp(x)
}

#[target_feature(enable = "avx2")]
fn quantize_blocks(x: &[f32], q: &mut [i8], scales: &mut [Scale], starts: &mut [Start]) {
    activations::quantize_blocks(x, q, scales, starts);
}

#[target_feature(enable = "avx2")]
fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    ops::body::rms_norm(x, weight, eps, out);
}

#[target_feature(enable = "avx2")]
fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    ops::body::swiglu(gate, up, out);
}

#[target_feature(enable = "avx2")]
fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    ops::body::axpy(a, x, y);
}

#[target_feature(enable = "avx2,f16c")]
fn from_f16(x: &[f16], out: &mut [f32]) {
    float::from_f16(x, out);
}
