//! Ranks that are threads of one process, for tests and examples.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::ProcessGroup;
use super::transport::Transport;

struct Threads {
    rank: usize,
    /// To each rank and from each.
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl Transport for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn send_receive(&mut self, to: usize, out: &[u8], from: usize, into: &mut [u8]) {
        if !out.is_empty() {
            self.to[to].send(out.to_vec()).unwrap();
        }
        if !into.is_empty() {
            into.copy_from_slice(&self.from[from].recv().unwrap());
        }
    }

    fn all_gather(&mut self, mine: &[u8]) -> Vec<u8> {
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

/// Runs `each` on `size` ranks, and returns what each rank returned.
///
/// # Panics
/// If a rank does.
pub fn run<T: Send>(size: usize, each: impl Fn(Arc<ProcessGroup>) -> T + Sync) -> Vec<T> {
    let mut transports: Vec<Threads> = (0..size)
        .map(|rank| Threads {
            rank,
            to: Vec::new(),
            from: Vec::new(),
        })
        .collect();
    for from in 0..size {
        for to in 0..size {
            let (send, receive) = channel();
            transports[from].to.push(send);
            transports[to].from.push(receive);
        }
    }
    let each = &each;
    std::thread::scope(|scope| {
        let threads: Vec<_> = transports
            .into_iter()
            .map(|transport| {
                scope.spawn(move || each(ProcessGroup::over(move || Ok(transport), false).unwrap()))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}
