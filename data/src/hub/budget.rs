//! Which shards this run has brought into the cache, which of them are in use, and which to
//! evict so that another fits: the bookkeeping of the fetcher, without files or threads.
//!
//! Only what this run fetched counts towards the budget, and only that is ever evicted: what
//! was in the cache before belongs to others as well.

use std::collections::HashMap;

/// A shard this run fetched.
struct Fetched {
    /// When it was last opened or, if it never was, fetched.
    used_at: u64,
    /// Whether it was opened since it was fetched.
    read: bool,
}

/// Sizes in bytes, shards by their position.
pub(crate) struct Budget {
    sizes: Vec<u64>,
    limit: u64,
    fetched: HashMap<usize, Fetched>,
    in_flight: Vec<usize>,
    held: HashMap<usize, usize>,
    clock: u64,
}

/// Whether a shard can be fetched now.
#[derive(Debug, PartialEq)]
pub(crate) enum Room {
    /// It fits.
    Enough,
    /// It fits once this shard is evicted, and perhaps others after it.
    Evict(usize),
    /// Nothing more may be evicted; so many bytes are taken by shards held or on their way.
    Full(u64),
}

impl Budget {
    /// An empty one; without a limit everything fits.
    pub fn new(sizes: Vec<u64>, limit: Option<u64>) -> Self {
        Self {
            sizes,
            limit: limit.unwrap_or(u64::MAX),
            fetched: HashMap::new(),
            in_flight: Vec::new(),
            held: HashMap::new(),
            clock: 0,
        }
    }

    /// Whether shard `i` can be fetched. `urgent` if it is to be read next: then shards that were
    /// fetched ahead give way too, after those that were read.
    pub fn room(&self, i: usize, urgent: bool, spared: &[usize]) -> Room {
        let taken = self
            .fetched
            .keys()
            .chain(&self.in_flight)
            .fold(0_u64, |sum, &j| sum.saturating_add(self.sizes[j]));
        if taken.saturating_add(self.sizes[i]) <= self.limit {
            return Room::Enough;
        }
        self.fetched
            .iter()
            .filter(|&(j, f)| !self.is_held(*j) && !spared.contains(j) && (f.read || urgent))
            .min_by_key(|(_, f)| (!f.read, f.used_at))
            .map_or(Room::Full(taken), |(&j, _)| Room::Evict(j))
    }

    /// Shard `i` is being fetched from now on.
    pub fn begin(&mut self, i: usize) {
        self.in_flight.push(i);
    }

    /// The fetching of shard `i` has ended; `fetched` if this run's work put it into the cache.
    pub fn end(&mut self, i: usize, fetched: bool) {
        self.in_flight.retain(|&j| j != i);
        if fetched {
            self.clock += 1;
            let used_at = self.clock;
            self.fetched.insert(
                i,
                Fetched {
                    used_at,
                    read: false,
                },
            );
        }
    }

    /// Shard `i` is read.
    pub fn hold(&mut self, i: usize) {
        *self.held.entry(i).or_default() += 1;
        self.clock += 1;
        if let Some(fetched) = self.fetched.get_mut(&i) {
            fetched.used_at = self.clock;
            fetched.read = true;
        }
    }

    /// One reader of shard `i` is done.
    pub fn release(&mut self, i: usize) {
        if let Some(readers) = self.held.get_mut(&i) {
            *readers -= 1;
            if *readers == 0 {
                self.held.remove(&i);
            }
        }
    }

    /// Shard `i` is no longer in the cache.
    pub fn evicted(&mut self, i: usize) {
        self.fetched.remove(&i);
    }

    /// Whether shard `i` is being fetched.
    pub fn is_in_flight(&self, i: usize) -> bool {
        self.in_flight.contains(&i)
    }

    /// Whether any shard is being fetched.
    pub fn any_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    fn is_held(&self, i: usize) -> bool {
        self.held.contains_key(&i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(budget: &mut Budget, i: usize) {
        budget.begin(i);
        budget.end(i, true);
    }

    #[test]
    fn the_least_recently_read_gives_way_and_nothing_held() {
        let mut budget = Budget::new(vec![10; 5], Some(30));
        for i in [0, 1, 2] {
            fetch(&mut budget, i);
        }
        // Nothing was read yet: what was fetched ahead stays unless the need is urgent.
        assert_eq!(budget.room(3, false, &[]), Room::Full(30));
        assert_eq!(budget.room(3, true, &[]), Room::Evict(0));
        budget.hold(1);
        assert_eq!(budget.room(3, false, &[]), Room::Full(30));
        budget.hold(1);
        budget.release(1);
        assert_eq!(budget.room(3, false, &[]), Room::Full(30));
        budget.release(1);
        assert_eq!(budget.room(3, false, &[]), Room::Evict(1));
        assert_eq!(budget.room(3, false, &[1]), Room::Full(30));
        budget.hold(0);
        budget.release(0);
        assert_eq!(budget.room(3, false, &[]), Room::Evict(1));
        budget.evicted(1);
        assert_eq!(budget.room(3, false, &[]), Room::Enough);
    }

    #[test]
    fn what_is_on_its_way_counts_and_what_was_there_does_not() {
        let mut budget = Budget::new(vec![10; 3], Some(15));
        budget.begin(0);
        assert_eq!(budget.room(1, true, &[]), Room::Full(10));
        budget.end(0, false);
        assert_eq!(budget.room(1, true, &[]), Room::Enough);
    }
}
