//! Datasets on the Hugging Face hub: `hf://OWNER/NAME[/CONFIG[/SPLIT]][@REVISION]`.
//!
//! ```text
//! address ─► listing ─► layout ─► fetcher ─► cache
//! hf://…     names,     files of   at most N    datasets--OWNER--NAME/
//!            sizes,     one split  ahead, in    {blobs,refs,snapshots}
//!            SHA-256               a budget
//! ```
//!
//! The revision is resolved to a commit once; every file is then asked for at that commit, so a
//! branch that moves meanwhile changes nothing. The listing gives each file's size and SHA-256
//! before the file is asked for, so no answer about the file itself has to be believed.
//!
//! `hf-hub` gives the client (server, token, TLS, redirects), the URLs and the layout of the
//! cache. Its `download` is not used: it cannot be stopped, hides `Retry-After`, appends to a
//! part when the server ignores `Range`, never gets past a part that is complete or too long, and
//! names files by what the answer's headers say.

mod address;
mod budget;
mod cache;
mod client;
mod config;
pub(crate) mod digest;
mod download;
mod fetcher;
mod layout;
mod listing;
mod retry;
mod revision;
mod stop;

pub use config::HubConfig;
pub(crate) use fetcher::{Fetcher, HubLease};

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::source_options::SourceOptions;
use address::Address;
use cache::RepoCache;
use client::Client;
use listing::HubFile;
use stop::Stop;

/// One split of one configuration of a dataset at one commit.
pub(crate) struct HubShards {
    /// Brings the files.
    pub fetcher: Arc<Fetcher>,
    /// The source with its commit.
    pub pinned: String,
}

impl HubShards {
    /// Resolves `source` to a commit and its files; downloads no shard.
    ///
    /// # Errors
    ///
    /// [`Error::Source`] for an address that is malformed or names no split there is,
    /// [`Error::Hub`] if the hub does not answer or refuses, [`Error::NotCached`] if it may not
    /// be asked and was not before, [`Error::Config`] for a budget below the largest shard.
    pub fn resolve(source: &str, options: &SourceOptions, config: &HubConfig) -> Result<Self> {
        let address = Address::parse(source)?;
        let stop = Arc::new(Stop::default());
        let cache = RepoCache::new(&config.cache_dir, &address);
        let client = Client::new(config, &address, Arc::clone(&stop))?;
        let listing = revision::resolve(&client, &cache, &address)?;
        let split = address.split.as_deref().unwrap_or(&options.split);
        let commit = listing.commit().to_owned();
        let choice = layout::choose(&listing.paths(), address.config.as_deref(), split)
            .map_err(|reason| Error::source(source, format!("at commit {commit}, {reason}")))?;
        let at = format!("hf://{}@{commit}", address.repo_id);
        let files = choice
            .files
            .iter()
            .map(|&i| listing.file(i, &at))
            .collect::<Result<Vec<HubFile>>>()?;
        let pinned = format!(
            "hf://{}/{}/{split}@{commit}",
            address.repo_id, choice.config
        );
        Ok(Self {
            fetcher: Arc::new(Fetcher::new(client, cache, at, commit, files, options)?),
            pinned,
        })
    }
}
