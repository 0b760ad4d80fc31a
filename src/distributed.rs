//! A command run by all processes of `mpirun`: one that fails prints its rank and ends them all.

use std::sync::Arc;
use std::time::Duration;

use retort_comm::ProcessGroup;

use crate::error_chain;

/// The delay before a rank other than the main one reports a failure: where all fail alike, the main one
/// reports first.
const REPORT_DELAY: Duration = Duration::from_secs(1);

/// Runs `command` in the process group of this process.
pub fn run(command: impl FnOnce(&Arc<ProcessGroup>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let group = ProcessGroup::init()?;
    match command(&group) {
        Err(error) if group.size() > 1 => {
            if !group.is_main() {
                std::thread::sleep(REPORT_DELAY);
            }
            eprintln!(
                "error: rank {}: {}",
                group.rank(),
                error_chain::one_line(&error)
            );
            group.abort()
        }
        outcome => outcome,
    }
}
