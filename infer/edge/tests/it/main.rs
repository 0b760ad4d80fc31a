//! Tests of the program `retort-edge`: its commands, its chat, its server.

mod chat;
mod cli;
mod serve;

/// The program.
fn program() -> std::process::Command {
    retort_test_kit::program(env!("CARGO_BIN_EXE_retort-edge"))
}
