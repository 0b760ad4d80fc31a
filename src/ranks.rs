//! The processes that `mpirun` started together: one that fails ends them all, and says which it is.

use std::sync::Arc;
use std::time::Duration;

use retort_train::World;

use crate::said;

/// How long a rank other than the first keeps its failure to itself: where all fail alike, one says so.
const MODESTY: Duration = Duration::from_secs(1);

/// Runs `what` among all processes that were started together.
pub fn among(what: impl FnOnce(&Arc<World>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let world = World::join()?;
    match what(&world) {
        Err(error) if world.size() > 1 => {
            if !world.leads() {
                std::thread::sleep(MODESTY);
            }
            eprintln!("error: rank {}: {}", world.rank(), said::once(&error));
            world.abort()
        }
        outcome => outcome,
    }
}
