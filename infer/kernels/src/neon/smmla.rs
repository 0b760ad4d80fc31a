//! A panel of sixteen unpacked rows times eight tokens with `smmla` (Armv8.6 `i8mm`), which multiplies two rows of
//! eight integers by two tokens of eight and adds the four products' sums to four lanes:
//!
//! ```text
//! panel   [cols / 8][16 rows][8]     its own order, see `unpack.rs`
//! tokens  [cols / 8][8 tokens][8]
//! sums    [row pair][token pair]     (token 0, row 0), (token 0, row 1), (token 1, row 0), (token 1, row 1)
//! ```
//!
//! Eight rows at a time: sixteen float sums, the integer sums of four rows, the eight tokens' scales, two vectors of
//! each factor: all 32 registers, so the inner loop is one block of assembly (LLVM, given single instructions, loads
//! early and spills). Integer sums start from the bits of 1.5 · 2^23, loaded and not moved, so that conversion to
//! float is one subtraction: what limits this loop is the two vector units, not loads.

use super::asm::each;
use super::tile::add_minima;
use crate::activation_tiles::{TileOutput, TokenTile};
use crate::panel::Panel;
use std::arch::aarch64::*;

/// 1.5 · 2^23: an integer added to its bits is, as a float, that much added to it.
const MAGIC: f32 = 12_582_912.0;

/// Rows `4 $four ..` of the eight by eight tokens by columns `8 $k ..` of the block.
#[rustfmt::skip] // an instruction to a line
macro_rules! columns {
    ($four:tt, $k:literal) => {
        concat!(
            "ldp q12, q13, [{w}, #128*", $k, "+32*", $four, "]\n",
            "ldp q14, q15, [{x}, #64*", $k, "]\n",
            "smmla v4.4s, v14.16b, v12.16b\n",
            "smmla v8.4s, v14.16b, v13.16b\n",
            "smmla v5.4s, v15.16b, v12.16b\n",
            "smmla v9.4s, v15.16b, v13.16b\n",
            "ldp q14, q15, [{x}, #64*", $k, "+32]\n",
            "smmla v6.4s, v14.16b, v12.16b\n",
            "smmla v10.4s, v14.16b, v13.16b\n",
            "smmla v7.4s, v15.16b, v12.16b\n",
            "smmla v11.4s, v15.16b, v13.16b\n",
        )
    };
}

/// Adds the integer sums `$i`.. of two rows, scaled, to the float sums `$f`...
#[rustfmt::skip] // an instruction to a line
macro_rules! scale {
    ([$i0:literal, $i1:literal, $i2:literal, $i3:literal], [$f0:literal, $f1:literal, $f2:literal, $f3:literal]) => {
        concat!(
            "ld1r {{v12.2d}}, [{d}], #8\n",
            each!("fsub", [$i0, $i1, $i2, $i3] ".4s", [$i0, $i1, $i2, $i3] ".4s", ", v15.4s"),
            "fmul v13.4s, v0.4s, v12.4s\n",
            "fmul v14.4s, v1.4s, v12.4s\n",
            "fmla v", $f0, ".4s, v", $i0, ".4s, v13.4s\n",
            "fmla v", $f1, ".4s, v", $i1, ".4s, v14.4s\n",
            "fmul v13.4s, v2.4s, v12.4s\n",
            "fmul v14.4s, v3.4s, v12.4s\n",
            "fmla v", $f2, ".4s, v", $i2, ".4s, v13.4s\n",
            "fmla v", $f3, ".4s, v", $i3, ".4s, v14.4s\n",
        )
    };
}

/// Scales the integer sums of rows `4 $four ..` of the eight.
#[rustfmt::skip] // an instruction to a line
macro_rules! scale_four {
    (0) => {
        concat!("ldr q15, [{magic}]\n", scale!([4, 5, 6, 7], [16, 17, 18, 19]), scale!([8, 9, 10, 11], [20, 21, 22, 23]))
    };
    (1) => {
        concat!("ldr q15, [{magic}]\n", scale!([4, 5, 6, 7], [24, 25, 26, 27]), scale!([8, 9, 10, 11], [28, 29, 30, 31]))
    };
}

