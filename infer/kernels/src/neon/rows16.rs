//! One token times panels of sixteen rows (layout in `rows16.rs`).
//!
//! 16 bytes are four columns of four rows, so a product's lanes add up to rows. Q4_0's nibbles stay 8 too large: the
//! sums start from `-8 Σx`. With `sdot`, sums of formats without a minimum start on top of the bits of 1.5 · 2^23, so
//! that a subtraction converts them to float, at half of what LLVM's model of Neoverse N2 counts for `scvtf`; with one,
//! its sums need the registers. All kernels are one block of assembly in the order that an in-order core wants:
//! independent sums in turn, each used again at least four instructions later, loads half a unit ahead.

use crate::activations::Row;
use retort_format::quant::GgmlType;
use retort_format::quant::rows16::{Format, ROWS};
use std::arch::aarch64::*;

/// Checks that the panels hold `y.len()` rows as long as `x`, which is what makes the kernels' loads sound.
fn check<F: Format>(panels: &[u8], x: &Row, y: &[f32]) {
    let blocks = x.scales.len();
    assert!(
        blocks > 0
            && x.q.len() == blocks * 32
            && x.starts.len() == blocks
            && y.len().is_multiple_of(ROWS)
            && panels.len() == y.len() / ROWS * blocks * F::BLOCK,
        "gemv sizes"
    );
}

/// Every panel of `$panels` with `$before` its blocks, `$block` and `$after` them. A block finds its weights at `{w}`,
/// behind its scales and minima, its activations at `{q}`, their scale and scaled sum at `{s}`, `-8 Σx` at `{o}`; it
/// leaves all four at the next block's. `{high}` is free, and all vector registers are, but the sums v16 to v19.
macro_rules! panels {
    ($format:ident, $panels:ident, $x:ident, $y:ident, [$($before:expr),*], [$($block:expr),*], [$($after:expr),*]) => {
        for (panel, y) in $panels
            .chunks_exact($x.scales.len() * $format::BLOCK)
            .zip($y.as_chunks_mut::<ROWS>().0)
        {
            let zero = vdupq_n_f32(0.0);
            let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
            // SAFETY: `check`: as many blocks of weights behind their scales, 32 integers, one pair of scales and one
            // start each, as there are scales, at least one. The enclosing function has the features, and every
            // register written is an output.
            unsafe {
                std::arch::asm!(
                    $($before,)*
                    "2:",
                    $($block,)*
                    "subs {n}, {n}, #1",
                    "b.ne 2b",
                    $($after,)*
                    "// not in every format: {o} {high}",
                    w = inout(reg) panel.as_ptr().add($format::WEIGHTS) => _,
                    q = inout(reg) $x.q.as_ptr() => _,
                    s = inout(reg) $x.scales.as_ptr() => _,
                    o = inout(reg) $x.starts.as_ptr() => _,
                    n = inout(reg) $x.scales.len() => _,
                    high = out(reg) _,
                    inout("v16") a, inout("v17") b, inout("v18") c, inout("v19") d,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                    out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _,
                    out("v14") _, out("v15") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
                    out("v30") _, out("v31") _,
                    options(nostack, readonly),
                );
                for (y, sum) in y.as_chunks_mut::<4>().0.iter_mut().zip([a, b, c, d]) {
                    vst1q_f32(y.as_mut_ptr(), sum);
                }
            }
        }
    };
}

/// v31: the mask of lower nibbles.
macro_rules! mask {
    () => {
        "movi v31.16b, #15"
    };
}

/// v30: 1.5 · 2^23. An integer added to its bits is, as a float, that much added to it, so that a subtraction converts.
macro_rules! magic {
    () => {
        "movi v30.4s, #0x4b, lsl #24\norr v30.4s, #0x40, lsl #16"
    };
}

/// v14, v15, v29, v30: the sums of minima, which start from 0.
macro_rules! no_minima {
    () => {
        "movi v14.4s, #0\nmovi v15.4s, #0\nmovi v29.4s, #0\nmovi v30.4s, #0"
    };
}

/// Adds the sums of minima to the others.
#[rustfmt::skip] // an instruction to a line
macro_rules! add_minima {
    () => {
        concat!(
            "fadd v16.4s, v16.4s, v14.4s\n",
            "fadd v17.4s, v17.4s, v15.4s\n",
            "fadd v18.4s, v18.4s, v29.4s\n",
            "fadd v19.4s, v19.4s, v30.4s",
        )
    };
}

