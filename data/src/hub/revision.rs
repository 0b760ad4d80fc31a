//! The listing of a revision: from the hub, from what an earlier run kept of its answer, or from the
//! snapshot that another program downloaded.

use std::io::Read;
use std::path::Path;

use super::address::{Address, is_commit};
use super::cache::{RepoCache, create_folder};
use super::client::Client;
use super::digest::Digest;
use super::listing::{Listing, Sibling};
use crate::error::{Error, Result};

/// Finds the commit and the files of the revision that `address` names.
pub(crate) fn resolve(client: &Client, cache: &RepoCache, address: &Address) -> Result<Listing> {
    let revision = address.revision();
    if is_commit(revision)
        && let Some(listing) = kept(cache, revision)
    {
        // What a commit holds never changes: nobody needs to be asked again.
        return Ok(listing);
    }
    if client.config().offline {
        return offline(cache, address);
    }
    let listing = client.listing()?;
    let name = || format!("hf://{}@{revision}", address.repo_id);
    if !listing.is_sound() || (is_commit(revision) && listing.sha != revision) {
        return Err(Error::hub(
            name(),
            "the hub's listing is not of the commit asked for; if HF_ENDPOINT is set to a \
             mirror, unset it",
        ));
    }
    keep(client, cache, address, &listing)?;
    Ok(listing)
}

/// Keeps the listing and the commit of the revision for a run without the hub.
fn keep(client: &Client, cache: &RepoCache, address: &Address, listing: &Listing) -> Result<()> {
    // One writer at a time: each writes beside the file under its process's name.
    let _lock = cache.lock("listing", client.stop())?;
    let path = cache.listing(&listing.sha);
    if kept(cache, &listing.sha).is_none() {
        let text = serde_json::to_vec(listing).expect("a listing serializes");
        create_folder(path.parent().unwrap_or(&path))?;
        retort_files::write(&path, &text).map_err(Error::io(&path))?;
    }
    // A reference to a snapshot that is not there counts as damage to `huggingface_hub`.
    create_folder(&cache.snapshot(&listing.sha))?;
    if !is_commit(address.revision()) {
        let path = cache.reference(address.revision());
        create_folder(path.parent().unwrap_or(&path))?;
        retort_files::write(&path, listing.sha.as_bytes()).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// The listing an earlier run kept, if it is whole.
fn kept(cache: &RepoCache, commit: &str) -> Option<Listing> {
    let text = std::fs::read(cache.listing(commit)).ok()?;
    let listing = Listing::parse(text.as_slice()).ok()?;
    (listing.sha == commit).then_some(listing)
}

fn offline(cache: &RepoCache, address: &Address) -> Result<Listing> {
    let revision = address.revision();
    let commit = if is_commit(revision) {
        Some(revision.to_owned())
    } else {
        // Read as far as a commit goes and no farther: the file may be anything.
        let mut text = String::new();
        std::fs::File::open(cache.reference(revision))
            .and_then(|file| file.take(64).read_to_string(&mut text))
            .ok()
            .map(|_| text.trim().to_owned())
            .filter(|commit| is_commit(commit))
    };
    let found = commit.and_then(|commit| {
        kept(cache, &commit).or_else(|| snapshot(&cache.snapshot(&commit), &commit))
    });
    found.ok_or_else(|| Error::NotCached {
        name: format!("hf://{}@{revision}", address.repo_id),
        remedy: format!(
            "run once without HF_HUB_OFFLINE, or where there is a network `hf download --repo-type \
             dataset {} --revision {revision}` and copy the cache",
            address.repo_id
        ),
    })
}

/// Tells from a snapshot that another program downloaded which files it has; `None` if none.
/// What that program left out cannot be known to be missing.
fn snapshot(root: &Path, commit: &str) -> Option<Listing> {
    let mut siblings = Vec::new();
    walk(root, "", 0, &mut siblings);
    (!siblings.is_empty()).then(|| Listing {
        sha: commit.to_owned(),
        siblings,
    })
}

fn walk(folder: &Path, prefix: &str, depth: usize, siblings: &mut Vec<Sibling>) {
    // No layout that is known goes deeper than two folders.
    let Some(entries) = (depth < 3).then(|| folder.read_dir().ok()).flatten() else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        let name = format!("{prefix}{name}");
        let Ok(metadata) = path.metadata() else {
            continue;
        };
        if metadata.is_dir() {
            walk(&path, &format!("{name}/"), depth + 1, siblings);
        } else if let Some(blob) = path.read_link().ok()
            && let Some(blob) = blob.file_name().and_then(|n| n.to_str())
            && Digest::from_hex(blob).is_some()
        {
            siblings.push(Sibling {
                rfilename: name,
                size: Some(metadata.len()),
                blob_id: Some(blob.to_owned()),
                lfs: None,
            });
        }
    }
}
