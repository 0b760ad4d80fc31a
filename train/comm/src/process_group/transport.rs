//! What a transport between ranks must do, the transport of a single process, and one that counts bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Moves bytes between ranks. It adds nothing up: sums are made in `collectives.rs`.
pub trait Transport {
    /// This process's rank, from 0.
    fn rank(&self) -> usize;
    /// Number of ranks.
    fn size(&self) -> usize;
    /// Sends `out` to rank `to` while receiving `into` from rank `from` (`MPI_Sendrecv`). An empty message is not
    /// sent. Each message meets a receive of the same size at its other end.
    fn send_receive(&mut self, to: usize, out: &[u8], from: usize, into: &mut [u8]);
    /// Every rank's bytes, concatenated in the ranks' order; all bring equally many.
    fn all_gather(&mut self, mine: &[u8]) -> Vec<u8>;
    /// Copies rank 0's `bytes` into those of all ranks.
    fn broadcast(&mut self, bytes: &mut [u8]);
    /// Ends all processes.
    fn abort(&mut self);
}

/// The transport of a process that is the only rank.
pub struct SingleProcess;

impl Transport for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn send_receive(&mut self, _to: usize, _out: &[u8], _from: usize, _into: &mut [u8]) {}

    fn all_gather(&mut self, mine: &[u8]) -> Vec<u8> {
        mine.to_vec()
    }

    fn broadcast(&mut self, _bytes: &mut [u8]) {}

    fn abort(&mut self) {}
}

/// Counts the bytes that another transport sends: the payload, once for each receiver.
pub struct Counted<T> {
    pub inner: T,
    pub sent: Arc<AtomicU64>,
}

impl<T: Transport> Counted<T> {
    fn count(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<T: Transport> Transport for Counted<T> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn send_receive(&mut self, to: usize, out: &[u8], from: usize, into: &mut [u8]) {
        self.count(out.len());
        self.inner.send_receive(to, out, from, into);
    }

    fn all_gather(&mut self, mine: &[u8]) -> Vec<u8> {
        self.count(mine.len() * (self.size() - 1));
        self.inner.all_gather(mine)
    }

    fn broadcast(&mut self, bytes: &mut [u8]) {
        if self.rank() == 0 {
            self.count(bytes.len() * (self.size() - 1));
        }
        self.inner.broadcast(bytes);
    }

    fn abort(&mut self) {
        self.inner.abort();
    }
}
