//! Distillation: a student is trained on a teacher's distributions.
//!
//! In: a recipe's `[teacher]` table ([`TeacherConfig`]) and the student's tokenizer. Out: a
//! [`Distillation`], the objective that `retort-train`'s loop runs.
//!
//! * [`teacher`] runs a teacher beside the student; [`cache`] stores a teacher's logits once, for
//!   many runs.
//! * The losses between outputs are in `retort-model`, fused with the head; [`LossesConfig`] says
//!   how they are weighted. [`matching`] and [`blockwise`] compare hidden states.
//! * [`on_policy`] replaces the data's text by text that the student samples.
//!
//! ```
//! use retort_distill::TeacherConfig;
//!
//! let table = r#"
//!     path = "qwen-7b-q4_0.gguf"
//!     temperature = 2.0
//!     [losses]
//!     forward_kl = 1.0
//!     reverse_kl = { from = 0.0, to = 0.5, steps = 1000 }
//! "#;
//! let config: TeacherConfig = toml::from_str(table)?;
//! assert_eq!(config.losses.reverse_kl.at(500), 0.25);
//! # Ok::<(), toml::de::Error>(())
//! ```

pub mod blockwise;
pub mod cache;
mod config;
mod cost;
mod error;
pub mod layer_mapping;
mod losses;
pub mod matching;
mod objective;
pub mod on_policy;
mod open_teacher;
mod schedule;
pub mod teacher;

pub use config::TeacherConfig;
pub use cost::teacher_cost;
pub use error::{Error, Result};
pub use losses::LossesConfig;
pub use objective::Distillation;
pub use open_teacher::open_teacher;
pub use schedule::{LinearSchedule, WeightSchedule};
pub use teacher::Teacher;
