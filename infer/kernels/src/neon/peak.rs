//! The multiply-adds alone, on registers: the most that products of int8 can reach.

/// Sums that do not wait for one another: enough to cover the instruction's latency.
const SUMS: usize = 12;

macro_rules! peak {
    ($name:ident, $features:literal, $macs:literal, $op:literal, $lanes:literal, $from:literal) => {
        /// Multiplies `rounds` times twelve vectors; gives the multiply-adds of that.
        #[target_feature(enable = $features)]
        pub(in super::super) fn $name(rounds: usize) -> usize {
            macro_rules! step {
                ($sum:literal) => {
                    concat!($op, " v", $sum, $lanes, ", v30", $from, ", v31", $from)
                };
            }
            if rounds > 0 {
                // SAFETY: registers only, all of them outputs, whatever they held; the function has the feature.
                unsafe {
                    std::arch::asm!(
                        "2:",
                        step!("0"), step!("1"), step!("2"), step!("3"), step!("4"), step!("5"),
                        step!("6"), step!("7"), step!("16"), step!("17"), step!("18"), step!("19"),
                        "subs {n}, {n}, #1",
                        "b.ne 2b",
                        n = inout(reg) rounds => _,
                        out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
                        out("v6") _, out("v7") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                        out("v30") _, out("v31") _,
                        options(nomem, nostack),
                    );
                }
            }
            rounds * SUMS * $macs
        }
    };
}

peak!(neon, "neon", 8, "smlal", ".8h", ".8b");
peak!(dotprod, "neon,dotprod", 16, "sdot", ".4s", ".16b");
peak!(i8mm, "neon,i8mm", 32, "smmla", ".4s", ".16b");
