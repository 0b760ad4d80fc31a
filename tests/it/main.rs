//! Tests of the `retort` command, and of the graph of the workspace's crates.

mod cli;
#[cfg(feature = "mpi")]
mod data_parallel;
mod demo;
mod dependencies;
mod eval;
mod pipeline;
mod plan;
mod recipes;
mod signals;
mod support;
