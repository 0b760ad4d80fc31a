//! One token times rows of Q4_0 in the file's layout, with `sdot`: what `gemv.rs` does, in one block of assembly.
//!
//! A block of 18 bytes is a scale (f16) and 16 bytes of nibbles that are 8 too large, byte i holding weights i and
//! i + 16. Each of four rows sums into four lanes, the first of which starts from `-8 Σx` (a load that clears the
//! others); pairwise additions then leave a lane per row. Loads move the rows' pointers along as they go, which LLVM
//! does with additions of its own.

use crate::formats::{Q4_0, row_bytes};
use crate::int8::Int8Row;
use std::arch::aarch64::*;

/// `y[r] = Σ w[r] x`.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dotprod(w: &[u8], x: Int8Row, y: &mut [f32]) {
    let (blocks, bytes) = (x.scales.len(), row_bytes::<Q4_0>(w, &x, y));
    for (i, y) in y.chunks_mut(4).enumerate() {
        // fewer than four rows are filled up with the last one
        let row = |r: usize| w[(4 * i + r.min(y.len() - 1)) * bytes..].as_ptr();
        let mut sums = vdupq_n_f32(0.0);
        // SAFETY: `row_bytes`: each row has `blocks` blocks of 18 bytes, and there are 32 integers, a scale and a
        // start for each, at least one. Prefetches never fault. The function has the feature, and every register
        // written is an output.
        unsafe {
            std::arch::asm!(
                "2:",
                "ldur h6, [{a}, #-2]",
                "ldr q2, [{a}], #18",
                "ldur h7, [{b}, #-2]",
                "ldr q3, [{b}], #18",
                "ldur h8, [{c}, #-2]",
                "ldr q4, [{c}], #18",
                "ldur h9, [{d}, #-2]",
                "ldr q5, [{d}], #18",
                "ldp q0, q1, [{q}], #32",
                "ldr s20, [{o}]",
                "ldr s21, [{o}]",
                "and v10.16b, v2.16b, v31.16b",
                "and v11.16b, v3.16b, v31.16b",
                "ldr s22, [{o}]",
                "and v12.16b, v4.16b, v31.16b",
                "and v13.16b, v5.16b, v31.16b",
                "ldr s23, [{o}], #4",
                "ushr v2.16b, v2.16b, #4",
                "ushr v3.16b, v3.16b, #4",
                "ushr v4.16b, v4.16b, #4",
                "ushr v5.16b, v5.16b, #4",
                "zip1 v6.4h, v6.4h, v7.4h",
                "zip1 v8.4h, v8.4h, v9.4h",
                "ldr s7, [{s}], #8",
                "sdot v20.4s, v10.16b, v0.16b",
                "sdot v21.4s, v11.16b, v0.16b",
                "sdot v22.4s, v12.16b, v0.16b",
                "sdot v23.4s, v13.16b, v0.16b",
                "zip1 v6.2s, v6.2s, v8.2s",
                "sdot v20.4s, v2.16b, v1.16b",
                "sdot v21.4s, v3.16b, v1.16b",
                "sdot v22.4s, v4.16b, v1.16b",
                "sdot v23.4s, v5.16b, v1.16b",
                "fcvtl v6.4s, v6.4h",
                // four short rows side by side are no straight line for a hardware prefetcher: each step asks for
                // its share of the next four, which lie in one piece
                "prfm pldl1keep, [{next}]",
                "add {next}, {next}, #72",
                "addp v20.4s, v20.4s, v21.4s",
                "addp v22.4s, v22.4s, v23.4s",
                "fmul v6.4s, v6.4s, v7.s[0]",
                "addp v20.4s, v20.4s, v22.4s",
                "scvtf v20.4s, v20.4s",
                "subs {n}, {n}, #1",
                "fmla v16.4s, v20.4s, v6.4s",
                "b.ne 2b",
                a = inout(reg) row(0).add(2) => _,
                b = inout(reg) row(1).add(2) => _,
                c = inout(reg) row(2).add(2) => _,
                d = inout(reg) row(3).add(2) => _,
                next = inout(reg) row(0).wrapping_add(4 * bytes) => _,
                q = inout(reg) x.q.as_ptr() => _,
                s = inout(reg) x.scales.as_ptr() => _,
                o = inout(reg) x.starts.as_ptr() => _,
                n = inout(reg) blocks => _,
                inout("v16") sums, in("v31") vdupq_n_u8(15),
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _,
                out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v20") _, out("v21") _,
                out("v22") _, out("v23") _,
                options(nostack, readonly),
            );
        }
        let mut out = [0f32; 4];
        // SAFETY: four floats.
        unsafe { vst1q_f32(out.as_mut_ptr(), sums) };
        y.copy_from_slice(&out[..y.len()]);
    }
}
