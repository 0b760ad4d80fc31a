//! x86-64 kernels in three tables: AVX2, AVX2 with the VNNI dot product in its VEX form, and AVX-512 with VNNI.

mod attention;
mod dot;
mod float;
mod gemv;
mod gemv512;
mod gemv_k;
mod ops;
mod peak;
mod rows16;
mod rows16_512;
mod tile;
mod vector;

use crate::kernels::{Kernels, gemv, rows16};
use retort_format::quant::GgmlType;

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
    gemv: gemv!(gemv::avx2::gemv, gemv_k::avx2::gemv),
    rows16: rows16!(rows16::avx2::gemv, Tile(rows16::avx2::tile)),
    peak: Some(peak::avx2),
    tile: tile::avx2,
    interleave: tile::interleave,
    bias: 0,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks: ops::quantize_blocks,
    attend: attention::avx2::attend,
    ops: ops::AVX2,
};

pub(super) static VNNI: Kernels = Kernels {
    name: "vnni",
    needs: "AVX2, FMA, F16C and AVX-VNNI",
    detect: || has_avx2() && is_x86_feature_detected!("avxvnni"),
    gemv: gemv!(gemv::vnni::gemv, gemv_k::vnni::gemv),
    rows16: rows16!(rows16::vnni::gemv, Tile(rows16::vnni::tile)),
    peak: Some(peak::vnni),
    tile: tile::vnni,
    bias: -128,
    ops: ops::AVX2,
    ..AVX2
};

pub(super) static AVX512: Kernels = Kernels {
    name: "avx512",
    needs: "AVX-512 F, BW, VL and VNNI",
    detect: has_avx512,
    gemv: gemv!(gemv512::gemv, gemv_k::avx512::gemv),
    rows16: rows16!(rows16_512::gemv, Tile(rows16_512::tile)),
    peak: Some(peak::avx512),
    tile: tile::avx512,
    bias: -128,
    attend: attention::avx512::attend,
    ops: ops::AVX512,
    ..AVX2
};
