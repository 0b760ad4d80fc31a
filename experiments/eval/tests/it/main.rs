//! Tests of the whole crate: built-in tasks, evaluation on a made-up model, reports and challenges.

mod builtin_tasks;
mod eval;
mod models;
mod report;
mod support;
