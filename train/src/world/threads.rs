//! Ranks that are threads of one process, for tests of what ranks do together.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::World;
use super::link::Link;

struct Threads {
    rank: usize,
    /// To each rank and from each.
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl Link for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange(&mut self, to: usize, out: &[u8], from: usize, into: &mut [u8]) {
        if !out.is_empty() {
            self.to[to].send(out.to_vec()).unwrap();
        }
        if !into.is_empty() {
            into.copy_from_slice(&self.from[from].recv().unwrap());
        }
    }

    fn gather(&mut self, mine: &[u8]) -> Vec<u8> {
        self.to
            .iter()
            .for_each(|to| to.send(mine.to_vec()).unwrap());
        self.from
            .iter()
            .flat_map(|from| from.recv().unwrap())
            .collect()
    }

    fn broadcast(&mut self, bytes: &mut [u8]) {
        if self.rank == 0 {
            self.to
                .iter()
                .for_each(|to| to.send(bytes.to_vec()).unwrap());
        }
        bytes.copy_from_slice(&self.from[0].recv().unwrap());
    }

    fn abort(&mut self) {}
}

/// What each of `size` ranks answers.
pub(crate) fn ranks<T: Send>(size: usize, each: impl Fn(Arc<World>) -> T + Sync) -> Vec<T> {
    let mut links: Vec<Threads> = (0..size)
        .map(|rank| Threads {
            rank,
            to: Vec::new(),
            from: Vec::new(),
        })
        .collect();
    for from in 0..size {
        for to in 0..size {
            let (send, receive) = channel();
            links[from].to.push(send);
            links[to].from.push(receive);
        }
    }
    let each = &each;
    std::thread::scope(|scope| {
        let threads: Vec<_> = links
            .into_iter()
            .map(|link| scope.spawn(move || each(World::over(move || Ok(link)).unwrap())))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}
