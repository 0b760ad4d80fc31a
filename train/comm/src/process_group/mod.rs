//! The process group: which rank this process is, and collective operations among the ranks.
//!
//! A [`ProcessGroup`] has one rank unless `mpirun` started several processes of a build with the feature `mpi`; then
//! every operation here returns at once. Operations run on one thread, the only one that calls MPI, so that numbers
//! travel while the next layer's gradient is computed and MPI needs no more than its `FUNNELED` level.
//!
//! ```text
//! trainer ──jobs──► thread "ranks" ──send_receive──► MPI (mpi.rs) ◄──► the other ranks
//!                   collectives.rs
//! ```
//!
//! Sums are made here and in the ranks' order (`collectives.rs`), not by MPI: a fixed number of ranks gives the same
//! bits on any network. Every rank must ask for the same operations in the same order.

mod collectives;
#[cfg(feature = "mpi")]
mod mpi;
pub mod threads;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use transport::{Counted, SingleProcess, Transport};

/// An operation for the thread.
type Job = Box<dyn FnOnce(&mut dyn Transport) + Send>;

/// How long a failing rank waits for MPI to end the job before it ends itself.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub struct ProcessGroup {
    rank: usize,
    size: usize,
    /// Bytes that this rank has sent.
    sent: Arc<AtomicU64>,
    /// None where there is one rank.
    thread: Option<Thread>,
    /// Whether the ranks are processes, which a panic of one must end: the others would wait for it.
    processes: bool,
}

struct Thread {
    jobs: Sender<Job>,
    handle: JoinHandle<()>,
}

/// The result of an operation under way.
pub struct Pending<T>(PendingState<T>);

enum PendingState<T> {
    Done(T),
    Waiting(Receiver<T>),
}

impl<T> Pending<T> {
    /// Waits for the result.
    ///
    /// # Panics
    /// If the thread of the ranks has.
    pub fn wait(self) -> T {
        match self.0 {
            PendingState::Done(value) => value,
            // The thread ends early only by a panic, which its hook has reported.
            PendingState::Waiting(receiver) => receiver
                .recv()
                .expect("the thread of the ranks has ended; see above"),
        }
    }
}

impl ProcessGroup {
    /// The group of this process alone.
    pub fn single() -> Arc<Self> {
        Arc::new(Self {
            rank: 0,
            size: 1,
            sent: Arc::default(),
            thread: None,
            processes: false,
        })
    }

    /// The group of all processes that `mpirun` started together, or of this process alone.
    ///
    /// # Errors
    /// [`Error::Ranks`]: several were started, and this build has no MPI; MPI cannot be used.
    pub fn init() -> Result<Arc<Self>> {
        match started_together() {
            None | Some(Some(1)) => Ok(Self::single()),
            Some(_) => Self::over(init_mpi, true),
        }
    }

