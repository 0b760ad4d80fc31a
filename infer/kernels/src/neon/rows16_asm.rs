//! Assembly that the kernels of one token times panels of sixteen rows share (`rows16_sdot.rs`, `rows16_plain.rs`).

/// Every panel of `$panels` with `$before` its blocks, `$block` and `$after` them. A block finds its weights at `{w}`,
/// behind its scales and minima, its activations at `{q}`, their scale and scaled sum at `{s}`, `-8 Σx` at `{o}`; it
/// leaves all four at the next block's. `{high}` is free, and all vector registers are, but the sums v16 to v19.
macro_rules! panels {
    ($format:ident, $panels:ident, $x:ident, $y:ident, [$($before:expr),*], [$($block:expr),*], [$($after:expr),*]) => {
        let panels = $panels.chunks_exact(panel_bytes::<$format>($panels, &$x, $y));
        for (panel, y) in panels.zip($y.as_chunks_mut::<ROWS>().0) {
            let zero = vdupq_n_f32(0.0);
            let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
            // SAFETY: `panel_bytes`: as many blocks of weights behind their scales, 32 integers, one pair of scales and
            // one start each, as there are scales, at least one. The enclosing function has the features, and every
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

/// v14, v15, v29, v30: the sums of minima, which start from 0.
macro_rules! no_minima {
    () => {
        "movi v14.4s, #0\nmovi v15.4s, #0\nmovi v29.4s, #0\nmovi v30.4s, #0"
    };
}

/// Adds the sums of minima to the others.
macro_rules! add_minima {
    () => {
        each!("fadd", [16, 17, 18, 19] ".4s", [16, 17, 18, 19] ".4s", [14, 15, 29, 30] ".4s")
    };
}

/// Loads two or four registers from byte `$at` of the weights on.
macro_rules! load {
    ([$a:literal, $b:literal], $at:literal) => {
        concat!("ldp q", $a, ", q", $b, ", [{w}, #", $at, "]\n")
    };
    ([$a:literal, $b:literal, $c:literal, $d:literal], $at:literal) => {
        concat!(
            load!([$a, $b], $at),
            "ldp q",
            $c,
            ", q",
            $d,
            ", [{w}, #",
            $at,
            "+32]\n"
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
            "fcvtl v", $c, ".4s, v", $c, ".4h\n",
        )
    };
}

/// Nibbles of a unit's sixteen rows in `$units`: the lower ones to v10 to v13, then `$load`, the upper ones to
/// `$units`, then `$later`; the loads wait for none of it.
macro_rules! nibbles {
    ($units:tt, $load:expr, $later:expr) => {
        concat!(
            each!("and", [10, 11, 12, 13] ".16b", $units ".16b", ", v31.16b"),
            $load, "\n",
            each!("ushr", $units ".16b", $units ".16b", ", #4"),
            $later, "\n",
        )
    };
}

/// Integer sums `$sums` times the rows' scales `$scales`, added to the float sums.
macro_rules! accumulate {
    ($sums:tt, $scales:tt) => {
        each!("fmla", [16, 17, 18, 19] ".4s", $sums ".4s", $scales ".4s")
    };
}

pub(super) use {accumulate, add_minima, load, mask, nibbles, no_minima, panels, widen};
