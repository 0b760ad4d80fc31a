//! Which kernels run: one table per instruction set, the best that the processor has chosen once.

use super::activations::{self, Row, Scale, Start};
use super::attention::{self, Attend};
use super::panel::{Panel, ROWS};
use super::tokens::{TOKENS, Tokens};
use super::{ops, scalar};
use crate::quant::GgmlType;
use crate::{Error, Result};
use std::sync::OnceLock;

/// Tokens that a kernel for float weights takes at a time.
pub(crate) const FLOAT_TOKENS: usize = 4;

/// Environment variable that forces a table by name.
const VARIABLE: &str = "RETORT_KERNELS";

pub(super) type Gemv = unsafe fn(rows: &[u8], x: Row, y: &mut [f32]);
pub(super) type DotUnpacked = unsafe fn(q: &[i8], d: &[f32], m: &[f32], x: Row) -> f32;
pub(super) type Tile = unsafe fn(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]);
pub(super) type Peak = unsafe fn(rounds: usize) -> usize;
pub(super) type TileRows16 = unsafe fn(panel: &[u8], x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]);
/// Unpacks a panel of rows16 into the integers, as `interleave` orders them, and scales of a [`Panel`].
pub(super) type UnpackRows16 =
    unsafe fn(panel: &[u8], q: &mut [[[i8; 4]; ROWS]], d: &mut [[f32; ROWS]]);
pub(super) type Interleave = unsafe fn(rows: &[i8], bias: i8, out: &mut [[[i8; 4]; ROWS]]);
pub(super) type FloatDot<const T: usize> =
    unsafe fn(ty: GgmlType, w: &[u8], x: &[&[f32]; T]) -> [f32; T];
pub(super) type QuantizeBlocks =
    unsafe fn(x: &[f32], q: &mut [i8], scales: &mut [Scale], starts: &mut [Start]);

/// How eight tokens meet a panel of rows16.
pub(super) enum ManyRows16 {
    /// As it lies.
    Tile(TileRows16),
    /// Unpacked once for all tokens, then `tile`.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    Unpack(UnpackRows16),
}

/// A table of kernels for one instruction set. The only way to one is [`active`] or [`Kernels::available`], which
/// check that the processor has what its functions need: that is what makes calling them sound.
pub struct Kernels {
    /// The table's name, as `RETORT_KERNELS` takes it.
    pub name: &'static str,
    /// What the processor must have, for listings.
    pub needs: &'static str,
    /// Whether the processor has it.
    pub(super) detect: fn() -> bool,
    pub(super) gemv_q4_0: Gemv,
    pub(super) gemv_q4_1: Gemv,
    pub(super) gemv_q8_0: Gemv,
    /// Q4_0 in panels of sixteen rows (see `rows16`).
    pub(super) gemv_rows16: Gemv,
    pub(super) dot_unpacked_16: DotUnpacked,
    pub(super) dot_unpacked_32: DotUnpacked,
    /// Multiply-adds alone, to measure the most that they can reach.
    pub(super) peak: Option<Peak>,
    pub(super) tile: Tile,
    pub(super) many_rows16: ManyRows16,
    pub(super) interleave: Interleave,
    /// Added to the integers of panels.
    pub(super) bias: i8,
    pub(super) float_dot_1: FloatDot<1>,
    pub(super) float_dot_4: FloatDot<FLOAT_TOKENS>,
    pub(super) quantize_blocks: QuantizeBlocks,
    /// Attention over sixty-four positions.
    pub(super) attend: Attend,
    pub(super) ops: ops::Table,
}

pub(super) static SCALAR: Kernels = Kernels {
    name: "scalar",
    needs: "nothing",
    detect: || true,
    gemv_q4_0: scalar::gemv_q4_0,
    gemv_q4_1: scalar::gemv_q4_1,
    gemv_q8_0: scalar::gemv_q8_0,
    gemv_rows16: scalar::gemv_rows16,
    dot_unpacked_16: scalar::dot_unpacked::<16>,
    dot_unpacked_32: scalar::dot_unpacked::<32>,
    peak: None,
    tile: scalar::tile,
    many_rows16: ManyRows16::Tile(scalar::tile_rows16),
    interleave: scalar::interleave,
    bias: 0,
    float_dot_1: scalar::float_dot,
    float_dot_4: scalar::float_dot,
    quantize_blocks: activations::quantize_blocks,
    attend: attention::attend::<4, false>,
    ops: ops::PORTABLE,
};

