//! Integration tests: built-in tasks, evaluation of a tiny model, reports and challenges.

mod builtin_tasks;
mod engine_scorer;
mod evaluate;
mod generation;
mod report;
mod results;
mod support;
