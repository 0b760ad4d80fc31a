//! Programs under test, on this machine or emulated.

use std::process::Command;

/// The program at `path`, started through the emulator that cargo runs the tests with when they are cross-built.
pub fn program(path: &str) -> Command {
    let arch = std::env::consts::ARCH.to_uppercase();
    let runner = std::env::vars().find(|(name, _)| {
        name.starts_with(&format!("CARGO_TARGET_{arch}_")) && name.ends_with("_RUNNER")
    });
    let Some((_, runner)) = runner else {
        return Command::new(path);
    };
    let mut words = runner.split_whitespace();
    let mut process = Command::new(words.next().unwrap());
    process.args(words).arg(path);
    process
}
