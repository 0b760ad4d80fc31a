//! The threads that compute: one loop at a time, its pieces taken by whoever is free.
//!
//! In: a number of pieces and a function of a piece's index; the call returns when all pieces are done. The calling
//! thread works too. Each thread takes the next piece from a shared counter, so a slow core (the little ones of a
//! big.LITTLE pair, or one that another program is using) takes fewer pieces, and a thread that does not run at all
//! takes none: what is waited for is pieces, not threads.
//!
//! Decoding makes hundreds of loops a token, microseconds apart, so a thread that has run dry watches for the next
//! loop for a moment before it sleeps. A pool without work uses no processor time.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an idle thread watches for the next loop before it sleeps.
const WATCH: Duration = Duration::from_micros(100);

/// A set of threads. Dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One loop at a time: callers on several threads take turns.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Shared {
    /// Counts loops; a change is the signal that there is a new one.
    epoch: AtomicU64,
    slot: Mutex<Slot>,
    wake: Condvar,
}

#[derive(Default)]
struct Slot {
    job: Option<Arc<Job>>,
    sleeping: usize,
    ended: bool,
}

/// One loop.
struct Job {
    /// Called with an index below `pieces` only, and only before `done` reaches `pieces`: until then the caller of
    /// [`Pool::run`], who owns the function, waits.
    function: *const (dyn Fn(usize) + Sync),
    pieces: usize,
    next: AtomicUsize,
    done: AtomicUsize,
    panicked: AtomicBool,
}

// SAFETY: the pointer is to a `Sync` function and is followed only while its owner waits (see `function`).
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    /// Takes pieces until there are none left.
    fn work(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.pieces {
                return;
            }
            // SAFETY: this piece is not done, so the function's owner still waits in `run`.
            let function = unsafe { &*self.function };
            let call = std::panic::AssertUnwindSafe(|| function(piece));
            if std::panic::catch_unwind(call).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }
}

impl Pool {
    /// A pool of `threads` threads in all, the caller's among them; with `cores`, thread i stays on `cores[i]`, the
    /// caller's being the first. Where a core cannot be had, the thread runs where the system puts it.
    ///
    /// # Errors
    ///
    /// When the system refuses to start a thread.
    pub fn new(threads: usize, cores: &[usize]) -> std::io::Result<Self> {
        if let Some(&core) = cores.first() {
            stay_on(core);
        }
        let mut pool = Self::single();
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let core = cores.get(index).copied();
            let builder = std::thread::Builder::new().name(format!("compute-{index}"));
            pool.workers.push(builder.spawn(move || {
                if let Some(core) = core {
                    stay_on(core);
                }
                worker(&shared);
            })?);
        }
        Ok(pool)
    }

    /// The calling thread alone.
    pub fn single() -> Self {
        Self {
            shared: Arc::default(),
            workers: Vec::new(),
            turn: Mutex::default(),
        }
    }

    /// Threads, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `function` with every index below `pieces`, on all threads, and returns when all calls have. Not to be
    /// called from inside such a function.
    ///
    /// # Panics
    ///
    /// If a call panics, after all others have returned.
    pub fn run(&self, pieces: usize, function: impl Fn(usize) + Sync) {
        if self.workers.is_empty() || pieces <= 1 {
            (0..pieces).for_each(function);
            return;
        }
        let _turn = lock(&self.turn);
        let function: &(dyn Fn(usize) + Sync) = &function;
        // SAFETY: only the lifetime changes. The pointer is followed before the last piece is done, and this
        // function returns after that.
        let function: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(function) };
        let job = Arc::new(Job {
            function,
            pieces,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
        });
        let sleeping = {
            let mut slot = lock(&self.shared.slot);
            slot.job = Some(Arc::clone(&job));
            self.shared.epoch.fetch_add(1, Ordering::Release);
            slot.sleeping
        };
        if sleeping > 0 {
            self.shared.wake.notify_all();
        }
        job.work();
        let mut spins = 0u32;
        while job.done.load(Ordering::Acquire) < pieces {
            // the last pieces are short; past that, their threads may need this core
            spins += 1;
            if spins < 2000 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        lock(&self.shared.slot).job = None;
        assert!(
            !job.panicked.load(Ordering::Relaxed),
            "a piece of a loop panicked"
        );
    }

    /// Calls `function` with every row of `data`, `[n, width]`, and its index; rows go to threads `grain` at a time.
    pub fn rows<T: Send>(
        &self,
        data: &mut [T],
        width: usize,
        grain: usize,
        function: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let rows = data.len() / width.max(1);
        let base = Base(data.as_mut_ptr());
        self.run(rows.div_ceil(grain.max(1)), |piece| {
            for row in piece * grain.max(1)..((piece + 1) * grain.max(1)).min(rows) {
                // SAFETY: rows do not overlap, each has one index, and `data` is borrowed for the whole call.
                let part = unsafe { std::slice::from_raw_parts_mut(base.at(row * width), width) };
                function(row, part);
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.slot).ended = true;
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

/// A pointer that several threads take disjoint parts from.
struct Base<T>(*mut T);

// SAFETY: `at` is used for parts that do not overlap, of a slice whose elements may go to other threads.
unsafe impl<T: Send> Sync for Base<T> {}

impl<T> Base<T> {
    /// # Safety
    /// `offset` must lie in the slice.
    unsafe fn at(&self, offset: usize) -> *mut T {
        // SAFETY: by the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// Waits for loops and works on them, until the pool ends.
fn worker(shared: &Shared) {
    let mut seen = 0;
    loop {
        let watching = Instant::now();
        while shared.epoch.load(Ordering::Acquire) == seen && watching.elapsed() < WATCH {
            (0..50).for_each(|_| std::hint::spin_loop());
        }
        let job = {
            let mut slot = lock(&shared.slot);
            while shared.epoch.load(Ordering::Acquire) == seen && !slot.ended {
                slot.sleeping += 1;
                slot = shared
                    .wake
                    .wait(slot)
                    .unwrap_or_else(PoisonError::into_inner);
                slot.sleeping -= 1;
            }
            if slot.ended {
                return;
            }
            seen = shared.epoch.load(Ordering::Acquire);
            slot.job.clone()
        };
        if let Some(job) = job {
            job.work();
        }
    }
}

fn stay_on(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

/// A lock whose data is whole at every point, so that another thread's panic does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads, &[]).unwrap();
            for pieces in [0, 1, 2, 3, 100, 1000] {
                let counts: Vec<_> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                pool.run(pieces, |piece| {
                    counts[piece].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn rows_are_disjoint_and_complete() {
        let pool = Pool::new(3, &[0, 0, 0]).unwrap();
        for grain in [0, 1, 3, 100] {
            let mut data = vec![0usize; 7 * 5];
            pool.rows(&mut data, 5, grain, |i, row| row.fill(i + 1));
            let expected: Vec<_> = (0..35).map(|i| i / 5 + 1).collect();
            assert_eq!(data, expected);
        }
    }

    #[test]
    fn sleeping_threads_wake_and_several_callers_take_turns() {
        let pool = Pool::new(4, &[]).unwrap();
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        pool.run(50, |i| {
                            sum.fetch_add(i, Ordering::Relaxed);
                        });
                        std::thread::sleep(Duration::from_micros(300));
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3 * 20 * (49 * 50 / 2));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2, &[]).unwrap();
        let bad = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(10, |i| assert_ne!(i, 3));
        }));
        assert!(bad.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}