/// Sixteen numbers in half precision, in v`$a` and v`$c`, to v`$a` to v`$d`.
#[rustfmt::skip] // an instruction to a line
macro_rules! widen {
    ($a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            "fcvtl2 v", $b, ".4s, v", $a, ".8h\n",
            "fcvtl v", $a, ".4s, v", $a, ".4h\n",
            "fcvtl2 v", $d, ".4s, v", $c, ".8h\n",
            "fcvtl v", $c, ".4s, v", $c, ".4h",
        )
    };
}

/// `$op`, `$and` its last operand, on each of four registers and theirs.
#[rustfmt::skip] // an instruction to a line
macro_rules! four {
    ($op:literal, [$a:literal, $b:literal, $c:literal, $d:literal], [$e:literal, $f:literal, $g:literal, $h:literal], $and:literal) => {
        concat!(
            $op, " v", $a, ".4s, v", $e, ".4s", $and, "\n",
            $op, " v", $b, ".4s, v", $f, ".4s", $and, "\n",
            $op, " v", $c, ".4s, v", $g, ".4s", $and, "\n",
            $op, " v", $d, ".4s, v", $h, ".4s", $and,
        )
    };
}

/// The lower and upper nibbles of a unit's sixteen rows, loaded into `$a` to `$d`, times its activations (lane `$u`),
/// with `$load` and `$later`, which wait for none of it, in between.
#[rustfmt::skip] // an instruction to a line
macro_rules! unit {
    ($a:literal, $b:literal, $c:literal, $d:literal, $u:literal, $load:expr, $later:expr) => {
        concat!(
            "and v10.16b, v", $a, ".16b, v31.16b\n",
            "and v11.16b, v", $b, ".16b, v31.16b\n",
            "and v12.16b, v", $c, ".16b, v31.16b\n",
            "and v13.16b, v", $d, ".16b, v31.16b\n",
            $load, "\n",
            "ushr v", $a, ".16b, v", $a, ".16b, #4\n",
            "ushr v", $b, ".16b, v", $b, ".16b, #4\n",
            "ushr v", $c, ".16b, v", $c, ".16b, #4\n",
            "ushr v", $d, ".16b, v", $d, ".16b, #4\n",
            $later, "\n",
            "sdot v20.4s, v10.16b, v0.4b[", $u, "]\n",
            "sdot v21.4s, v11.16b, v0.4b[", $u, "]\n",
            "sdot v22.4s, v12.16b, v0.4b[", $u, "]\n",
            "sdot v23.4s, v13.16b, v0.4b[", $u, "]\n",
            "sdot v20.4s, v", $a, ".16b, v1.4b[", $u, "]\n",
            "sdot v21.4s, v", $b, ".16b, v1.4b[", $u, "]\n",
            "sdot v22.4s, v", $c, ".16b, v1.4b[", $u, "]\n",
            "sdot v23.4s, v", $d, ".16b, v1.4b[", $u, "]",
        )
    };
}

/// Bytes of a unit's sixteen rows in `$a` to `$d` times its activations (lane `$u` of v`$x`), and a load for later.
#[rustfmt::skip] // an instruction to a line
macro_rules! bytes {
    ($a:literal, $b:literal, $c:literal, $d:literal, $x:literal, $u:literal, $load:expr) => {
        concat!(
            "sdot v20.4s, v", $a, ".16b, v", $x, ".4b[", $u, "]\n",
            "sdot v21.4s, v", $b, ".16b, v", $x, ".4b[", $u, "]\n",
            "sdot v22.4s, v", $c, ".16b, v", $x, ".4b[", $u, "]\n",
            "sdot v23.4s, v", $d, ".16b, v", $x, ".4b[", $u, "]\n",
            $load,
        )
    };
}

