//! Distillation: a student learns from a teacher's distributions, not from text alone.
//!
//! In: a recipe's `[teacher]` table ([`TeacherConfig`]) and the student's tokenizer. Out:
//! a [`Distillation`] objective that `retort-train`'s loop runs; the loop itself is not
//! known here. The teacher runs beside the student ([`teacher`]), or what it says was written
//! down before ([`cache`]); what it starts with may be cut out of it ([`prune`]). The losses of
//! outputs are `retort_model`'s, next to the head; those of what is computed on the way there
//! are [`matching`]'s and [`blockwise`]'s. The text may be the student's own ([`on_policy`]).

pub mod blockwise;
pub mod cache;
mod config;
mod error;
pub mod layers;
mod losses;
pub mod matching;
mod objective;
pub mod on_policy;
pub mod prune;
pub mod teacher;

pub use config::TeacherConfig;
pub use error::{Error, Result};
pub use losses::{Line, Losses, Weight};
pub use objective::Distillation;
pub use teacher::Teach;
