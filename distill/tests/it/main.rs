//! Distillation of small students from small teachers.

mod blockwise;
mod cache;
mod fixture;
mod matching;
mod on_policy;
mod pruned;
mod quantized;
mod teachers;