/// With `sdot`.
#[target_feature(enable = "neon,dotprod")]
#[rustfmt::skip] // the assembly
pub(super) fn dotprod<F: Format>(panels: &[u8], x: Row, y: &mut [f32]) {
    check::<F>(panels, &x, y);
    match F::TY {
        GgmlType::Q4_0 => panels!(F, panels, x, y, [mask!(), magic!()], [
            "ldp q0, q1, [{q}], #32",
            "ldp q2, q3, [{w}]",
            "ldp q4, q5, [{w}, #32]",
            "ld1r {{v20.4s}}, [{o}]",
            "ldp q24, q26, [{w}, #-32]",
            "ldr s28, [{s}], #8",
            "add {o}, {o}, #4",
            unit!("2", "3", "4", "5", "0",
                "ldp q6, q7, [{w}, #64]\nldp q8, q9, [{w}, #96]\nadd v20.4s, v20.4s, v30.4s",
                "mov v21.16b, v20.16b\nmov v22.16b, v20.16b\nmov v23.16b, v20.16b"),
            unit!("6", "7", "8", "9", "1", "ldp q2, q3, [{w}, #128]", "ldp q4, q5, [{w}, #160]"),
            unit!("2", "3", "4", "5", "2", "ldp q6, q7, [{w}, #192]", "ldp q8, q9, [{w}, #224]"),
            unit!("6", "7", "8", "9", "3",
                "fcvtl2 v25.4s, v24.8h\nfcvtl v24.4s, v24.4h",
                "fcvtl2 v27.4s, v26.8h\nfcvtl v26.4s, v26.4h"),
            four!("fmul", ["24", "25", "26", "27"], ["24", "25", "26", "27"], ", v28.s[0]"),
            four!("fsub", ["20", "21", "22", "23"], ["20", "21", "22", "23"], ", v30.4s"),
            "add {w}, {w}, #288",
            "fmla v16.4s, v20.4s, v24.4s",
            "fmla v17.4s, v21.4s, v25.4s",
            "fmla v18.4s, v22.4s, v26.4s",
            "fmla v19.4s, v23.4s, v27.4s"
        ], []),
        GgmlType::Q4_1 => panels!(F, panels, x, y, [mask!(), no_minima!()], [
            "ldp q0, q1, [{q}], #32",
            "ldp q2, q3, [{w}]",
            "ldp q4, q5, [{w}, #32]",
            "ldp q24, q26, [{w}, #-64]",
            "ldr d28, [{s}], #8",
            unit!("2", "3", "4", "5", "0",
                "ldp q6, q7, [{w}, #64]\nldp q8, q9, [{w}, #96]",
                "movi v20.4s, #0\nmovi v21.4s, #0\nmovi v22.4s, #0\nmovi v23.4s, #0"),
            unit!("6", "7", "8", "9", "1", "ldp q2, q3, [{w}, #128]", "ldp q4, q5, [{w}, #160]"),
            unit!("2", "3", "4", "5", "2", "ldp q6, q7, [{w}, #192]", "ldp q8, q9, [{w}, #224]"),
            unit!("6", "7", "8", "9", "3",
                "ldp q2, q4, [{w}, #-32]\nfcvtl2 v25.4s, v24.8h\nfcvtl v24.4s, v24.4h",
                "fcvtl2 v27.4s, v26.8h\nfcvtl v26.4s, v26.4h"),
            four!("fmul", ["24", "25", "26", "27"], ["24", "25", "26", "27"], ", v28.s[0]"),
            widen!("2", "3", "4", "5"),
            four!("scvtf", ["20", "21", "22", "23"], ["20", "21", "22", "23"], ""),
            "add {w}, {w}, #320",
            four!("fmla", ["14", "15", "29", "30"], ["2", "3", "4", "5"], ", v28.s[1]"),
            "fmla v16.4s, v20.4s, v24.4s",
            "fmla v17.4s, v21.4s, v25.4s",
            "fmla v18.4s, v22.4s, v26.4s",
            "fmla v19.4s, v23.4s, v27.4s"
        ], [add_minima!()]),
        _ => panels!(F, panels, x, y, [magic!()], [
            "ldp q0, q1, [{q}], #32",
            "ldp q2, q3, [{w}]",
            "ldp q4, q5, [{w}, #32]",
            "ldp q6, q7, [{w}, #64]",
            "ldp q8, q9, [{w}, #96]",
            "ldp q24, q26, [{w}, #-32]",
            "ldr s28, [{s}], #8",
            "mov v20.16b, v30.16b\nmov v21.16b, v30.16b\nmov v22.16b, v30.16b\nmov v23.16b, v30.16b",
            bytes!("2", "3", "4", "5", "0", "0", "ldp q10, q11, [{w}, #128]\nldp q12, q13, [{w}, #160]"),
            bytes!("6", "7", "8", "9", "0", "1", "ldp q2, q3, [{w}, #192]\nldp q4, q5, [{w}, #224]"),
            bytes!("10", "11", "12", "13", "0", "2", "ldp q6, q7, [{w}, #256]\nldp q8, q9, [{w}, #288]"),
            bytes!("2", "3", "4", "5", "0", "3", "ldp q10, q11, [{w}, #320]\nldp q12, q13, [{w}, #352]"),
            bytes!("6", "7", "8", "9", "1", "0", "ldp q2, q3, [{w}, #384]\nldp q4, q5, [{w}, #416]"),
            bytes!("10", "11", "12", "13", "1", "1", "ldp q6, q7, [{w}, #448]\nldp q8, q9, [{w}, #480]"),
            bytes!("2", "3", "4", "5", "1", "2", "fcvtl2 v25.4s, v24.8h\nfcvtl v24.4s, v24.4h"),
            bytes!("6", "7", "8", "9", "1", "3", "fcvtl2 v27.4s, v26.8h\nfcvtl v26.4s, v26.4h"),
            four!("fmul", ["24", "25", "26", "27"], ["24", "25", "26", "27"], ", v28.s[0]"),
            four!("fsub", ["20", "21", "22", "23"], ["20", "21", "22", "23"], ", v30.4s"),
            "add {w}, {w}, #544",
            "fmla v16.4s, v20.4s, v24.4s",
            "fmla v17.4s, v21.4s, v25.4s",
            "fmla v18.4s, v22.4s, v26.4s",
            "fmla v19.4s, v23.4s, v27.4s"
        ], []),
    }
}

