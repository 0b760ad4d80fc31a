//! [`Kernels`]: a table of the functions that one instruction set has for this crate's operations.
//!
//! The instruction sets fill tables in (`scalar.rs`, `x86/`, `neon/`), `table.rs` chooses one.

use crate::activation_tiles::{TileOutput, TokenTile};
use crate::int8::{Int8Row, Scale, Start};
use crate::panel::{Panel, Unit};
use crate::running_softmax::{State, Step};
use crate::vector_ops::VectorOps;
use retort_format::quant::GgmlType;

/// Tokens that a kernel for float weights takes at a time.
pub(crate) const FLOAT_TOKENS: usize = 4;

/// One token times rows of a quantized format, in the file's own layout or in panels of sixteen.
pub(crate) type Gemv = unsafe fn(rows: &[u8], x: Int8Row, y: &mut [f32]);
/// Eight tokens times sixteen unpacked rows.
pub(crate) type Tile = unsafe fn(p: &Panel, x: &TokenTile, out: &mut TileOutput);
/// Eight tokens times a panel of rows16 as it lies.
pub(crate) type TileRows16 = unsafe fn(panel: &[u8], x: &TokenTile, out: &mut TileOutput);
/// Unpacks a panel of rows16 into a [`Panel`] of its size, in the order of `interleave`.
pub(crate) type UnpackRows16 = unsafe fn(panel: &[u8], to: &mut Panel);
/// Interleaves sixteen unpacked rows, `cols` integers each one after another, as the tile kernel
/// wants them, adding `bias`.
pub(crate) type Interleave = unsafe fn(rows: &[i8], bias: i8, out: &mut [Unit]);
/// One row of float weights, in the file's encoding, times `T` tokens.
pub(crate) type FloatDot<const T: usize> =
    unsafe fn(ty: GgmlType, w: &[u8], x: &[&[f32]; T]) -> [f32; T];
/// Activations to int8 (`int8.rs`).
pub(crate) type QuantizeBlocks =
    unsafe fn(x: &[f32], q: &mut [i8], scales: &mut [Scale], starts: &mut [Start]);
/// Attention over sixty-four positions (`running_softmax.rs`).
pub(crate) type Attend = unsafe fn(step: &Step, state: &mut State);
/// Multiplies `rounds` times; returns the multiply-adds of that.
pub(crate) type Peak = unsafe fn(rounds: usize) -> usize;

/// The kernels for panels of sixteen rows (see `rows16`) of one format.
#[derive(Clone, Copy)]
pub(crate) struct Rows16 {
    /// One token.
    pub gemv: Gemv,
    /// More tokens.
    pub many: ManyRows16,
}

/// The product of eight tokens with a panel of rows16.
#[derive(Clone, Copy)]
pub(crate) enum ManyRows16 {
    /// From the panel as it lies.
    Tile(TileRows16),
    /// Unpacked once for all tokens, then `tile`.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    Unpack(UnpackRows16),
}

/// A table of kernels for one instruction set. The only way to one is [`active`](crate::active) or
/// [`Kernels::available`], which check that the processor has what its functions need: that is what
/// makes calling them sound.
pub struct Kernels {
    /// The table's name, as `RETORT_KERNELS` takes it.
    pub name: &'static str,
    /// What the processor must have, for listings.
    pub needs: &'static str,
    /// Whether the processor has it.
    pub(crate) detect: fn() -> bool,
    /// The kernel for rows in the file's own layout; none for float weights.
    pub(crate) gemv: fn(GgmlType) -> Option<Gemv>,
    /// The kernels for panels of a format, where it has any (see `rows16::has_panels`).
    pub(crate) rows16: fn(GgmlType) -> Option<Rows16>,
    /// Multiply-adds alone, to measure the most that they can reach.
    pub(crate) peak: Option<Peak>,
    pub(crate) tile: Tile,
    pub(crate) interleave: Interleave,
    /// Added to the integers of panels.
    pub(crate) bias: i8,
    pub(crate) float_dot_1: FloatDot<1>,
    pub(crate) float_dot_4: FloatDot<FLOAT_TOKENS>,
    pub(crate) quantize_blocks: QuantizeBlocks,
    pub(crate) attend: Attend,
    pub(crate) ops: VectorOps,
}

/// [`Kernels::gemv`] of functions that are generic over the format: one for blocks of 32 weights, of
/// which Q4_0 may have its own, and one for the K formats.
macro_rules! gemv {
    ($($small:ident)::+, $($k:ident)::+) => {
        gemv!($($small)::+::<$crate::formats::Q4_0>, $($small)::+, $($k)::+)
    };
    ($q4_0:expr, $($small:ident)::+, $($k:ident)::+) => {
        |ty| {
            use $crate::formats::*;
            let kernel: $crate::kernels::Gemv = match ty {
                GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => return None,
                GgmlType::Q4_0 => $q4_0,
                GgmlType::Q4_1 => $($small)::+::<Q4_1>,
                GgmlType::Q5_0 => $($small)::+::<Q5_0>,
                GgmlType::Q5_1 => $($small)::+::<Q5_1>,
                GgmlType::Q8_0 => $($small)::+::<Q8_0>,
                GgmlType::Q4_K => $($k)::+::<Q4_K>,
                GgmlType::Q5_K => $($k)::+::<Q5_K>,
                GgmlType::Q6_K => $($k)::+::<Q6_K>,
            };
            Some(kernel)
        }
    };
}
pub(crate) use gemv;

/// [`Kernels::rows16`] of functions that are generic over the format.
macro_rules! rows16 {
    ($($gemv:ident)::+, $how:ident($($many:ident)::+)) => {
        |ty| match ty {
            GgmlType::Q4_0 => Some(rows16!(Q4_0, $($gemv)::+, $how($($many)::+))),
            GgmlType::Q4_1 => Some(rows16!(Q4_1, $($gemv)::+, $how($($many)::+))),
            GgmlType::Q8_0 => Some(rows16!(Q8_0, $($gemv)::+, $how($($many)::+))),
            _ => None,
        }
    };
    ($format:ident, $($gemv:ident)::+, $how:ident($($many:ident)::+)) => {
        $crate::kernels::Rows16 {
            gemv: $($gemv)::+::<$crate::formats::$format>,
            many: $crate::kernels::ManyRows16::$how($($many)::+::<$crate::formats::$format>),
        }
    };
}
pub(crate) use rows16;

impl Kernels {
    /// Does `rounds` rounds of multiply-adds on registers and gives how many that were; `None` if these kernels have
    /// no instruction for them.
    pub fn peak(&self, rounds: usize) -> Option<usize> {
        // SAFETY: a table is only reachable after its features were detected; the function touches no memory.
        self.peak.map(|peak| unsafe { peak(rounds) })
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernels({})", self.name)
    }
}