    /// The group over the transport that `open` makes on the thread that will use it.
    fn over<T: Transport + 'static>(
        open: impl FnOnce() -> Result<T> + Send + 'static,
        processes: bool,
    ) -> Result<Arc<Self>> {
        let (jobs, queue) = channel::<Job>();
        let (answer, opened) = channel();
        let sent = Arc::<AtomicU64>::default();
        let count = sent.clone();
        let serve = move || {
            let mut transport = match open() {
                Ok(inner) => Counted { inner, sent: count },
                // Whoever started this thread waits for the answer.
                Err(error) => return drop(answer.send(Err(error))),
            };
            drop(answer.send(Ok((transport.rank(), transport.size()))));
            for job in queue {
                job(&mut transport);
            }
        };
        let thread = std::thread::Builder::new()
            .name("ranks".into())
            .spawn(serve);
        let handle =
            thread.map_err(|e| Error::Ranks(format!("its thread cannot be started: {e}")))?;
        let opened = opened.recv();
        let (rank, size) = opened
            .unwrap_or_else(|_| Err(Error::Ranks("its thread has ended; see above".into())))?;
        Ok(Arc::new(Self {
            rank,
            size,
            sent,
            thread: Some(Thread { jobs, handle }),
            processes,
        }))
    }

    /// This process's rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is rank 0, which writes checkpoints, metrics and progress.
    pub fn is_main(&self) -> bool {
        self.rank == 0
    }

    /// Bytes that this rank has sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Queues `job` after those before it.
    fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Transport) -> T + Send + 'static,
    ) -> Pending<T> {
        let Some(thread) = &self.thread else {
            return Pending(PendingState::Done(job(&mut SingleProcess)));
        };
        let (answer, receiver) = channel();
        // Nobody listens once the trainer has failed; then the job is ended anyway.
        let job: Job = Box::new(move |transport| drop(answer.send(job(transport))));
        // If the thread is gone, so is `answer`: waiting reports it.
        drop(thread.jobs.send(job));
        Pending(PendingState::Waiting(receiver))
    }

    /// Every rank's bytes, in the ranks' order.
    pub fn all_gather(&self, mine: Vec<u8>) -> Vec<Vec<u8>> {
        self.submit(|t| collectives::all_gather(t, mine)).wait()
    }

    /// Every rank's numbers, equally many of each, in the ranks' order.
    pub fn all_gather_f64(&self, mine: &[f64]) -> Vec<Vec<f64>> {
        let bytes = mine.iter().flat_map(|x| x.to_le_bytes()).collect();
        let all = self.all_gather(bytes).into_iter();
        let numbers = |bytes: Vec<u8>| {
            let (eights, _) = bytes.as_chunks::<8>();
            eights.iter().map(|x| f64::from_le_bytes(*x)).collect()
        };
        all.map(numbers).collect()
    }

    /// Every rank's bytes, in the ranks' order, where all ranks know the `sizes` in bytes.
    pub fn all_gather_v(&self, mine: Vec<u8>, sizes: Vec<usize>) -> Pending<Vec<Vec<u8>>> {
        self.submit(|t| collectives::all_gather_v(t, mine, sizes))
    }

    /// The sum of every rank's number.
    pub fn all_reduce_sum(&self, mine: u64) -> u64 {
        let all = self.all_gather(mine.to_le_bytes().to_vec()).into_iter();
        all.map(|x| x.try_into().map_or(0, u64::from_le_bytes))
            .sum()
    }

    /// Whether `mine` is true on any rank.
    pub fn any(&self, mine: bool) -> bool {
        self.all_reduce_sum(u64::from(mine)) > 0
    }

    /// Returns once every rank has called it.
    pub fn barrier(&self) {
        self.all_reduce_sum(0);
    }

    /// Rank 0's bytes.
    pub fn broadcast(&self, mine: Vec<u8>) -> Vec<u8> {
        self.submit(|t| collectives::broadcast(t, mine)).wait()
    }

    /// On rank 0 every rank's bytes, in the ranks' order; nothing on the others.
    pub fn gather(&self, mine: Vec<u8>) -> Vec<Vec<u8>> {
        self.submit(|t| collectives::gather(t, mine)).wait()
    }

    /// The bytes for this rank among those that rank 0 brings, one for each rank; the others bring none.
    pub fn scatter(&self, each: Vec<Vec<u8>>) -> Vec<u8> {
        self.submit(|t| collectives::scatter(t, each)).wait()
    }

    /// This rank's part of the sum over all ranks; `parts` are this rank's summands, a part for each rank.
    pub fn reduce_scatter(&self, parts: Vec<Vec<f32>>) -> Pending<Vec<f32>> {
        self.submit(|t| collectives::reduce_scatter(t, parts))
    }

    /// What each rank had for this one; `parts` are this rank's bytes for each, all of one size.
    pub fn all_to_all(&self, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        self.submit(|t| collectives::all_to_all(t, parts)).wait()
    }

    /// Ends all processes, after a failure of this one that has been reported.
    pub fn abort(&self) -> ! {
        if self.size > 1 {
            self.submit(|t| t.abort());
            std::thread::sleep(ABORT_TIMEOUT);
        }
        std::process::exit(1)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if std::thread::panicking() && self.processes {
            eprintln!("error: rank {}: panicked; see above", self.rank);
            self.abort();
        }
        if let Some(Thread { jobs, handle }) = self.thread.take() {
            drop(jobs);
            // Its panic has been reported by its hook.
            drop(handle.join());
        }
    }
}

/// The transport between the processes that were started together.
#[cfg(feature = "mpi")]
fn init_mpi() -> Result<mpi::Mpi> {
    mpi::Mpi::init()
}

/// The error of a build without MPI.
#[cfg(not(feature = "mpi"))]
fn init_mpi() -> Result<SingleProcess> {
    Err(Error::Ranks(
        "mpirun started several processes, and this build has no MPI: build retort with --features mpi".into(),
    ))
}

/// How many processes Open MPI, MPICH's Hydra or Slurm's PMI started together: `None` if this one was started by
/// itself, `Some(None)` if several were and the number is not said.
fn started_together() -> Option<Option<usize>> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|v| v.trim().parse::<usize>().ok())
    };
    if let Some(size) = number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE")) {
        return Some(size);
    }
    number("PMIX_RANK")
        .or_else(|| number("PMI_RANK"))
        .map(|_| None)
}
