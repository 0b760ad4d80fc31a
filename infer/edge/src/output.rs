//! What the commands print: results to standard output, progress to a terminal.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Writes to standard output at once; a closed pipe is an error that `main` exits quietly on.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// A result as JSON, one object.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Whether an error only says that nobody reads the output any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// A progress bar on standard error, invisible where that is no terminal.
pub fn progress_bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} {eta}");
    let bar = ProgressBar::new(0).with_prefix(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A number of bytes in the unit that fits.
pub fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}
