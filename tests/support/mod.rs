//! The `retort` command as tests call it.

use std::path::Path;

use assert_cmd::Command;

/// Runs `retort` in `cwd`: whether it succeeded, its standard output and its standard error.
pub fn retort(args: &[&str], cwd: &Path) -> (bool, String, String) {
    let output = Command::cargo_bin("retort")
        .unwrap()
        .args(args)
        .current_dir(cwd)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}