/// The same without the dot product instructions: four vectors times one unit's four low and four high activations,
/// which `$mul` brings to the i16 sums first (`smull` starts them).
#[rustfmt::skip] // an instruction to a line
macro_rules! wide_unit {
    ($a:literal, $b:literal, $c:literal, $d:literal, $mul:literal, $load:expr, $later:expr) => {
        concat!(
            "ld1r {{v0.4s}}, [{q}], #4\n",
            "ld1r {{v1.4s}}, [{high}], #4\n",
            "and v10.16b, v", $a, ".16b, v31.16b\n",
            "and v11.16b, v", $b, ".16b, v31.16b\n",
            "and v12.16b, v", $c, ".16b, v31.16b\n",
            "and v13.16b, v", $d, ".16b, v31.16b\n",
            $load, "\n",
            "ushr v", $a, ".16b, v", $a, ".16b, #4\n",
            "ushr v", $b, ".16b, v", $b, ".16b, #4\n",
            "ushr v", $c, ".16b, v", $c, ".16b, #4\n",
            "ushr v", $d, ".16b, v", $d, ".16b, #4\n",
            $later, "\n",
            $mul, " v20.8h, v10.8b, v0.8b\n",
            $mul, "2 v21.8h, v10.16b, v0.16b\n",
            $mul, " v22.8h, v11.8b, v0.8b\n",
            $mul, "2 v23.8h, v11.16b, v0.16b\n",
            $mul, " v24.8h, v12.8b, v0.8b\n",
            $mul, "2 v25.8h, v12.16b, v0.16b\n",
            $mul, " v26.8h, v13.8b, v0.8b\n",
            $mul, "2 v27.8h, v13.16b, v0.16b\n",
            "smlal v20.8h, v", $a, ".8b, v1.8b\n",
            "smlal2 v21.8h, v", $a, ".16b, v1.16b\n",
            "smlal v22.8h, v", $b, ".8b, v1.8b\n",
            "smlal2 v23.8h, v", $b, ".16b, v1.16b\n",
            "smlal v24.8h, v", $c, ".8b, v1.8b\n",
            "smlal2 v25.8h, v", $c, ".16b, v1.16b\n",
            "smlal v26.8h, v", $d, ".8b, v1.8b\n",
            "smlal2 v27.8h, v", $d, ".16b, v1.16b",
        )
    };
}

