//! Distillation: a student learns from a teacher's distributions, not from text alone.
//!
//! In: a recipe's `[teacher]` table ([`TeacherConfig`]) and the student's tokenizer. Out:
//! a [`Distillation`] objective that `retort-train`'s loop runs; the loop itself is not
//! known here.

mod config;
mod error;
mod loss;
mod objective;
pub mod prune;
mod teacher;

pub use config::TeacherConfig;
pub use error::{Error, Result};
pub use loss::forward_kl;
pub use objective::Distillation;
pub use teacher::Teacher;
