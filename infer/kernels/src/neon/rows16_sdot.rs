//! One token times panels of sixteen rows (layout in [`rows16`](retort_format::quant::rows16)), with `sdot`.
//!
//! 16 bytes are four columns of four rows, so a product's lanes add up to rows. Q4_0's nibbles stay 8 too large: the
//! sums start from `-8 Σx`. Sums of formats without a minimum start on top of the bits of 1.5 · 2^23, so that a
//! subtraction converts them to float, at half of what LLVM's model of Neoverse N2 counts for `scvtf`; with one, its
//! sums need the registers. Each kernel is one block of assembly in the order that an in-order core wants: independent
//! sums in turn, each used again at least four instructions later, loads half a unit ahead.

use super::asm::each;
use super::rows16_asm::*;
use crate::formats::panel_bytes;
use crate::int8::Int8Row;
use retort_format::quant::GgmlType;
use retort_format::quant::rows16::{Format, ROWS};
use std::arch::aarch64::*;

/// v30: 1.5 · 2^23. An integer added to its bits is, as a float, that much added to it, so that a subtraction converts.
macro_rules! magic {
    () => {
        "movi v30.4s, #0x4b, lsl #24\norr v30.4s, #0x40, lsl #16"
    };
}

/// v20 to v23 become `$from`, or the integers 0.
#[rustfmt::skip] // an instruction to a line
macro_rules! start {
    (0) => {
        "movi v20.4s, #0\nmovi v21.4s, #0\nmovi v22.4s, #0\nmovi v23.4s, #0"
    };
    ([$($to:literal),+], $from:literal) => {
        concat!($("mov v", $to, ".16b, v", $from, ".16b\n"),+)
    };
}

/// The lower and upper nibbles of a unit's sixteen rows in `$units` times its activations (lane `$u`).
macro_rules! unit {
    ($units:tt, $u:literal, $load:expr, $later:expr) => {
        concat!(
            nibbles!($units, $load, $later),
            each!("sdot", [20, 21, 22, 23] ".4s", [10, 11, 12, 13] ".16b", ", v0.4b[", $u, "]"),
            each!("sdot", [20, 21, 22, 23] ".4s", $units ".16b", ", v1.4b[", $u, "]"),
        )
    };
}

/// Bytes of a unit's sixteen rows in `$units` times its activations (lane `$u` of v`$x`), and a load for later.
macro_rules! bytes {
    ($units:tt, $x:literal, $u:literal, $load:expr) => {
        concat!(
            each!("sdot", [20, 21, 22, 23] ".4s", $units ".16b", ", v", $x, ".4b[", $u, "]"),
            $load,
        )
    };
}

/// v24 to v27: the rows' scales times the token's.
macro_rules! scales {
    () => {
        each!("fmul", [24, 25, 26, 27] ".4s", [24, 25, 26, 27] ".4s", ", v28.s[0]")
    };
}

/// v20 to v23, which started from `magic`, as floats.
macro_rules! floats {
    () => {
        each!("fsub", [20, 21, 22, 23] ".4s", [20, 21, 22, 23] ".4s", ", v30.4s")
    };
}

/// `y[r] = Σ w[r] x`.
#[target_feature(enable = "neon,dotprod")]
#[rustfmt::skip] // the assembly
pub(super) fn dotprod<F: Format>(panels: &[u8], x: Int8Row, y: &mut [f32]) {
    match F::TY {
        GgmlType::Q4_0 => { panels!(F, panels, x, y, [mask!(), magic!()], [
            "ldp q0, q1, [{q}], #32",
            load!([2, 3, 4, 5], 0),
            "ld1r {{v20.4s}}, [{o}]",
            load!([24, 26], -32),
            "ldr s28, [{s}], #8",
            "add {o}, {o}, #4",
            unit!([2, 3, 4, 5], 0,
                concat!(load!([6, 7, 8, 9], 64), "add v20.4s, v20.4s, v30.4s"), start!([21, 22, 23], 20)),
            unit!([6, 7, 8, 9], 1, load!([2, 3], 128), load!([4, 5], 160)),
            unit!([2, 3, 4, 5], 2, load!([6, 7], 192), load!([8, 9], 224)),
            unit!([6, 7, 8, 9], 3,
                "fcvtl2 v25.4s, v24.8h\nfcvtl v24.4s, v24.4h", "fcvtl2 v27.4s, v26.8h\nfcvtl v26.4s, v26.4h"),
            scales!(),
            floats!(),
            "add {w}, {w}, #288",
            accumulate!([20, 21, 22, 23], [24, 25, 26, 27])
        ], []); }
        GgmlType::Q4_1 => { panels!(F, panels, x, y, [mask!(), no_minima!()], [
            "ldp q0, q1, [{q}], #32",
            load!([2, 3, 4, 5], 0),
            load!([24, 26], -64),
            "ldr d28, [{s}], #8",
            unit!([2, 3, 4, 5], 0, load!([6, 7, 8, 9], 64), start!(0)),
            unit!([6, 7, 8, 9], 1, load!([2, 3], 128), load!([4, 5], 160)),
            unit!([2, 3, 4, 5], 2, load!([6, 7], 192), load!([8, 9], 224)),
            unit!([6, 7, 8, 9], 3,
                concat!(load!([2, 4], -32), "fcvtl2 v25.4s, v24.8h\nfcvtl v24.4s, v24.4h"),
                "fcvtl2 v27.4s, v26.8h\nfcvtl v26.4s, v26.4h"),
            scales!(),
            widen!(2, 3, 4, 5),
            each!("scvtf", [20, 21, 22, 23] ".4s", [20, 21, 22, 23] ".4s"),
            "add {w}, {w}, #320",
            each!("fmla", [14, 15, 29, 30] ".4s", [2, 3, 4, 5] ".4s", ", v28.s[1]"),
            accumulate!([20, 21, 22, 23], [24, 25, 26, 27])
        ], [add_minima!()]); }
        _ => { panels!(F, panels, x, y, [magic!()], [
            "ldp q0, q1, [{q}], #32",
            load!([2, 3, 4, 5], 0),
            load!([6, 7, 8, 9], 64),
            load!([24, 26], -32),
            "ldr s28, [{s}], #8",
            start!([20, 21, 22, 23], 30),
            bytes!([2, 3, 4, 5], 0, 0, load!([10, 11, 12, 13], 128)),
            bytes!([6, 7, 8, 9], 0, 1, load!([2, 3, 4, 5], 192)),
            bytes!([10, 11, 12, 13], 0, 2, load!([6, 7, 8, 9], 256)),
            bytes!([2, 3, 4, 5], 0, 3, load!([10, 11, 12, 13], 320)),
            bytes!([6, 7, 8, 9], 1, 0, load!([2, 3, 4, 5], 384)),
            bytes!([10, 11, 12, 13], 1, 1, load!([6, 7, 8, 9], 448)),
            bytes!([2, 3, 4, 5], 1, 2, "fcvtl2 v25.4s, v24.8h\nfcvtl v24.4s, v24.4h"),
            bytes!([6, 7, 8, 9], 1, 3, "fcvtl2 v27.4s, v26.8h\nfcvtl v26.4s, v26.4h"),
            scales!(),
            floats!(),
            "add {w}, {w}, #544",
            accumulate!([20, 21, 22, 23], [24, 25, 26, 27])
        ], []); }
    }
}
