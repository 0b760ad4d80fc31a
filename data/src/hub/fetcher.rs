//! Shards on disk when they are wanted: the next ones are fetched in the background while one is
//! read, within the disk budget.
//!
//! The shard asked for is fetched by the thread that asks; one thread behind it fetches those
//! announced, in their order. A shard fetched ahead in vain is no error: it is tried again, and
//! its error told, when it is asked for.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::budget::{Budget, Room};
use super::cache::RepoCache;
use super::client::Client;
use super::download::download;
use super::listing::HubFile;
use crate::error::{Error, Result};
use crate::source_options::SourceOptions;

/// The shards of one source and what is known of each.
pub(crate) struct Fetcher {
    client: Client,
    cache: RepoCache,
    /// `hf://OWNER/NAME@COMMIT`.
    at: String,
    commit: String,
    files: Vec<HubFile>,
    ahead: usize,
    limit: Option<u64>,
    state: Mutex<FetchState>,
    changed: Condvar,
}

struct FetchState {
    budget: Budget,
    /// To be fetched ahead, the first first.
    announced: VecDeque<usize>,
    /// Whether the thread that fetches ahead runs.
    running: bool,
}

/// A shard that stays where it is.
pub(crate) struct HubLease {
    /// The file.
    pub path: PathBuf,
    fetcher: Arc<Fetcher>,
    shard: usize,
    /// Carries the lock that keeps others from evicting it; `None` only while it is dropped.
    lock: Option<File>,
}

impl Drop for HubLease {
    fn drop(&mut self) {
        // First the lock: who is woken below may want to evict the shard.
        self.lock = None;
        self.fetcher.lock().budget.release(self.shard);
        self.fetcher.changed.notify_all();
    }
}

impl Fetcher {
    /// Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a shard is larger than the budget.
    pub fn new(
        client: Client,
        cache: RepoCache,
        at: String,
        commit: String,
        files: Vec<HubFile>,
        options: &SourceOptions,
    ) -> Result<Self> {
        let sizes: Vec<u64> = files.iter().map(|f| f.size).collect();
        let limit = options.disk_budget_bytes;
        let largest = files.iter().max_by_key(|f| f.size);
        if let (Some(limit), Some(largest)) = (limit, largest)
            && largest.size > limit
        {
            let what = format!(
                "{limit} bytes is less than {at}/{} takes ({} bytes)",
                largest.path, largest.size
            );
            return Err(too_small(&what, largest.size));
        }
        Ok(Self {
            client,
            cache,
            at,
            commit,
            files,
            ahead: options.prefetch,
            limit,
            state: Mutex::new(FetchState {
                budget: Budget::new(sizes, limit),
                announced: VecDeque::new(),
                running: false,
            }),
            changed: Condvar::new(),
        })
    }

    /// The shards, in their order.
    pub fn files(&self) -> &[HubFile] {
        &self.files
    }

    /// Shard `i` as messages name it.
    pub fn name(&self, i: usize) -> String {
        format!("{}/{}", self.at, self.files[i].path)
    }