/// Rows `4 $four ..` of the eight by the columns of a group, scaled.
macro_rules! group {
    ($four:tt, [$($k:literal),+]) => {
        concat!(
            "ldp q4, q5, [{magic}]\nldp q6, q7, [{magic}]\nldp q8, q9, [{magic}]\nldp q10, q11, [{magic}]\n",
            $(columns!($four, $k),)+
            scale_four!($four)
        )
    };
}

/// The loop over blocks of 32 columns, `$body` being one block's products.
#[rustfmt::skip] // an instruction to a line
macro_rules! blocks {
    ($acc:ident, $w:expr, $d:expr, $x:expr, $magic:expr, [$($body:expr),*]) => {{
        let [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]] = &mut $acc;
        std::arch::asm!(
            "2:",
            // the tokens' scales, each twice: [d0, d0, d1, d1]
            "ldp q12, q13, [{xd}], #32",
            "zip1 v0.4s, v12.4s, v12.4s",
            "zip2 v1.4s, v12.4s, v12.4s",
            "zip1 v2.4s, v13.4s, v13.4s",
            "zip2 v3.4s, v13.4s, v13.4s",
            $($body,)*
            "add {w}, {w}, #512",
            "add {x}, {x}, #256",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            w = inout(reg) $w => _, d = inout(reg) $d => _, magic = in(reg) $magic.as_ptr(),
            x = inout(reg) $x.q.as_ptr() => _, xd = inout(reg) $x.d.as_ptr() => _, n = inout(reg) $x.d.len() => _,
            inout("v16") *a0, inout("v17") *a1, inout("v18") *a2, inout("v19") *a3,
            inout("v20") *b0, inout("v21") *b1, inout("v22") *b2, inout("v23") *b3,
            inout("v24") *c0, inout("v25") *c1, inout("v26") *c2, inout("v27") *c3,
            inout("v28") *d0, inout("v29") *d1, inout("v30") *d2, inout("v31") *d3,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
            out("v15") _,
            options(nostack, readonly),
        );
    }};
}

/// `out[t][r]`, for groups of 32 or 16 weights to a scale.
#[target_feature(enable = "neon,i8mm")]
#[rustfmt::skip] // the assembly
pub(super) fn tile(p: &Panel, x: &TokenTile, out: &mut TileOutput) {
    p.check(x);
    let magic = [MAGIC; 8];
    for half in 0..2 {
        // per row pair and token pair
        let mut acc = [[vdupq_n_f32(0.0); 4]; 4];
        // SAFETY: `Panel::check`: for every block of 32 columns there are 512 bytes of panel, 256 of tokens, 8 scales of
        // tokens and 16 of rows per group, and at least one block; eight rows' parts start 64 bytes (32 of scales)
        // apart. The function has the feature, and every register written is an output.
        unsafe {
            let w = p.q.as_ptr().cast::<u8>().add(64 * half);
            let d = p.d.as_ptr().cast::<f32>().add(8 * half);
            if p.group == 32 {
                blocks!(acc, w, d, x, magic, [group!(0, [0, 1, 2, 3]), group!(1, [0, 1, 2, 3]), "add {d}, {d}, #32"]);
            } else {
                blocks!(acc, w, d, x, magic, [
                    group!(0, [0, 1]), group!(1, [0, 1]), "add {d}, {d}, #32",
                    group!(0, [2, 3]), group!(1, [2, 3]), "add {d}, {d}, #32"
                ]);
            }
        }
        for (pair, acc) in acc.into_iter().enumerate() {
            let row = 8 * half + 2 * pair;
            for (t, acc) in acc.into_iter().enumerate() {
                // SAFETY: two of a token's sixteen floats each.
                unsafe {
                    vst1_f32(out[2 * t].as_mut_ptr().add(row), vget_low_f32(acc));
                    vst1_f32(out[2 * t + 1].as_mut_ptr().add(row), vget_high_f32(acc));
                }
            }
        }
    }
    if p.has_min {
        add_minima(p, x, out);
    }
}
