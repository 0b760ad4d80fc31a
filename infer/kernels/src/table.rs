//! The choice of kernels: of one table per instruction set, the best that the processor has, made once.

use crate::kernels::Kernels;
use crate::scalar::SCALAR;
use retort_format::{Error, Result};
use std::sync::OnceLock;

/// Environment variable that forces a table by name.
const VARIABLE: &str = "RETORT_KERNELS";

/// All tables of this architecture, the best last.
static TABLES: &[&Kernels] = &[
    &SCALAR,
    #[cfg(target_arch = "x86_64")]
    &crate::x86::AVX2,
    #[cfg(target_arch = "x86_64")]
    &crate::x86::VNNI,
    #[cfg(target_arch = "x86_64")]
    &crate::x86::AVX512,
    #[cfg(target_arch = "aarch64")]
    &crate::neon::NEON,
    #[cfg(target_arch = "aarch64")]
    &crate::neon::DOTPROD,
    #[cfg(target_arch = "aarch64")]
    &crate::neon::I8MM,
];

impl Kernels {
    /// The tables that this processor can run, slowest first.
    pub fn available() -> Vec<&'static Kernels> {
        TABLES.iter().copied().filter(|k| (k.detect)()).collect()
    }

    /// The table of this name.
    pub fn by_name(name: &str) -> Result<&'static Kernels> {
        let available = Self::available();
        if let Some(kernels) = available.iter().find(|k| k.name == name) {
            return Ok(kernels);
        }
        let problem = match TABLES.iter().find(|k| k.name == name) {
            Some(k) => format!("this processor lacks {}", k.needs),
            None => "there is no such table".to_owned(),
        };
        let names: Vec<_> = available.iter().map(|k| k.name).collect();
        let names = names.join(", ");
        Err(Error::Kernels(format!(
            "kernels {name:?}: {problem}; available here: {names}"
        )))
    }

    /// The fastest table that this processor can run.
    pub fn best() -> &'static Kernels {
        Self::available().last().copied().unwrap_or(&SCALAR)
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
pub(crate) fn current() -> &'static Kernels {
    match ACTIVE.get() {
        Some(Ok(kernels)) => kernels,
        _ => active().unwrap_or(&SCALAR),
    }
}