    /// Ends the work in the background as soon as the next bytes arrive.
    pub fn stop(&self) {
        self.client.stop().set();
        // Taken, so that the thread cannot be between its look at the flag and its sleep.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Waits until shard `i` is there, and has the first of `next` fetched meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NotCached`] offline; [`Error::Config`] if shards that are held leave no room;
    /// and those of a download.
    pub fn open(self: &Arc<Self>, i: usize, next: &[usize]) -> Result<HubLease> {
        let next = &next[..next.len().min(self.ahead)];
        self.announce(i, next);
        let mut tries = 3;
        let mut state = self.lock();
        loop {
            if state.budget.is_in_flight(i) {
                state = self.wait(state);
                continue;
            }
            if let Some((path, lock)) = self.cache.hold(&self.commit, &self.files[i])? {
                state.budget.hold(i);
                drop(state);
                self.changed.notify_all();
                return Ok(HubLease {
                    path,
                    fetcher: Arc::clone(self),
                    shard: i,
                    lock: Some(lock),
                });
            }
            if self.client.config().offline {
                drop(state);
                return Err(self.not_cached(i));
            }
            match self.make_room(&mut state, i, true, next) {
                Ok(()) if tries == 0 => {
                    return Err(Error::hub(
                        self.name(i),
                        "another program removes it from the cache as soon as it is there; \
                         give this one a cache of its own with HF_HUB_CACHE",
                    ));
                }
                Ok(()) => {
                    tries -= 1;
                    state.budget.begin(i);
                    drop(state);
                    self.fetch(i)?;
                    state = self.lock();
                }
                // What is on its way is soon there and can then be evicted.
                Err(_) if state.budget.any_in_flight() => state = self.wait(state),
                Err(taken) => {
                    let size = self.files[i].size;
                    let what = format!(
                        "no room for {} ({size} bytes): shards in use take {taken} of {} bytes",
                        self.name(i),
                        self.limit.unwrap_or(u64::MAX),
                    );
                    return Err(too_small(&what, taken.saturating_add(size)));
                }
            }
        }
    }

    /// Replaces what is to be fetched ahead, and sees to it that somebody does.
    fn announce(self: &Arc<Self>, i: usize, next: &[usize]) {
        if self.client.config().offline {
            return;
        }
        let mut state = self.lock();
        state.announced = next
            .iter()
            .copied()
            .filter(|&j| j != i && j < self.files.len())
            .collect();
        if !state.announced.is_empty() && !state.running {
            let fetcher = Arc::clone(self);
            // Not joined: it ends by itself when it sees the flag, and a process need not wait
            // for it to exit. Without a thread every shard is fetched when it is asked for.
            state.running = std::thread::Builder::new()
                .name("hub-prefetch".into())
                .spawn(move || fetcher.fetch_ahead())
                .is_ok();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Fetches what is announced until stopped.
    fn fetch_ahead(&self) {
        let mut state = self.lock();
        while !self.client.stop().is_set() {
            let Some(&i) = state.announced.front() else {
                state = self.wait(state);
                continue;
            };
            if state.budget.is_in_flight(i) || self.cache.has(&self.commit, &self.files[i]) {
                state.announced.pop_front();
                continue;
            }
            let next: Vec<usize> = state.announced.iter().copied().collect();
            if self.make_room(&mut state, i, false, &next).is_err() {
                state = self.wait(state);
                continue;
            }
            state.announced.pop_front();
            state.budget.begin(i);
            drop(state);
            let fetched = self.fetch(i);
            state = self.lock();
            if fetched.is_err() {
                // Whoever opens it learns why; until then the others are let be too.
                state.announced.clear();
            }
        }
    }

    /// Evicts until shard `i` fits. If it is urgent, those of `next` go too when all others have
    /// gone: better to fetch twice than to stand still.
    ///
    /// # Errors
    ///
    /// The bytes taken, if nothing more may go.
    fn make_room(
        &self,
        state: &mut FetchState,
        i: usize,
        urgent: bool,
        next: &[usize],
    ) -> Result<(), u64> {
        let mut spared = next.to_vec();
        // Another process reads them, or they cannot be removed.
        let mut refused = Vec::new();
        loop {
            match state.budget.room(i, urgent, &[&*spared, &refused].concat()) {
                Room::Enough => return Ok(()),
                Room::Evict(j) if self.cache.evict(&self.commit, &self.files[j]) => {
                    state.budget.evicted(j);
                }
                Room::Evict(j) => refused.push(j),
                Room::Full(_) if urgent && !spared.is_empty() => spared.clear(),
                Room::Full(taken) => return Err(taken),
            }
        }
    }

    /// Fetches shard `i`, for which room was made.
    fn fetch(&self, i: usize) -> Result<()> {
        /// Says that the fetching has ended, however it ends.
        struct InFlight<'a> {
            fetcher: &'a Fetcher,
            shard: usize,
            fetched: bool,
        }
        impl Drop for InFlight<'_> {
            fn drop(&mut self) {
                self.fetcher.lock().budget.end(self.shard, self.fetched);
                self.fetcher.changed.notify_all();
            }
        }
        let mut in_flight = InFlight {
            fetcher: self,
            shard: i,
            fetched: false,
        };
        in_flight.fetched = download(
            &self.client,
            &self.cache,
            &self.commit,
            &self.files[i],
            &self.name(i),
        )?;
        Ok(())
    }

    fn not_cached(&self, i: usize) -> Error {
        let missing = self
            .files
            .iter()
            .filter(|f| !self.cache.has(&self.commit, f))
            .count();
        Error::NotCached {
            name: self.name(i),
            remedy: format!(
                "{missing} of {} shards are missing: run once without HF_HUB_OFFLINE, or copy the \
                 cache from where they are",
                self.files.len()
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, FetchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, FetchState>) -> MutexGuard<'a, FetchState> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_small(what: &str, need: u64) -> Error {
    Error::config(
        "disk_budget",
        format!("{what}; give at least {need}, or leave it out to keep every shard"),
    )
}
