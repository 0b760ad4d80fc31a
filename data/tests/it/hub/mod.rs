//! Datasets on the hub, through the real client, against a hub on the loopback interface that
//! breaks on purpose.

mod budget;
mod cache;
mod faults;
mod process;
mod refusals;
mod revisions;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use retort_data::{HubConfig, Shards, SourceOptions};
use server::Hub;

/// Where the hub's parquet conversion lies.
const CONVERSION: &str = "refs/convert/parquet";
const SOURCE: &str = "hf://owner/name/en";
const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const LATER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const TOKEN: &str = "hf_secretsecretsecret";

/// Bytes that look random and differ by `seed`.
fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A hub with `count` shards of `size` bytes in its conversion.
fn hub(count: u64, size: usize) -> Hub {
    let hub = Hub::start();
    push(&hub, COMMIT, 0, count, size);
    hub
}

fn push(hub: &Hub, commit: &str, seed: u64, count: u64, size: usize) {
    let shards: Vec<(String, Vec<u8>)> = (0..count)
        .map(|i| (format!("en/train/{i:04}.parquet"), bytes(seed + i, size)))
        .collect();
    let files: Vec<(&str, Vec<u8>)> = shards.iter().map(|(p, b)| (&**p, b.clone())).collect();
    hub.push(CONVERSION, commit, &files);
}

/// The hub with its files under `dir`, impatient enough for tests.
fn config(hub: &Hub, dir: &Path) -> HubConfig {
    let mut config = HubConfig::new(dir);
    config.endpoint = hub.endpoint();
    config.token = Some(TOKEN.into());
    config.retries = 3;
    config.retry_base = Duration::from_millis(2);
    config.idle_timeout = Duration::from_secs(2);
    config
}

fn resolve(hub: &Hub, dir: &Path) -> Shards {
    Shards::resolve_with(SOURCE, &SourceOptions::default(), &config(hub, dir)).unwrap()
}

/// The message of what must fail.
fn message<T>(result: retort_data::Result<T>) -> String {
    let message = result.err().expect("an error").to_string();
    assert!(
        !message.contains(TOKEN) && !message.contains('\n'),
        "{message}"
    );
    message
}

/// The requests for shard `i` of [`COMMIT`] that reached the host of the files.
fn downloads(hub: &Hub, i: usize) -> Vec<server::Request> {
    hub.requests(&cdn(i))
}

fn cdn(i: usize) -> String {
    format!("/cdn/{COMMIT}/en/train/{i:04}.parquet")
}

/// The dataset's folder in the cache.
fn folder(dir: &Path) -> PathBuf {
    dir.join("datasets--owner--name")
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits until `done`, as what is done in the background is not done at once.
fn wait_for(what: &str, done: impl Fn() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within five seconds: {what}");
}
