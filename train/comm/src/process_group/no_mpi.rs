//! Stands in for the MPI transport in a build without the feature `mpi`.

use super::transport::Transport;
use crate::error::{Error, Result};

/// Cannot be made.
pub enum Mpi {}

impl Mpi {
    /// # Errors
    /// Always.
    pub fn init() -> Result<Self> {
        Err(Error::Ranks(
            "mpirun started several processes, and this build has no MPI: build retort with --features mpi".into(),
        ))
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        match *self {}
    }

    fn size(&self) -> usize {
        match *self {}
    }

    fn send_receive(&mut self, _to: usize, _out: &[u8], _from: usize, _into: &mut [u8]) {
        match *self {}
    }

    fn all_gather(&mut self, _mine: &[u8]) -> Vec<u8> {
        match *self {}
    }

    fn broadcast(&mut self, _bytes: &mut [u8]) {
        match *self {}
    }

    fn abort(&mut self) {
        match *self {}
    }
}
