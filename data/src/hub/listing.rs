//! The files of a dataset at one commit, as the hub lists them.
//!
//! The format is that of the hub's own answer to
//! `/api/datasets/OWNER/NAME/revision/REVISION?blobs=true`.

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::address::is_commit;
use super::digest::Digest;
use crate::error::{Error, Result};

/// A dataset's files at one commit.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Listing {
    pub(super) sha: String,
    #[serde(default)]
    pub(super) siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Sibling {
    pub(super) rfilename: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(default, rename = "blobId", skip_serializing_if = "Option::is_none")]
    pub(super) blob_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Lfs {
    sha256: String,
    size: u64,
}

/// One file, and all that is needed to ask for it and to know it when it comes.
#[derive(Clone, Debug)]
pub(crate) struct HubFile {
    /// Its path in the dataset; [`layout`](super::layout) lets no path through that leaves it.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Of its content.
    pub digest: Digest,
}

impl Listing {
    /// Reads the hub's answer.
    pub fn parse(text: impl Read) -> serde_json::Result<Self> {
        serde_json::from_reader(text)
    }

    /// The commit, 40 hexadecimal digits.
    pub fn commit(&self) -> &str {
        &self.sha
    }

    /// The paths of the files.
    pub fn paths(&self) -> Vec<&str> {
        self.siblings.iter().map(|s| s.rfilename.as_str()).collect()
    }

    /// What is known of file `i`, which lies in `at`.
    pub fn file(&self, i: usize, at: &str) -> Result<HubFile> {
        let sibling = &self.siblings[i];
        let (size, digest) = match &sibling.lfs {
            Some(lfs) => (Some(lfs.size), Some(&lfs.sha256)),
            None => (sibling.size, sibling.blob_id.as_ref()),
        };
        match (size, digest.and_then(|d| Digest::from_hex(d))) {
            (Some(size), Some(digest)) => Ok(HubFile {
                path: sibling.rfilename.clone(),
                size,
                digest,
            }),
            _ => Err(Error::hub(
                format!("{at}/{}", sibling.rfilename),
                "the hub's listing gives no size or no SHA-256 for it; if HF_ENDPOINT is \
                 set to a mirror, unset it",
            )),
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        is_commit(&self.sha)
    }
}
