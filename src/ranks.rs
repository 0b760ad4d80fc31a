//! The processes that `mpirun` started together: one that fails ends them all, and says which it is.

use std::sync::Arc;
use std::time::Duration;

use retort_comm::ProcessGroup;

use crate::said;

/// How long a rank other than the first keeps its failure to itself: where all fail alike, one says so.
const MODESTY: Duration = Duration::from_secs(1);

/// Runs `what` among all processes that were started together.
pub fn among(what: impl FnOnce(&Arc<ProcessGroup>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let group = ProcessGroup::init()?;
    match what(&group) {
        Err(error) if group.size() > 1 => {
            if !group.is_main() {
                std::thread::sleep(MODESTY);
            }
            eprintln!("error: rank {}: {}", group.rank(), said::once(&error));
            group.abort()
        }
        outcome => outcome,
    }
}
