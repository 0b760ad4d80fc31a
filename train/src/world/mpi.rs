//! The way to the other ranks over MPI (crate `mpi`: Open MPI or MPICH of the system). All calls come from the
//! thread that [`Mpi::join`] ran on. A failure within MPI ends the job: that is MPI's own default.

use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::send_receive_into;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Root, Source};

use super::link::Link;
use crate::error::{Error, Result};

/// MPI counts elements in an i32: a longer message goes in parts.
const PART: usize = 1 << 28;

/// See the module. Dropping it leaves MPI, which waits for the others to do so too.
pub struct Mpi {
    world: SimpleCommunicator,
    rank: usize,
    size: usize,
    _universe: Universe,
}

impl Mpi {
    /// Joins the processes that were started together.
    ///
    /// # Errors
    /// [`Error::World`]: MPI was joined before.
    pub fn join() -> Result<Self> {
        let joined = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = joined.ok_or_else(|| Error::World("MPI was joined before".into()))?;
        let world = universe.world();
        Ok(Self {
            // Neither is negative.
            rank: world.rank() as usize,
            size: world.size() as usize,
            world,
            _universe: universe,
        })
    }

    fn parts(bytes: usize) -> usize {
        bytes.div_ceil(PART)
    }
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&mut self, to: usize, out: &[u8], from: usize, into: &mut [u8]) {
        let to = self.world.process_at_rank(to as i32);
        let from = self.world.process_at_rank(from as i32);
        let count = Self::parts(out.len()).max(Self::parts(into.len()));
        let (mut outs, mut intos) = (out.chunks(PART), into.chunks_mut(PART));
        // The nth part of one end meets the nth of the other: neither waits for a part that is not sent.
        for _ in 0..count {
            match (outs.next(), intos.next()) {
                (Some(out), Some(into)) => {
                    send_receive_into(out, &to, into, &from);
                }
                (Some(out), None) => to.send(out),
                (None, Some(into)) => {
                    from.receive_into(into);
                }
                (None, None) => {}
            }
        }
    }

    fn gather(&mut self, mine: &[u8]) -> Vec<u8> {
        let mut all = vec![0; mine.len() * self.size];
        self.world.all_gather_into(mine, &mut all[..]);
        all
    }

    fn broadcast(&mut self, bytes: &mut [u8]) {
        let root = self.world.process_at_rank(0);
        for part in bytes.chunks_mut(PART) {
            root.broadcast_into(part);
        }
    }

    fn abort(&mut self) {
        self.world.abort(1);
    }
}
