//! The way to the other ranks: what a transport must be able to do, how its bytes are counted, and the way to nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A transport. Only bytes are moved; nothing is added up.
pub trait Link {
    /// Which rank this is.
    fn rank(&self) -> usize;
    /// Of how many.
    fn size(&self) -> usize;
    /// Sends `out` to rank `to` while rank `from` fills `into`; nothing is sent of nothing. Every message has an
    /// exchange of the same size at its other end.
    fn exchange(&mut self, to: usize, out: &[u8], from: usize, into: &mut [u8]);
    /// What all ranks have, one after the other; all have as much.
    fn gather(&mut self, mine: &[u8]) -> Vec<u8>;
    /// Puts what rank 0 has in `bytes` there on all ranks.
    fn broadcast(&mut self, bytes: &mut [u8]);
    /// Ends all processes.
    fn abort(&mut self);
}

/// Nobody is there.
pub struct Alone;

impl Link for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&mut self, _to: usize, _out: &[u8], _from: usize, _into: &mut [u8]) {}

    fn gather(&mut self, mine: &[u8]) -> Vec<u8> {
        mine.to_vec()
    }

    fn broadcast(&mut self, _bytes: &mut [u8]) {}

    fn abort(&mut self) {}
}

/// Another transport whose sent bytes are counted: the payload, once for each rank that gets it.
pub struct Counted<L> {
    pub link: L,
    pub sent: Arc<AtomicU64>,
}

impl<L: Link> Counted<L> {
    fn count(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<L: Link> Link for Counted<L> {
    fn rank(&self) -> usize {
        self.link.rank()
    }

    fn size(&self) -> usize {
        self.link.size()
    }

    fn exchange(&mut self, to: usize, out: &[u8], from: usize, into: &mut [u8]) {
        self.count(out.len());
        self.link.exchange(to, out, from, into);
    }

    fn gather(&mut self, mine: &[u8]) -> Vec<u8> {
        self.count(mine.len() * (self.size() - 1));
        self.link.gather(mine)
    }

    fn broadcast(&mut self, bytes: &mut [u8]) {
        if self.rank() == 0 {
            self.count(bytes.len() * (self.size() - 1));
        }
        self.link.broadcast(bytes);
    }

    fn abort(&mut self) {
        self.link.abort();
    }
}