/// Two units of bytes, in v2 to v5 and v6 to v9, times their activations. A lane of i16 holds two products of at most
/// 128 · 127, which `$add` brings to the sums (`saddlp` starts them); `$load` and `$later` wait for none of it.
#[rustfmt::skip] // an instruction to a line
macro_rules! wide_bytes {
    ($add:literal, $load:expr, $later:expr) => {
        concat!(
            "ld1r {{v0.4s}}, [{q}], #4\n",
            "ld1r {{v1.4s}}, [{q}], #4\n",
            "smull v20.8h, v2.8b, v0.8b\n",
            "smull2 v21.8h, v2.16b, v0.16b\n",
            "smull v22.8h, v3.8b, v0.8b\n",
            "smull2 v23.8h, v3.16b, v0.16b\n",
            "smull v28.8h, v4.8b, v0.8b\n",
            "smull2 v29.8h, v4.16b, v0.16b\n",
            "smull v30.8h, v5.8b, v0.8b\n",
            "smull2 v31.8h, v5.16b, v0.16b\n",
            $load, "\n",
            "smlal v20.8h, v6.8b, v1.8b\n",
            "smlal2 v21.8h, v6.16b, v1.16b\n",
            "smlal v22.8h, v7.8b, v1.8b\n",
            "smlal2 v23.8h, v7.16b, v1.16b\n",
            "smlal v28.8h, v8.8b, v1.8b\n",
            "smlal2 v29.8h, v8.16b, v1.16b\n",
            "smlal v30.8h, v9.8b, v1.8b\n",
            "smlal2 v31.8h, v9.16b, v1.16b\n",
            $later, "\n",
            $add, " v10.4s, v20.8h\n",
            $add, " v11.4s, v21.8h\n",
            $add, " v12.4s, v22.8h\n",
            $add, " v13.4s, v23.8h\n",
            $add, " v24.4s, v28.8h\n",
            $add, " v25.4s, v29.8h\n",
            $add, " v26.4s, v30.8h\n",
            $add, " v27.4s, v31.8h",
        )
    };
}

