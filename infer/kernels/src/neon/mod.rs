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
mod gemv_k;
mod peak;
mod q4_0;
mod rows16;
mod smmla;
mod tile;

use super::table::{Kernels, Rows, panels};
use super::{activations, ops};

pub(super) static NEON: Kernels = Kernels {
    name: "neon",
    needs: "NEON",
    detect: || std::arch::is_aarch64_feature_detected!("neon"),
    rows: Rows {
        q4_0: gemv::neon::gemv::<{ gemv::Q4_0 }>,
        q4_1: gemv::neon::gemv::<{ gemv::Q4_1 }>,
        q5_0: gemv::neon::gemv::<{ gemv::Q5_0 }>,
        q5_1: gemv::neon::gemv::<{ gemv::Q5_1 }>,
        q8_0: gemv::neon::gemv::<{ gemv::Q8_0 }>,
        q4_k: gemv_k::neon::gemv::<{ gemv_k::Q4_K }>,
        q5_k: gemv_k::neon::gemv::<{ gemv_k::Q5_K }>,
        q6_k: gemv_k::neon::gemv::<{ gemv_k::Q6_K }>,
    },
    panels: panels!(rows16::neon, Unpack(tile::unpack_rows16)),
    peak: Some(peak::neon),
    tile: tile::neon,
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
    rows: Rows {
        q4_0: q4_0::dotprod,
        q4_1: gemv::dotprod::gemv::<{ gemv::Q4_1 }>,
        q5_0: gemv::dotprod::gemv::<{ gemv::Q5_0 }>,
        q5_1: gemv::dotprod::gemv::<{ gemv::Q5_1 }>,
        q8_0: gemv::dotprod::gemv::<{ gemv::Q8_0 }>,
        q4_k: gemv_k::dotprod::gemv::<{ gemv_k::Q4_K }>,
        q5_k: gemv_k::dotprod::gemv::<{ gemv_k::Q5_K }>,
        q6_k: gemv_k::dotprod::gemv::<{ gemv_k::Q6_K }>,
    },
    panels: panels!(rows16::dotprod, Unpack(tile::unpack_rows16)),
    peak: Some(peak::dotprod),
    tile: tile::dotprod,
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
    panels: panels!(rows16::dotprod, Unpack(smmla::unpack_rows16)),
    interleave: smmla::interleave,
    ops: OPS,
    ..DOTPROD
};

/// The portable bodies are NEON already; only half precision needs its instructions named.
const OPS: ops::Table = ops::Table {
    from_f16: float::from_f16,
    ..ops::PORTABLE
};
