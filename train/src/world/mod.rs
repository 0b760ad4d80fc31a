//! The processes that train one model together: who this one is, and what they tell each other.
//!
//! A [`World`] is of one process unless it was started by `mpirun` in a build with the feature `mpi`; then everything
//! here does nothing and costs nothing. What is said goes through one thread, which alone calls MPI: numbers are
//! on their way while the next layer's gradient is computed, and MPI needs no more than its `FUNNELED` level.
//!
//! ```text
//! trainer ──jobs──► thread "ranks" ──exchange──► MPI (mpi.rs) ◄──► the other ranks
//!                   collectives.rs
//! ```
//!
//! Sums are made here and in one order (`collectives.rs`), not by MPI: a fixed number of ranks gives the same
//! bits whatever the network does. Every rank must ask for the same things in the same order.

mod collectives;
mod link;
#[cfg_attr(not(feature = "mpi"), path = "no_mpi.rs")]
mod mpi;
#[cfg(test)]
pub(crate) mod threads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use link::{Alone, Counted, Link};

/// What the thread is asked to do.
type Job = Box<dyn FnOnce(&mut dyn Link) + Send>;

/// How long a failing rank waits for MPI to end the job before it ends itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub struct World {
    rank: usize,
    size: usize,
    /// Bytes that this rank has sent.
    sent: Arc<AtomicU64>,
    /// None where there is nobody to talk to.
    thread: Option<Thread>,
}

struct Thread {
    jobs: Sender<Job>,
    handle: JoinHandle<()>,
}

/// What will be there once the other ranks have done their part.
pub struct Pending<T>(Asked<T>);

enum Asked<T> {
    Done(T),
    Waiting(Receiver<T>),
}

impl<T> Pending<T> {
    /// Waits for it.
    pub fn wait(self) -> T {
        match self.0 {
            Asked::Done(value) => value,
            // The thread ends early only by a panic, which its hook has reported.
            Asked::Waiting(receiver) => receiver
                .recv()
                .expect("the thread of the ranks has ended; see above"),
        }
    }
}

impl World {
    /// Of this process alone.
    pub fn alone() -> Arc<Self> {
        Arc::new(Self {
            rank: 0,
            size: 1,
            sent: Arc::default(),
            thread: None,
        })
    }

    /// Of all processes that `mpirun` started together; of this one alone if it did not.
    ///
    /// # Errors
    /// [`Error::World`]: several were started, and this build has no MPI; MPI cannot be used.
    pub fn join() -> Result<Arc<Self>> {
        match started_together() {
            None | Some(Some(1)) => Ok(Self::alone()),
            Some(_) => Self::over(mpi::Mpi::join),
        }
    }