/// All tables of this architecture, the best last.
#[cfg(target_arch = "x86_64")]
static TABLES: &[&Kernels] = &[
    &SCALAR,
    &super::x86::AVX2,
    &super::x86::VNNI,
    &super::x86::AVX512,
];
/// All tables of this architecture, the best last.
#[cfg(target_arch = "aarch64")]
static TABLES: &[&Kernels] = &[
    &SCALAR,
    &super::neon::NEON,
    &super::neon::DOTPROD,
    &super::neon::I8MM,
];
/// All tables of this architecture, the best last.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static TABLES: &[&Kernels] = &[&SCALAR];

impl Kernels {
    /// The tables that this processor can run, slowest first.
    pub fn available() -> Vec<&'static Kernels> {
        TABLES.iter().copied().filter(|k| (k.detect)()).collect()
    }

    /// The table of this name.
    pub fn by_name(name: &str) -> Result<&'static Kernels> {
        let available = Self::available();
        available
            .iter()
            .copied()
            .find(|k| k.name == name)
            .ok_or_else(|| {
                let list = available
                    .iter()
                    .map(|k| k.name)
                    .collect::<Vec<_>>()
                    .join(", ");
                let problem = match TABLES.iter().find(|k| k.name == name) {
                    Some(k) => format!("this processor lacks {}", k.needs),
                    None => "there is no such table".to_owned(),
                };
                Error::Kernels(format!(
                    "kernels {name:?}: {problem}; available here: {list}"
                ))
            })
    }

    /// The fastest table that this processor can run.
    pub fn best() -> &'static Kernels {
        Self::available().last().copied().unwrap_or(&SCALAR)
    }

    /// The product kernel that reads a format's own layout, where there is one.
    pub(super) fn gemv(&self, ty: GgmlType) -> Option<Gemv> {
        match ty {
            GgmlType::Q4_0 => Some(self.gemv_q4_0),
            GgmlType::Q4_1 => Some(self.gemv_q4_1),
            GgmlType::Q8_0 => Some(self.gemv_q8_0),
            _ => None,
        }
    }

    /// Does `rounds` rounds of multiply-adds on registers and gives how many that were; `None` if these kernels have
    /// no instruction for them.
    pub(crate) fn peak(&self, rounds: usize) -> Option<usize> {
        // SAFETY: a table is only reachable after its features were detected; the function touches no memory.
        self.peak.map(|peak| unsafe { peak(rounds) })
    }

    pub(super) fn quantize_blocks(
        &self,
        x: &[f32],
        q: &mut [i8],
        scales: &mut [Scale],
        starts: &mut [Start],
    ) {
        // SAFETY: a table is only reachable after its features were detected; the function takes any slices.
        unsafe { (self.quantize_blocks)(x, q, scales, starts) }
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}

static ACTIVE: OnceLock<std::result::Result<&'static Kernels, String>> = OnceLock::new();

/// The table in use: the one that `RETORT_KERNELS` names, else the best. Decided at the first call.
pub fn active() -> Result<&'static Kernels> {
    let choose = || match std::env::var(VARIABLE) {
        Ok(name) => Kernels::by_name(name.trim()).map_err(|e| format!("{VARIABLE}: {e}")),
        Err(_) => Ok(Kernels::best()),
    };
    ACTIVE.get_or_init(choose).clone().map_err(Error::Kernels)
}

/// Decides on the table; a program calls this first, so that a wrong `RETORT_KERNELS` is reported at once.
pub fn init() -> Result<&'static Kernels> {
    active()
}

/// The table for operations that cannot fail; a wrong `RETORT_KERNELS` has been or will be reported by [`active`].
pub(super) fn current() -> &'static Kernels {
    match ACTIVE.get() {
        Some(Ok(kernels)) => kernels,
        _ => active().unwrap_or(&SCALAR),
    }
}
