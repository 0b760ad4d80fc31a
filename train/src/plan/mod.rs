//! What a run will take, before it starts: parameters, tokens, memory, arithmetic, hours.
//!
//! In: a recipe and the model's shape ([`PlanBuilder`]). Out: a [`Plan`]. Everything is counted from the shape
//! (`sizes.rs`) but [`Measured`]: a forward and backward pass over made-up ids, timed on this machine, of as many rows
//! and layers as take it seconds (`probe.rs`). Unmeasured FLOPs are extrapolated at the measured FLOP/s.
//!
//! Arithmetic is what the model itself needs, two operations a multiply-add: 6 a token for each weight of a product (2
//! forward, 2 for the gradient of the input, 2 for the weight's own, which frozen weights spare), and 6 · layers ·
//! width · sequence for causal attention (Chowdhery et al., arXiv 2204.02311, appendix B, halved by causality). What a
//! teacher computes is counted by itself ([`TeacherCost`]).

mod builder;
mod memory;
mod probe;
mod sizes;
mod tokens;
mod totals;

pub use builder::PlanBuilder;
pub use memory::Memory;
pub use sizes::{TeacherCost, forward_flops_per_token};
pub use tokens::Tokens;
pub use totals::{Measured, Plan};
