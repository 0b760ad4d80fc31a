//! Which kernels run: one table per instruction set, the best that the processor has chosen once.

use super::activation_tiles::{TOKENS, Tokens};
use super::activations::{self, Row, Scale, Start};
use super::attention::{self, Attend};
use super::panel::Panel;
use super::{ops, scalar};
use retort_format::quant::GgmlType;
use retort_format::quant::rows16::ROWS;
use retort_format::{Error, Result};
use std::sync::OnceLock;

/// Tokens that a kernel for float weights takes at a time.
pub(crate) const FLOAT_TOKENS: usize = 4;

/// Environment variable that forces a table by name.
const VARIABLE: &str = "RETORT_KERNELS";

pub(super) type Gemv = unsafe fn(rows: &[u8], x: Row, y: &mut [f32]);
pub(super) type Tile = unsafe fn(p: &Panel, x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]);
pub(super) type Peak = unsafe fn(rounds: usize) -> usize;
pub(super) type TileRows16 = unsafe fn(panel: &[u8], x: &Tokens, out: &mut [[f32; ROWS]; TOKENS]);
/// Unpacks a panel of rows16 into the integers, as `interleave` orders them, scales and minima of a [`Panel`].
pub(super) type UnpackRows16 = unsafe fn(
    panel: &[u8],
    q: &mut [[[i8; 4]; ROWS]],
    d: &mut [[f32; ROWS]],
    m: &mut [[f32; ROWS]],
);
pub(super) type Interleave = unsafe fn(rows: &[i8], bias: i8, out: &mut [[[i8; 4]; ROWS]]);
pub(super) type FloatDot<const T: usize> =
    unsafe fn(ty: GgmlType, w: &[u8], x: &[&[f32]; T]) -> [f32; T];
pub(super) type QuantizeBlocks =
    unsafe fn(x: &[f32], q: &mut [i8], scales: &mut [Scale], starts: &mut [Start]);

/// One token times rows as they lie in a file, by format.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) q4_0: Gemv,
    pub(super) q4_1: Gemv,
    pub(super) q5_0: Gemv,
    pub(super) q5_1: Gemv,
    pub(super) q8_0: Gemv,
    pub(super) q4_k: Gemv,
    pub(super) q5_k: Gemv,
    pub(super) q6_k: Gemv,
}

/// What multiplies panels of sixteen rows (see `rows16`) of one format.
#[derive(Clone, Copy)]
pub(super) struct Rows16 {
    /// One token.
    pub(super) gemv: Gemv,
    /// More tokens.
    pub(super) many: ManyRows16,
}

/// How eight tokens meet a panel of rows16.
#[derive(Clone, Copy)]
pub(super) enum ManyRows16 {
    /// As it lies.
    Tile(TileRows16),
    /// Unpacked once for all tokens, then `tile`.
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    Unpack(UnpackRows16),
}

/// [`Rows16`] by format.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) q4_0: Rows16,
    pub(super) q4_1: Rows16,
    pub(super) q8_0: Rows16,
}

/// [`Panels`] of functions that are generic over the format.
macro_rules! panels {
    ($($gemv:ident)::+, $how:ident($($many:ident)::+)) => {
        $crate::table::Panels {
            q4_0: panels!(Q4_0, $($gemv)::+, $how($($many)::+)),
            q4_1: panels!(Q4_1, $($gemv)::+, $how($($many)::+)),
            q8_0: panels!(Q8_0, $($gemv)::+, $how($($many)::+)),
        }
    };
    ($format:ident, $($gemv:ident)::+, $how:ident($($many:ident)::+)) => {
        $crate::table::Rows16 {
            gemv: $($gemv)::+::<retort_format::quant::rows16::$format>,
            many: $crate::table::ManyRows16::$how(
                $($many)::+::<retort_format::quant::rows16::$format>,
            ),
        }
    };
}
pub(super) use panels;

/// A table of kernels for one instruction set. The only way to one is [`active`] or [`Kernels::available`], which
/// check that the processor has what its functions need: that is what makes calling them sound.
pub struct Kernels {
    /// The table's name, as `RETORT_KERNELS` takes it.
    pub name: &'static str,
    /// What the processor must have, for listings.
    pub needs: &'static str,
    /// Whether the processor has it.
    pub(super) detect: fn() -> bool,
    /// Rows in the file's own layout.
    pub(super) rows: Rows,
    /// Rows in panels of sixteen.
    pub(super) panels: Panels,
    /// Multiply-adds alone, to measure the most that they can reach.
    pub(super) peak: Option<Peak>,
    pub(super) tile: Tile,
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
    rows: Rows {
        q4_0: |w, x, y| scalar::gemv(GgmlType::Q4_0, w, x, y),
        q4_1: |w, x, y| scalar::gemv(GgmlType::Q4_1, w, x, y),
        q5_0: |w, x, y| scalar::gemv(GgmlType::Q5_0, w, x, y),
        q5_1: |w, x, y| scalar::gemv(GgmlType::Q5_1, w, x, y),
        q8_0: |w, x, y| scalar::gemv(GgmlType::Q8_0, w, x, y),
        q4_k: |w, x, y| scalar::gemv(GgmlType::Q4_K, w, x, y),
        q5_k: |w, x, y| scalar::gemv(GgmlType::Q5_K, w, x, y),
        q6_k: |w, x, y| scalar::gemv(GgmlType::Q6_K, w, x, y),
    },
    panels: panels!(scalar::gemv_rows16, Tile(scalar::tile_rows16)),
    peak: None,
    tile: scalar::tile,
    interleave: scalar::interleave,
    bias: 0,
    float_dot_1: scalar::float_dot,
    float_dot_4: scalar::float_dot,
    quantize_blocks: activations::quantize_blocks,
    attend: attention::attend,
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

    /// The kernel for one token and rows of a quantized format in the file's own layout.
    pub(super) fn gemv(&self, ty: GgmlType) -> Option<Gemv> {
        match ty {
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => None,
            GgmlType::Q4_0 => Some(self.rows.q4_0),
            GgmlType::Q4_1 => Some(self.rows.q4_1),
            GgmlType::Q5_0 => Some(self.rows.q5_0),
            GgmlType::Q5_1 => Some(self.rows.q5_1),
            GgmlType::Q8_0 => Some(self.rows.q8_0),
            GgmlType::Q4_K => Some(self.rows.q4_k),
            GgmlType::Q5_K => Some(self.rows.q5_k),
            GgmlType::Q6_K => Some(self.rows.q6_k),
        }
    }

    /// The kernels for panels of a format, where it has any (see `rows16::has_panels`).
    pub(super) fn rows16(&self, ty: GgmlType) -> Option<&Rows16> {
        match ty {
            GgmlType::Q4_0 => Some(&self.panels.q4_0),
            GgmlType::Q4_1 => Some(&self.panels.q4_1),
            GgmlType::Q8_0 => Some(&self.panels.q8_0),
            _ => None,
        }
    }

    /// Does `rounds` rounds of multiply-adds on registers and gives how many that were; `None` if these kernels have
    /// no instruction for them.
    pub fn peak(&self, rounds: usize) -> Option<usize> {
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
