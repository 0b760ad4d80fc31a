//! In place of MPI in a build without it: no way to the other ranks.

use super::link::Link;
use crate::error::{Error, Result};

/// There is none.
pub enum Mpi {}

impl Mpi {
    /// # Errors
    /// Always.
    pub fn join() -> Result<Self> {
        Err(Error::World(
            "mpirun started several processes, and this build has no MPI: build retort with --features mpi".into(),
        ))
    }
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        match *self {}
    }

    fn size(&self) -> usize {
        match *self {}
    }

    fn exchange(&mut self, _to: usize, _out: &[u8], _from: usize, _into: &mut [u8]) {
        match *self {}
    }

    fn gather(&mut self, _mine: &[u8]) -> Vec<u8> {
        match *self {}
    }

    fn broadcast(&mut self, _bytes: &mut [u8]) {
        match *self {}
    }

    fn abort(&mut self) {
        match *self {}
    }
}
