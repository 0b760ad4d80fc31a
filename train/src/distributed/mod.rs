//! How the ranks of a run share its steps: each computes the gradient of its share of a step's rows; then either every
//! step is that of all rows ([`Zero1`]), or the ranks train apart and synchronize every few steps ([`Diloco`]).
//!
//! In: a [`ProcessGroup`](retort_comm::ProcessGroup) and a recipe.

mod local_steps;
mod setup;
mod share;

use retort_comm::{Diloco, Zero1};

pub use local_steps::LocalSteps;
pub use share::StepShare;

/// How the ranks of a run train together.
pub enum Strategy {
    /// There is one rank.
    Single,
    /// Every step is that of all ranks.
    Zero1(Zero1),
    /// The ranks train apart and synchronize every few steps.
    Diloco(Box<DilocoRun>),
}

/// DiLoCo's outer optimizer, and the steps since the ranks last synchronized.
pub struct DilocoRun {
    pub outer: Diloco,
    pub steps: LocalSteps,
}

impl Strategy {
    /// The ranks whose steps are one.
    pub fn zero1(&self) -> Option<&Zero1> {
        match self {
            Self::Zero1(zero1) => Some(zero1),
            _ => None,
        }
    }
}
