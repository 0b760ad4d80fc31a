//! Which documents repeat an earlier one of their source, exactly: found by one pass in the source's
//! own order, so that neither seed, epoch nor resumption changes which of them is kept.
//!
//! Texts are compared by their XXH3-128 hashes (16 bytes a document while the pass runs). What is
//! kept is the locations of the repeats, as JSON beside the run, under the hash of what they were found
//! in.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::config::OnDamage;
use crate::epoch_order::{Location, Position, ShardWalker};
use crate::error::{Error, Result};
use crate::progress::DocumentProgress;
use crate::source::Shards;
use crate::stats::Stats;

/// The locations of documents that repeat an earlier one, sorted.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Duplicates {
    /// Identity of the shards they were found in.
    shards: String,
    #[serde(rename = "places")]
    locations: Vec<Location>,
}

impl Duplicates {
    pub(crate) fn contains(&self, location: Location) -> bool {
        self.locations.binary_search(&location).is_ok()
    }

    /// What an earlier pass left in `directory`, or a new pass, which leaves it there.
    pub(crate) fn of(
        shards: &Arc<Shards>,
        on_damage: OnDamage,
        directory: Option<&Path>,
        progress: &dyn Fn(DocumentProgress),
    ) -> Result<Self> {
        let identity = shards.identity();
        let file = directory.map(|directory| {
            directory.join(format!(
                "duplicates-{:016x}.json",
                xxh3_64(identity.as_bytes())
            ))
        });
        if let Some(file) = &file
            && let Ok(bytes) = std::fs::read(file)
            && let Ok(found) = serde_json::from_slice::<Self>(&bytes)
            && found.shards == identity
            && found.locations.is_sorted()
        {
            return Ok(found);
        }
        let found = Self::find(shards, identity, on_damage, progress)?;
        if let (Some(directory), Some(file)) = (directory, &file) {
            std::fs::create_dir_all(directory).map_err(Error::io(directory))?;
            let json = serde_json::to_vec(&found).expect("locations serialize");
            retort_files::write(file, &json).map_err(Error::io(file))?;
        }
        Ok(found)
    }

    fn find(
        shards: &Arc<Shards>,
        identity: String,
        on_damage: OnDamage,
        progress: &dyn Fn(DocumentProgress),
    ) -> Result<Self> {
        let mut walker = ShardWalker::new(shards.clone(), None, on_damage, Position::default());
        let mut stats = Stats::default();
        let (mut seen, mut locations) = (HashSet::new(), Vec::new());
        let mut documents = 0u64;
        while let Some((location, text)) = walker.next(&mut stats)? {
            if !seen.insert(xxh3_128(text.as_bytes())) {
                locations.push(location);
            }
            documents += 1;
            if documents.is_multiple_of(1024) {
                progress(DocumentProgress {
                    what: "duplicates",
                    fraction: walker.fraction(),
                    documents,
                });
            }
        }
        Ok(Self {
            shards: identity,
            locations,
        })
    }
}
