//! One token times Q4_0 weights in panels of sixteen rows (layout in `rows16.rs`).
//!
//! 16 bytes are four columns of four rows, so a product's lanes add up to rows. The nibbles stay 8 too large: the sums
//! start from `-8 Σx`, with `sdot` on top of the bits of 1.5 · 2^23, so that a subtraction converts them to float, at
//! half of what LLVM's model of Neoverse N2 counts for `scvtf`. Both kernels are one block of assembly in the order
//! that an in-order core wants: independent sums in turn, each used again at least four instructions later, loads half
//! a unit ahead.

use crate::kernels::activations::Row;
use crate::kernels::panel::ROWS;
use crate::kernels::rows16::BLOCK_BYTES;
use std::arch::aarch64::*;

/// 1.5 · 2^23: an integer added to its bits is, as a float, that much added to it, so that a subtraction converts.
const MAGIC: f32 = 12_582_912.0;

/// Checks that the panels hold `y.len()` rows as long as `x`, which is what makes the kernels' loads sound.
fn check(panels: &[u8], x: &Row, y: &[f32]) {
    let blocks = x.scales.len();
    assert!(
        blocks > 0
            && x.q.len() == blocks * 32
            && x.starts.len() == blocks
            && y.len().is_multiple_of(ROWS)
            && panels.len() == y.len() / ROWS * blocks * BLOCK_BYTES,
        "gemv sizes"
    );
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

/// With `sdot`.
#[target_feature(enable = "neon,dotprod")]
#[rustfmt::skip] // the assembly
pub(super) fn dotprod(panels: &[u8], x: Row, y: &mut [f32]) {
    check(panels, &x, y);
    for (panel, y) in panels
        .chunks_exact(x.scales.len() * BLOCK_BYTES)
        .zip(y.as_chunks_mut::<ROWS>().0)
    {
        let zero = vdupq_n_f32(0.0);
        let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
        // SAFETY: `check`: as many blocks of 288 bytes, 32 integers, one scale and one start each, as there are
        // scales, at least one. The function has the feature, and every register written is an output.
        unsafe {
            std::arch::asm!(
                "2:",
                "ldp q0, q1, [{q}], #32",
                "ldp q2, q3, [{w}, #32]",
                "ldp q4, q5, [{w}, #64]",
                "ld1r {{v20.4s}}, [{o}]",
                "ldp q24, q26, [{w}]",
                "ldr s28, [{s}], #8",
                "add {o}, {o}, #4",
                unit!("2", "3", "4", "5", "0",
                    "ldp q6, q7, [{w}, #96]\nldp q8, q9, [{w}, #128]\nadd v20.4s, v20.4s, v30.4s",
                    "mov v21.16b, v20.16b\nmov v22.16b, v20.16b\nmov v23.16b, v20.16b"),
                unit!("6", "7", "8", "9", "1", "ldp q2, q3, [{w}, #160]", "ldp q4, q5, [{w}, #192]"),
                unit!("2", "3", "4", "5", "2", "ldp q6, q7, [{w}, #224]", "ldp q8, q9, [{w}, #256]"),
                unit!("6", "7", "8", "9", "3",
                    "fcvtl2 v25.4s, v24.8h\nfcvtl v24.4s, v24.4h",
                    "fcvtl2 v27.4s, v26.8h\nfcvtl v26.4s, v26.4h"),
                "fmul v24.4s, v24.4s, v28.s[0]",
                "fmul v25.4s, v25.4s, v28.s[0]",
                "fmul v26.4s, v26.4s, v28.s[0]",
                "fmul v27.4s, v27.4s, v28.s[0]",
                "fsub v20.4s, v20.4s, v30.4s",
                "fsub v21.4s, v21.4s, v30.4s",
                "fsub v22.4s, v22.4s, v30.4s",
                "fsub v23.4s, v23.4s, v30.4s",
                "add {w}, {w}, #288",
                "subs {n}, {n}, #1",
                "fmla v16.4s, v20.4s, v24.4s",
                "fmla v17.4s, v21.4s, v25.4s",
                "fmla v18.4s, v22.4s, v26.4s",
                "fmla v19.4s, v23.4s, v27.4s",
                "b.ne 2b",
                w = inout(reg) panel.as_ptr() => _,
                q = inout(reg) x.q.as_ptr() => _,
                s = inout(reg) x.scales.as_ptr() => _,
                o = inout(reg) x.starts.as_ptr() => _,
                n = inout(reg) x.scales.len() => _,
                inout("v16") a, inout("v17") b, inout("v18") c, inout("v19") d,
                in("v30") vdupq_n_f32(MAGIC), in("v31") vdupq_n_u8(15),
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _,
                out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _,
                out("v26") _, out("v27") _, out("v28") _,
                options(nostack, readonly),
            );
        }
        store(y, [a, b, c, d]);
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(y: &mut [f32; ROWS], sums: [float32x4_t; 4]) {
    for (y, sum) in y.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
        // SAFETY: four floats.
        unsafe { vst1q_f32(y.as_mut_ptr(), sum) };
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

/// Without the dot product instructions. Sums of products stay in i16 for the whole block: a lane takes eight of at
/// most 15 · 127, and the pairwise addition makes it sixteen, 30,480.
#[target_feature(enable = "neon")]
#[rustfmt::skip] // the assembly
pub(super) fn neon(panels: &[u8], x: Row, y: &mut [f32]) {
    check(panels, &x, y);
    for (panel, y) in panels
        .chunks_exact(x.scales.len() * BLOCK_BYTES)
        .zip(y.as_chunks_mut::<ROWS>().0)
    {
        let zero = vdupq_n_f32(0.0);
        let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
        // SAFETY: as in `dotprod`; each unit reads its own four low and four high activations.
        unsafe {
            std::arch::asm!(
                "2:",
                "ldp q2, q3, [{w}, #32]",
                "ldp q4, q5, [{w}, #64]",
                "add {high}, {q}, #16",
                "ldr s28, [{s}], #8",
                wide_unit!("2", "3", "4", "5", "smull", "ldp q6, q7, [{w}, #96]", "ldp q8, q9, [{w}, #128]"),
                wide_unit!("6", "7", "8", "9", "smlal", "ldp q2, q3, [{w}, #160]", "ldp q4, q5, [{w}, #192]"),
                wide_unit!("2", "3", "4", "5", "smlal", "ldp q6, q7, [{w}, #224]", "ldp q8, q9, [{w}, #256]"),
                wide_unit!("6", "7", "8", "9", "smlal", "ldp q2, q4, [{w}]", "add {q}, {q}, #16"),
                "ld1r {{v10.4s}}, [{o}]",
                "ld1r {{v11.4s}}, [{o}]",
                "ld1r {{v12.4s}}, [{o}]",
                "ld1r {{v13.4s}}, [{o}]",
                "addp v20.8h, v20.8h, v21.8h",
                "addp v22.8h, v22.8h, v23.8h",
                "addp v24.8h, v24.8h, v25.8h",
                "addp v26.8h, v26.8h, v27.8h",
                "fcvtl2 v3.4s, v2.8h",
                "fcvtl v2.4s, v2.4h",
                "fcvtl2 v5.4s, v4.8h",
                "fcvtl v4.4s, v4.4h",
                "sadalp v10.4s, v20.8h",
                "sadalp v11.4s, v22.8h",
                "sadalp v12.4s, v24.8h",
                "sadalp v13.4s, v26.8h",
                "fmul v2.4s, v2.4s, v28.s[0]",
                "fmul v3.4s, v3.4s, v28.s[0]",
                "fmul v4.4s, v4.4s, v28.s[0]",
                "fmul v5.4s, v5.4s, v28.s[0]",
                "scvtf v10.4s, v10.4s",
                "scvtf v11.4s, v11.4s",
                "scvtf v12.4s, v12.4s",
                "scvtf v13.4s, v13.4s",
                "add {w}, {w}, #288",
                "add {o}, {o}, #4",
                "subs {n}, {n}, #1",
                "fmla v16.4s, v10.4s, v2.4s",
                "fmla v17.4s, v11.4s, v3.4s",
                "fmla v18.4s, v12.4s, v4.4s",
                "fmla v19.4s, v13.4s, v5.4s",
                "b.ne 2b",
                w = inout(reg) panel.as_ptr() => _,
                q = inout(reg) x.q.as_ptr() => _,
                high = out(reg) _,
                s = inout(reg) x.scales.as_ptr() => _,
                o = inout(reg) x.starts.as_ptr() => _,
                n = inout(reg) x.scales.len() => _,
                inout("v16") a, inout("v17") b, inout("v18") c, inout("v19") d,
                in("v31") vdupq_n_u8(15),
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _,
                out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _,
                out("v26") _, out("v27") _, out("v28") _,
                options(nostack, readonly),
            );
        }
        store(y, [a, b, c, d]);
    }
}
