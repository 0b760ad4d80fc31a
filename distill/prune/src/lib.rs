//! Structured pruning: cuts a student out of a trained parent, with fewer layers, narrower, or
//! with a smaller vocabulary (Minitron, arXiv 2407.14679; ShortGPT, arXiv 2403.03853).
//!
//! In: a Hugging Face directory of any architecture of `retort-model`, and text where something
//! is scored on text. Out: another Hugging Face directory, to train from; its parent makes a
//! good teacher.
//!
//! ```text
//! PruneOptions ─► student_config ─► vocabulary ─► layer_selection ─► importance ─► slicing ─► write
//!                 sizes             ids kept,     layers kept        channels      rows and   directory
//!                                   tokenizer                        and heads     columns
//! ```
//!
//! The parent's tensors are read one at a time from memory-mapped files. The parent is loaded as
//! a model (in f32) only where text has to go through it.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//!
//! use retort_prune::{LayerSelection, PruneOptions, TargetSizes, prune};
//!
//! # fn main() -> retort_prune::Result<()> {
//! let options = PruneOptions {
//!     sizes: TargetSizes { layers: Some(15), ..TargetSizes::default() },
//!     layer_selection: LayerSelection::EvenlySpaced,
//!     ..PruneOptions::default()
//! };
//! let device = burn::tensor::Device::flex();
//! let (parent, student) = (Path::new("smollm2"), Path::new("half"));
//! let report = prune(parent, student, &options, &device, &AtomicBool::new(false), &|_| {})?;
//! println!("{} parameters", report.plan.student.parameters);
//! # Ok(())
//! # }
//! ```

mod activation_scores;
mod error;
mod importance;
mod layer_distances;
mod layer_selection;
mod options;
mod parameter_search;
mod parent;
mod pipeline;
mod progress;
mod report;
mod sizes;
mod slicing;
mod student_config;
mod text;
mod vocabulary;
mod weight_scores;
mod write;

pub use error::{Error, Result};
pub use options::{ImportanceMetric, LayerSelection, PruneOptions};
pub use pipeline::{plan, prune};
pub use progress::Progress;
pub use report::{ModelShape, PrunePlan, PruneReport};
pub use student_config::TargetSizes;
pub use text::TextSource;