    /// Over the link that `open` makes on the thread that will use it.
    fn over<L: Link + 'static>(
        open: impl FnOnce() -> Result<L> + Send + 'static,
    ) -> Result<Arc<Self>> {
        let (jobs, asked) = channel::<Job>();
        let (say, opened) = channel();
        let sent = Arc::<AtomicU64>::default();
        let count = sent.clone();
        let serve = move || {
            let mut link = match open() {
                Ok(link) => Counted { link, sent: count },
                // Whoever started this thread waits for the answer.
                Err(error) => return drop(say.send(Err(error))),
            };
            drop(say.send(Ok((link.rank(), link.size()))));
            for job in asked {
                job(&mut link);
            }
        };
        let thread = std::thread::Builder::new()
            .name("ranks".into())
            .spawn(serve);
        let handle =
            thread.map_err(|e| Error::World(format!("its thread cannot be started: {e}")))?;
        let opened = opened.recv();
        let (rank, size) = opened
            .unwrap_or_else(|_| Err(Error::World("its thread has ended; see above".into())))?;
        Ok(Arc::new(Self {
            rank,
            size,
            sent,
            thread: Some(Thread { jobs, handle }),
        }))
    }

    /// Which process this is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Of how many.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is the one that writes checkpoints, metrics and progress.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }

    /// Bytes that this rank has sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Runs `job` where the other ranks are reached, after those before it.
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn Link) -> T + Send + 'static,
    ) -> Pending<T> {
        let Some(thread) = &self.thread else {
            return Pending(Asked::Done(job(&mut Alone)));
        };
        let (say, receiver) = channel();
        // Nobody listens once the trainer has failed; then the job is ended anyway.
        let job: Job = Box::new(move |link| drop(say.send(job(link))));
        // If the thread is gone, so is `say`: waiting reports it.
        drop(thread.jobs.send(job));
        Pending(Asked::Waiting(receiver))
    }

    /// What every rank has, in their order.
    pub fn gather(&self, mine: Vec<u8>) -> Vec<Vec<u8>> {
        self.ask(|link| collectives::gather(link, mine)).wait()
    }

    /// Numbers of every rank, as many of each, in their order.
    pub fn gather_numbers(&self, mine: &[f64]) -> Vec<Vec<f64>> {
        let bytes = mine.iter().flat_map(|x| x.to_le_bytes()).collect();
        let all = self.gather(bytes).into_iter();
        let numbers = |bytes: Vec<u8>| {
            let (eights, _) = bytes.as_chunks::<8>();
            eights.iter().map(|x| f64::from_le_bytes(*x)).collect()
        };
        all.map(numbers).collect()
    }

    /// The sum of what every rank counts.
    pub fn count(&self, mine: u64) -> u64 {
        let all = self.gather(mine.to_le_bytes().to_vec()).into_iter();
        all.map(|x| x.try_into().map_or(0, u64::from_le_bytes))
            .sum()
    }

    /// Whether any rank says so.
    pub fn any(&self, mine: bool) -> bool {
        self.count(u64::from(mine)) > 0
    }

    /// Goes on when every rank has come here.
    pub fn meet(&self) {
        self.count(0);
    }

    /// What rank 0 has.
    pub fn broadcast(&self, mine: Vec<u8>) -> Vec<u8> {
        self.ask(|link| collectives::broadcast(link, mine)).wait()
    }

    /// What every rank has, on rank 0; nothing on the others.
    pub fn collect(&self, mine: Vec<u8>) -> Vec<Vec<u8>> {
        self.ask(|link| collectives::collect(link, mine)).wait()
    }

    /// The one that is for this rank of those that rank 0 has, one for each; the others bring none.
    pub fn scatter(&self, each: Vec<Vec<u8>>) -> Vec<u8> {
        self.ask(|link| collectives::scatter(link, each)).wait()
    }

    /// `parts` has what this rank adds to each rank's sum; the answer is the sum that is this rank's.
    pub fn reduce(&self, parts: Vec<Vec<f32>>) -> Pending<Vec<f32>> {
        self.ask(|link| collectives::reduce(link, parts))
    }

    /// Bytes for each rank; the answer is what each had for this one, all the same size.
    pub fn trade(&self, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        self.ask(|link| collectives::trade(link, parts)).wait()
    }

    /// What every rank has, of sizes in bytes that all know, in their order.
    pub fn spread(&self, mine: Vec<u8>, sizes: Vec<usize>) -> Pending<Vec<Vec<u8>>> {
        self.ask(|link| collectives::spread(link, mine, sizes))
    }

    /// Ends all processes, after a failure of this one that has been reported.
    pub fn abort(&self) -> ! {
        if self.size > 1 {
            self.ask(|link| link.abort());
            std::thread::sleep(PATIENCE);
        }
        std::process::exit(1)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The others would wait for a rank that panics.
        if std::thread::panicking() && self.size > 1 && !cfg!(test) {
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

/// How many processes were started together, where that is said: by Open MPI, MPICH's Hydra or Slurm's PMI. Nothing
/// if this one was started by itself.
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

#[cfg(test)]
mod tests;
