//! Arm kernels in two tables: plain NEON, which every aarch64 has, and NEON with the dot product instructions
//! (Armv8.2 `dotprod`).
//!
//! They differ in how 16 signed products become sums: `sdot` adds four neighbours to an i32 lane; without it, two
//! widening multiplies add pairs in i16, which hold two products of at most 128 × 127, and one pairwise addition
//! widens. The intrinsic for `sdot` is not stable in Rust 1.95, so it stands here as one line of assembly.

mod float;
mod gemv;
mod tile;

use super::activations;
use super::ops;
use super::table::Kernels;

pub(super) static NEON: Kernels = Kernels {
    name: "neon",
    needs: "NEON",
    detect: || std::arch::is_aarch64_feature_detected!("neon"),
    gemv_q4_0: gemv::neon::q4_0,
    gemv_q4_1: gemv::neon::q4_1,
    gemv_q8_0: gemv::neon::q8_0,
    dot_unpacked_16: gemv::neon::dot_unpacked::<16>,
    dot_unpacked_32: gemv::neon::dot_unpacked::<32>,
    tile: tile::neon,
    interleave: tile::interleave,
    bias: 0,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks: activations::quantize_blocks,
    ops: OPS,
};

pub(super) static DOTPROD: Kernels = Kernels {
    name: "dotprod",
    needs: "NEON with the dot product instructions (Armv8.2 dotprod)",
    detect: || {
        std::arch::is_aarch64_feature_detected!("neon")
            && std::arch::is_aarch64_feature_detected!("dotprod")
    },
    gemv_q4_0: gemv::dotprod::q4_0,
    gemv_q4_1: gemv::dotprod::q4_1,
    gemv_q8_0: gemv::dotprod::q8_0,
    dot_unpacked_16: gemv::dotprod::dot_unpacked::<16>,
    dot_unpacked_32: gemv::dotprod::dot_unpacked::<32>,
    tile: tile::dotprod,
    interleave: tile::interleave,
    bias: 0,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks: activations::quantize_blocks,
    ops: OPS,
};

/// The portable bodies are NEON already; only half precision needs its instructions named.
const OPS: ops::Table = ops::Table {
    axpy_f16: float::axpy_f16,
    to_f16: float::to_f16,
    ..ops::PORTABLE
};
