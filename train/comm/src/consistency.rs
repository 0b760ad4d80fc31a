//! Whether all ranks are about to do the same: one recipe, program, data and weights.

use std::fs::File;
use std::io::Read;

use crate::error::{Error, Result};
use crate::process_group::ProcessGroup;

/// Names and hashes of what must be equal on all ranks.
#[derive(Default)]
pub struct ConsistencyCheck(Vec<(&'static str, u64)>);

impl ConsistencyCheck {
    /// Begins with a hash of this program's file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_program() -> Result<Self> {
        let path = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut file = File::open(&path).map_err(Error::io(&path))?;
        let (mut part, mut sum, mut length) = (vec![0; 1 << 20], 0, 0u64);
        loop {
            let n = file.read(&mut part).map_err(Error::io(&path))?;
            if n == 0 {
                break;
            }
            sum = crc32c::crc32c_append(sum, &part[..n]);
            length += n as u64;
        }
        Ok(Self(vec![("program", u64::from(sum) ^ length << 32)]))
    }

    /// Adds a hash of `text`; errors call it `what`.
    pub fn text(mut self, what: &'static str, text: &str) -> Self {
        let hash = u64::from(crc32c::crc32c(text.as_bytes())) ^ (text.len() as u64) << 32;
        self.0.push((what, hash));
        self
    }

    /// Adds `number`; errors call it `what`.
    pub fn number(mut self, what: &'static str, number: u64) -> Self {
        self.0.push((what, number));
        self
    }

    /// Compares all ranks of `group` with rank 0.
    ///
    /// # Errors
    /// [`Error::Ranks`] names the ranks that differ from rank 0, and in what.
    pub fn run(&self, group: &ProcessGroup) -> Result<()> {
        let mine = self
            .0
            .iter()
            .flat_map(|(_, hash)| hash.to_le_bytes())
            .collect();
        let all = group.all_gather(mine);
        let differing = |theirs: &Vec<u8>| {
            let names = self.0.iter().enumerate();
            let differ =
                names.filter(|(i, _)| theirs.get(8 * i..8 * i + 8) != all[0].get(8 * i..8 * i + 8));
            differ
                .map(|(_, (what, _))| *what)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let each = all
            .iter()
            .enumerate()
            .map(|(rank, theirs)| (rank, differing(theirs)));
        let wrong: Vec<String> = each
            .filter(|(_, what)| !what.is_empty())
            .map(|(rank, what)| format!("rank {rank} differs from rank 0 in: {what}"))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::Ranks(format!(
            "{}: start every rank with the same recipe, program and data",
            wrong.join("; ")
        )))
    }
}
