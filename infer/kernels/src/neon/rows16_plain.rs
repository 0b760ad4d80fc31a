//! One token times panels of sixteen rows, as in `rows16_sdot.rs`, without the dot product instructions.
//!
//! Sums of products with nibbles stay in i16 for the whole block: a lane takes eight of at most 15 · 127, and the
//! pairwise addition makes it sixteen, 30,480. Of products with bytes a lane of i16 holds two, of at most 128 · 127.

use super::asm::each;
use super::rows16_asm::*;
use crate::formats::panel_bytes;
use crate::int8::Int8Row;
use retort_format::quant::GgmlType;
use retort_format::quant::rows16::{Format, ROWS};
use std::arch::aarch64::*;

/// `$mul` of the bytes in `$w` with those of v`$x`, to the i16 lanes of twice as many registers.
#[rustfmt::skip] // an instruction to a line
macro_rules! multiply {
    ($mul:literal, [$($low:literal, $high:literal),+], [$($w:literal),+], $x:literal) => {
        concat!($(
            $mul, " v", $low, ".8h, v", $w, ".8b, v", $x, ".8b\n",
            $mul, "2 v", $high, ".8h, v", $w, ".16b, v", $x, ".16b\n",
        )+)
    };
}

/// The nibbles of a unit in `$units` times its four low and four high activations, which `$mul` brings to the i16 sums
/// v20 to v27 first (`smull` starts them).
macro_rules! unit {
    ($units:tt, $mul:literal, $load:expr, $later:expr) => {
        concat!(
            "ld1r {{v0.4s}}, [{q}], #4\n",
            "ld1r {{v1.4s}}, [{high}], #4\n",
            nibbles!($units, $load, $later),
            multiply!($mul, [20, 21, 22, 23, 24, 25, 26, 27], [10, 11, 12, 13], 0),
            multiply!("smlal", [20, 21, 22, 23, 24, 25, 26, 27], $units, 1),
        )
    };
}

/// The four units of a block of nibbles, of which the first two are loaded here; then v2 and v4 hold what lies at `$at`.
#[rustfmt::skip] // a unit to a line
macro_rules! units {
    ($at:literal) => {
        concat!(
            unit!([2, 3, 4, 5], "smull", load!([6, 7], 64), load!([8, 9], 96)),
            unit!([6, 7, 8, 9], "smlal", load!([2, 3], 128), load!([4, 5], 160)),
            unit!([2, 3, 4, 5], "smlal", load!([6, 7], 192), load!([8, 9], 224)),
            unit!([6, 7, 8, 9], "smlal", load!([2, 4], $at), "add {q}, {q}, #16"),
        )
    };
}

/// Neighbours of the i16 sums: v20, v22, v24, v26 get those of rows 0 to 3, 4 to 7, 8 to 11, 12 to 15.
macro_rules! pairs {
    () => {
        each!("addp", [20, 22, 24, 26] ".8h", [20, 22, 24, 26] ".8h", [21, 23, 25, 27] ".8h")
    };
}

/// Two units of bytes, in v2 to v5 and v6 to v9, times their activations, which `$add` brings to the sums v10 to v13
/// and v24 to v27 (`saddlp` starts them); `$load` and `$later` wait for none of it.
macro_rules! bytes {
    ($add:literal, $load:expr, $later:expr) => {
        concat!(
            "ld1r {{v0.4s}}, [{q}], #4\n",
            "ld1r {{v1.4s}}, [{q}], #4\n",
            multiply!("smull", [20, 21, 22, 23, 28, 29, 30, 31], [2, 3, 4, 5], 0),
            $load, "\n",
            multiply!("smlal", [20, 21, 22, 23, 28, 29, 30, 31], [6, 7, 8, 9], 1),
            $later, "\n",
            each!($add, [10, 11, 12, 13] ".4s", [20, 21, 22, 23] ".8h"),
            each!($add, [24, 25, 26, 27] ".4s", [28, 29, 30, 31] ".8h"),
        )
    };
}

/// v2 to v5: the rows' scales times lane 0 of v`$s`, the token's.
macro_rules! scales {
    ($s:literal) => {
        each!("fmul", [2, 3, 4, 5] ".4s", [2, 3, 4, 5] ".4s", ", v", $s, ".s[0]")
    };
}

/// `y[r] = Σ w[r] x`.
#[target_feature(enable = "neon")]
#[rustfmt::skip] // the assembly
pub(super) fn neon<F: Format>(panels: &[u8], x: Int8Row, y: &mut [f32]) {
    match F::TY {
        GgmlType::Q4_0 => { panels!(F, panels, x, y, [mask!()], [
            load!([2, 3, 4, 5], 0),
            "add {high}, {q}, #16",
            "ldr s28, [{s}], #8",
            units!(-32),
            "ld1r {{v10.4s}}, [{o}]",
            "ld1r {{v11.4s}}, [{o}]",
            "ld1r {{v12.4s}}, [{o}]",
            "ld1r {{v13.4s}}, [{o}]",
            pairs!(),
            widen!(2, 3, 4, 5),
            each!("sadalp", [10, 11, 12, 13] ".4s", [20, 22, 24, 26] ".8h"),
            scales!(28),
            each!("scvtf", [10, 11, 12, 13] ".4s", [10, 11, 12, 13] ".4s"),
            "add {w}, {w}, #288",
            "add {o}, {o}, #4",
            accumulate!([10, 11, 12, 13], [2, 3, 4, 5])
        ], []); }
        GgmlType::Q4_1 => { panels!(F, panels, x, y, [mask!(), no_minima!()], [
            load!([2, 3, 4, 5], 0),
            "add {high}, {q}, #16",
            "ldr d28, [{s}], #8",
            units!(-64),
            load!([6, 8], -32),
            pairs!(),
            widen!(2, 3, 4, 5),
            each!("saddlp", [10, 11, 12, 13] ".4s", [20, 22, 24, 26] ".8h"),
            scales!(28),
            widen!(6, 7, 8, 9),
            each!("scvtf", [10, 11, 12, 13] ".4s", [10, 11, 12, 13] ".4s"),
            "add {w}, {w}, #320",
            each!("fmla", [14, 15, 29, 30] ".4s", [6, 7, 8, 9] ".4s", ", v28.s[1]"),
            accumulate!([10, 11, 12, 13], [2, 3, 4, 5])
        ], [add_minima!()]); }
        _ => { panels!(F, panels, x, y, [], [
            load!([2, 3, 4, 5], 0),
            load!([6, 7, 8, 9], 64),
            bytes!("saddlp", load!([2, 3, 4, 5], 128), load!([6, 7, 8, 9], 192)),
            bytes!("sadalp", load!([2, 3, 4, 5], 256), load!([6, 7, 8, 9], 320)),
            bytes!("sadalp", load!([2, 3, 4, 5], 384), load!([6, 7, 8, 9], 448)),
            bytes!("sadalp", load!([2, 4], -32), "ldr s0, [{s}], #8"),
            widen!(2, 3, 4, 5),
            each!("addp", [10, 12, 24, 26] ".4s", [10, 12, 24, 26] ".4s", [11, 13, 25, 27] ".4s"),
            scales!(0),
            each!("scvtf", [10, 12, 24, 26] ".4s", [10, 12, 24, 26] ".4s"),
            "add {w}, {w}, #544",
            accumulate!([10, 12, 24, 26], [2, 3, 4, 5])
        ], []); }
    }
}
