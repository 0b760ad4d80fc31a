//! The transport over MPI (crate `mpi`: the system's Open MPI or MPICH). All calls come from the thread that
//! [`Mpi::init`] ran on. A failure within MPI ends the job: that is MPI's own default.

use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::send_receive_into;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Root, Source};

use super::transport::Transport;
use crate::error::{Error, Result};

/// MPI counts elements in an i32: a longer message goes in parts.
const PART: usize = 1 << 28;

/// See the module. Dropping it leaves MPI, which waits for the others to do so too.
pub struct Mpi {
    communicator: SimpleCommunicator,
    rank: usize,
    size: usize,
    _universe: Universe,
}

impl Mpi {
    /// Joins the processes that were started together.
    ///
    /// # Errors
    /// [`Error::Ranks`]: MPI was joined before.
    pub fn init() -> Result<Self> {
        let joined = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = joined.ok_or_else(|| Error::Ranks("MPI was joined before".into()))?;
        let communicator = universe.world();
        Ok(Self {
            // Neither is negative.
            rank: communicator.rank() as usize,
            size: communicator.size() as usize,
            communicator,
            _universe: universe,
        })
    }

    fn parts(bytes: usize) -> usize {
        bytes.div_ceil(PART)
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn send_receive(&mut self, to: usize, out: &[u8], from: usize, into: &mut [u8]) {
        let to = self.communicator.process_at_rank(to as i32);
        let from = self.communicator.process_at_rank(from as i32);
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

    fn all_gather(&mut self, mine: &[u8]) -> Vec<u8> {
        let mut all = vec![0; mine.len() * self.size];
        self.communicator.all_gather_into(mine, &mut all[..]);
        all
    }

    fn broadcast(&mut self, bytes: &mut [u8]) {
        let root = self.communicator.process_at_rank(0);
        for part in bytes.chunks_mut(PART) {
            root.broadcast_into(part);
        }
    }

    fn abort(&mut self) {
        self.communicator.abort(1);
    }
}
