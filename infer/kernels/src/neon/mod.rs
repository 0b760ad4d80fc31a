//! Arm kernels in three tables: plain NEON, which every aarch64 has, NEON with the dot product instructions (Armv8.2
//! `dotprod`), and with the int8 matrix instructions besides (Armv8.6 `i8mm`), which many tokens use.
//! The intrinsics for `sdot` and `smmla` are not stable in Rust 1.95, so they stand here as assembly.

mod asm;
mod attention;
mod dot;
mod float;
mod gemv;
mod gemv_k;
mod peak;
mod q4_0;
mod rows16_asm;
mod rows16_plain;
mod rows16_sdot;
mod smmla;
mod tile;
mod unpack;

use crate::int8::quantize_blocks;
use crate::kernels::{Kernels, gemv, rows16};
use crate::vector_ops::{self, VectorOps};
use retort_format::quant::GgmlType;

pub(super) static NEON: Kernels = Kernels {
    name: "neon",
    needs: "NEON",
    detect: || std::arch::is_aarch64_feature_detected!("neon"),
    gemv: gemv!(gemv::neon::gemv, gemv_k::neon::gemv),
    rows16: rows16!(rows16_plain::neon, Unpack(unpack::units)),
    peak: Some(peak::neon),
    tile: tile::neon,
    interleave: unpack::interleave_units,
    bias: 0,
    float_dot_1: float::dot_1,
    float_dot_4: float::dot_4,
    quantize_blocks,
    attend: attention::attend,
    ops: OPS,
};

pub(super) static DOTPROD: Kernels = Kernels {
    name: "dotprod",
    needs: "NEON with the dot product instructions (Armv8.2 dotprod)",
    detect: || (NEON.detect)() && std::arch::is_aarch64_feature_detected!("dotprod"),
    gemv: gemv!(q4_0::dotprod, gemv::dotprod::gemv, gemv_k::dotprod::gemv),
    rows16: rows16!(rows16_sdot::dotprod, Unpack(unpack::units)),
    peak: Some(peak::dotprod),
    tile: tile::dotprod,
    ops: OPS,
    ..NEON
};

pub(super) static I8MM: Kernels = Kernels {
    name: "i8mm",
    needs: "NEON with the dot product and int8 matrix instructions (Armv8.6 i8mm)",
    detect: || (DOTPROD.detect)() && std::arch::is_aarch64_feature_detected!("i8mm"),
    rows16: rows16!(rows16_sdot::dotprod, Unpack(unpack::pairs)),
    peak: Some(peak::i8mm),
    tile: smmla::tile,
    interleave: unpack::interleave_pairs,
    ops: OPS,
    ..DOTPROD
};

/// The portable bodies are NEON already; only half precision needs its instructions named.
const OPS: VectorOps = VectorOps {
    from_f16: float::from_f16,
    ..vector_ops::PORTABLE
};
