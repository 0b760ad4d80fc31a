//! Arm kernels in three tables: plain NEON, which every aarch64 has, NEON with the dot product instructions (Armv8.2
//! `dotprod`), and with the int8 matrix instructions besides (Armv8.6 `i8mm`), which many tokens use.
//!
//! The first two differ in how 16 signed products become sums: `sdot` adds four neighbours to an i32 lane; without it, two
//! widening multiplies add pairs in i16, which hold two products of at most 128 × 127, and one pairwise addition
//! widens. The intrinsics for `sdot` and `smmla` are not stable in Rust 1.95, so
//! they stand here as assembly.

mod attention;
mod float;
mod gemv;
mod peak;
mod q4_0;
mod rows16;
mod smmla;
mod tile;

use super::activations;
use super::ops;
use super::table::{Kernels, ManyRows16};

pub(super) static NEON: Kernels = Kernels {
    name: "neon",
    needs: "NEON",
    detect: || std::arch::is_aarch64_feature_detected!("neon"),
    gemv_q4_0: gemv::neon::gemv::<{ gemv::Q4_0 }>,
    gemv_q4_1: gemv::neon::gemv::<{ gemv::Q4_1 }>,
    gemv_q8_0: gemv::neon::gemv::<{ gemv::Q8_0 }>,
    gemv_rows16: rows16::neon,
    dot_unpacked_16: gemv::neon::dot_unpacked::<16>,
    dot_unpacked_32: gemv::neon::dot_unpacked::<32>,
    peak: Some(peak::neon),
    tile: tile::neon,
    many_rows16: ManyRows16::Unpack(tile::unpack_rows16),
    interleave: tile::interleave,
    bias: 0,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks: activations::quantize_blocks,
    attend: attention::attend,
    ops: OPS,
};

pub(super) static DOTPROD: Kernels = Kernels {
    name: "dotprod",
    needs: "NEON with the dot product instructions (Armv8.2 dotprod)",
    detect: || {
        std::arch::is_aarch64_feature_detected!("neon")
            && std::arch::is_aarch64_feature_detected!("dotprod")
    },
    gemv_q4_0: q4_0::dotprod,
    gemv_q4_1: gemv::dotprod::gemv::<{ gemv::Q4_1 }>,
    gemv_q8_0: gemv::dotprod::gemv::<{ gemv::Q8_0 }>,
    gemv_rows16: rows16::dotprod,
    dot_unpacked_16: gemv::dotprod::dot_unpacked::<16>,
    dot_unpacked_32: gemv::dotprod::dot_unpacked::<32>,
    peak: Some(peak::dotprod),
    tile: tile::dotprod,
    many_rows16: ManyRows16::Unpack(tile::unpack_rows16),
    interleave: tile::interleave,
    bias: 0,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks: activations::quantize_blocks,
    attend: attention::attend,
    ops: OPS,
};

pub(super) static I8MM: Kernels = Kernels {
    name: "i8mm",
    needs: "NEON with the dot product and int8 matrix instructions (Armv8.6 i8mm)",
    detect: || (DOTPROD.detect)() && std::arch::is_aarch64_feature_detected!("i8mm"),
    peak: Some(peak::i8mm),
    tile: smmla::tile,
    many_rows16: ManyRows16::Unpack(smmla::unpack_rows16),
    interleave: smmla::interleave,
    ops: OPS,
    ..DOTPROD
};

/// The portable bodies are NEON already; only half precision needs its instructions named.
const OPS: ops::Table = ops::Table {
    axpy_f16: float::axpy_f16,
    to_f16: float::to_f16,
    from_f16: float::from_f16,
    ..ops::PORTABLE
};
