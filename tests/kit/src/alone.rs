//! Tests that need a process of their own, such as those that read its peak of memory.

/// Whether this process runs test `name` alone; if not, runs it in a process of its own, whose
/// allocations are the test's, and fails where it fails.
///
/// # Panics
/// The test fails in its process.
pub fn alone(name: &str) -> bool {
    const ALONE: &str = "RETORT_TEST_ALONE";
    if std::env::var(ALONE).is_ok_and(|alone| alone == name) {
        return true;
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, name)
        .status();
    assert!(status.unwrap().success(), "{name}");
    false
}