/// Without the dot product instructions. Sums of products with nibbles stay in i16 for the whole block: a lane takes
/// eight of at most 15 · 127, and the pairwise addition makes it sixteen, 30,480.
#[target_feature(enable = "neon")]
#[rustfmt::skip] // the assembly
pub(super) fn neon<F: Format>(panels: &[u8], x: Row, y: &mut [f32]) {
    check::<F>(panels, &x, y);
    match F::TY {
        GgmlType::Q4_0 => panels!(F, panels, x, y, [mask!()], [
            "ldp q2, q3, [{w}]",
            "ldp q4, q5, [{w}, #32]",
            "add {high}, {q}, #16",
            "ldr s28, [{s}], #8",
            wide_unit!("2", "3", "4", "5", "smull", "ldp q6, q7, [{w}, #64]", "ldp q8, q9, [{w}, #96]"),
            wide_unit!("6", "7", "8", "9", "smlal", "ldp q2, q3, [{w}, #128]", "ldp q4, q5, [{w}, #160]"),
            wide_unit!("2", "3", "4", "5", "smlal", "ldp q6, q7, [{w}, #192]", "ldp q8, q9, [{w}, #224]"),
            wide_unit!("6", "7", "8", "9", "smlal", "ldp q2, q4, [{w}, #-32]", "add {q}, {q}, #16"),
            "ld1r {{v10.4s}}, [{o}]",
            "ld1r {{v11.4s}}, [{o}]",
            "ld1r {{v12.4s}}, [{o}]",
            "ld1r {{v13.4s}}, [{o}]",
            "addp v20.8h, v20.8h, v21.8h",
            "addp v22.8h, v22.8h, v23.8h",
            "addp v24.8h, v24.8h, v25.8h",
            "addp v26.8h, v26.8h, v27.8h",
            widen!("2", "3", "4", "5"),
            "sadalp v10.4s, v20.8h",
            "sadalp v11.4s, v22.8h",
            "sadalp v12.4s, v24.8h",
            "sadalp v13.4s, v26.8h",
            four!("fmul", ["2", "3", "4", "5"], ["2", "3", "4", "5"], ", v28.s[0]"),
            four!("scvtf", ["10", "11", "12", "13"], ["10", "11", "12", "13"], ""),
            "add {w}, {w}, #288",
            "add {o}, {o}, #4",
            "fmla v16.4s, v10.4s, v2.4s",
            "fmla v17.4s, v11.4s, v3.4s",
            "fmla v18.4s, v12.4s, v4.4s",
            "fmla v19.4s, v13.4s, v5.4s"
        ], []),
        GgmlType::Q4_1 => panels!(F, panels, x, y, [mask!(), no_minima!()], [
            "ldp q2, q3, [{w}]",
            "ldp q4, q5, [{w}, #32]",
            "add {high}, {q}, #16",
            "ldr d28, [{s}], #8",
            wide_unit!("2", "3", "4", "5", "smull", "ldp q6, q7, [{w}, #64]", "ldp q8, q9, [{w}, #96]"),
            wide_unit!("6", "7", "8", "9", "smlal", "ldp q2, q3, [{w}, #128]", "ldp q4, q5, [{w}, #160]"),
            wide_unit!("2", "3", "4", "5", "smlal", "ldp q6, q7, [{w}, #192]", "ldp q8, q9, [{w}, #224]"),
            wide_unit!("6", "7", "8", "9", "smlal", "ldp q2, q4, [{w}, #-64]", "add {q}, {q}, #16"),
            "ldp q6, q8, [{w}, #-32]",
            "addp v20.8h, v20.8h, v21.8h",
            "addp v22.8h, v22.8h, v23.8h",
            "addp v24.8h, v24.8h, v25.8h",
            "addp v26.8h, v26.8h, v27.8h",
            widen!("2", "3", "4", "5"),
            "saddlp v10.4s, v20.8h",
            "saddlp v11.4s, v22.8h",
            "saddlp v12.4s, v24.8h",
            "saddlp v13.4s, v26.8h",
            four!("fmul", ["2", "3", "4", "5"], ["2", "3", "4", "5"], ", v28.s[0]"),
            widen!("6", "7", "8", "9"),
            four!("scvtf", ["10", "11", "12", "13"], ["10", "11", "12", "13"], ""),
            "add {w}, {w}, #320",
            four!("fmla", ["14", "15", "29", "30"], ["6", "7", "8", "9"], ", v28.s[1]"),
            "fmla v16.4s, v10.4s, v2.4s",
            "fmla v17.4s, v11.4s, v3.4s",
            "fmla v18.4s, v12.4s, v4.4s",
            "fmla v19.4s, v13.4s, v5.4s"
        ], [add_minima!()]),
        _ => panels!(F, panels, x, y, [], [
            "ldp q2, q3, [{w}]",
            "ldp q4, q5, [{w}, #32]",
            "ldp q6, q7, [{w}, #64]",
            "ldp q8, q9, [{w}, #96]",
            wide_bytes!("saddlp",
                "ldp q2, q3, [{w}, #128]\nldp q4, q5, [{w}, #160]", "ldp q6, q7, [{w}, #192]\nldp q8, q9, [{w}, #224]"),
            wide_bytes!("sadalp",
                "ldp q2, q3, [{w}, #256]\nldp q4, q5, [{w}, #288]", "ldp q6, q7, [{w}, #320]\nldp q8, q9, [{w}, #352]"),
            wide_bytes!("sadalp",
                "ldp q2, q3, [{w}, #384]\nldp q4, q5, [{w}, #416]", "ldp q6, q7, [{w}, #448]\nldp q8, q9, [{w}, #480]"),
            wide_bytes!("sadalp", "ldp q2, q4, [{w}, #-32]", "ldr s0, [{s}], #8"),
            widen!("2", "3", "4", "5"),
            "addp v10.4s, v10.4s, v11.4s",
            "addp v12.4s, v12.4s, v13.4s",
            "addp v24.4s, v24.4s, v25.4s",
            "addp v26.4s, v26.4s, v27.4s",
            four!("fmul", ["2", "3", "4", "5"], ["2", "3", "4", "5"], ", v0.s[0]"),
            four!("scvtf", ["10", "12", "24", "26"], ["10", "12", "24", "26"], ""),
            "add {w}, {w}, #544",
            "fmla v16.4s, v10.4s, v2.4s",
            "fmla v17.4s, v12.4s, v3.4s",
            "fmla v18.4s, v24.4s, v4.4s",
            "fmla v19.4s, v26.4s, v5.4s"
        ], []),
    }
}
