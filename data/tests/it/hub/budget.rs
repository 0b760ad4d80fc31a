//! The disk budget: what is evicted, and what never is.

use retort_data::{Error, ShardLease, Shards, SourceOptions};

use super::*;

fn within(hub: &Hub, dir: &Path, budget: u64, prefetch: usize) -> retort_data::Result<Shards> {
    let options = SourceOptions {
        disk_budget_bytes: Some(budget),
        prefetch,
        ..SourceOptions::default()
    };
    Shards::resolve_with(SOURCE, &options, &config(hub, dir))
}

/// Bytes of all blobs, whole or in parts.
fn on_disk(dir: &Path) -> u64 {
    let blobs = folder(dir).join("blobs");
    let size = |name: &String| blobs.join(name).metadata().map_or(0, |m| m.len());
    names(&blobs).iter().map(size).sum()
}

fn content(held: &ShardLease) -> Vec<u8> {
    std::fs::read(&**held).unwrap()
}

#[test]
fn shards_that_were_read_make_way_for_the_next() {
    let (hub, dir) = (hub(6, 1000), tempfile::tempdir().unwrap());
    let shards = within(&hub, dir.path(), 2000, 2).unwrap();
    for epoch in 0..2 {
        for i in 0..6_usize {
            let next: Vec<usize> = (i + 1..6).collect();
            let held = shards.open(i, &next).unwrap();
            assert_eq!(content(&held), bytes(i as u64, 1000), "epoch {epoch}");
            assert!(on_disk(dir.path()) <= 2000);
        }
    }
    let snapshot = folder(dir.path()).join("snapshots").join(COMMIT);
    // No dangling links either.
    assert!(names(&snapshot.join("en/train")).len() <= 2);
}

#[test]
fn what_is_held_stays() {
    let (hub, dir) = (hub(4, 1000), tempfile::tempdir().unwrap());
    let shards = within(&hub, dir.path(), 2000, 2).unwrap();
    let held = shards.open(0, &[1, 2, 3]).unwrap();
    wait_for("shard 1", || !downloads(&hub, 1).is_empty());
    // Shard 2 was announced as well, and does not fit beside the two.
    std::thread::sleep(Duration::from_millis(100));
    assert!(downloads(&hub, 2).is_empty());
    for i in [1, 2, 3, 1] {
        assert_eq!(
            content(&shards.open(i, &[]).unwrap()),
            bytes(i as u64, 1000)
        );
        assert_eq!(content(&held), bytes(0, 1000));
        assert!(on_disk(dir.path()) <= 2000);
    }
    let second = shards.open(1, &[]).unwrap();
    let full = message(shards.open(2, &[]));
    assert!(
        full.contains("disk_budget") && full.contains("at least 3000"),
        "{full}"
    );
    drop(second);
    shards.open(2, &[]).unwrap();
}

#[test]
fn what_is_fetched_ahead_waits_until_there_is_room() {
    let (hub, dir) = (hub(2, 1000), tempfile::tempdir().unwrap());
    let shards = within(&hub, dir.path(), 1500, 2).unwrap();
    let held = shards.open(0, &[1]).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(downloads(&hub, 1).is_empty());
    drop(held);
    wait_for("shard 1", || !downloads(&hub, 1).is_empty());
    assert!(on_disk(dir.path()) <= 1500);
}

#[test]
fn what_others_fetched_is_never_evicted() {
    let (hub, dir) = (hub(4, 1000), tempfile::tempdir().unwrap());
    resolve(&hub, dir.path()).open(0, &[]).unwrap();
    let shards = within(&hub, dir.path(), 1000, 0).unwrap();
    for i in [0, 1, 2, 3] {
        shards.open(i, &[]).unwrap();
    }
    // Shard 0 from before and shard 3, the last read.
    assert_eq!(on_disk(dir.path()), 2000);
    shards.open(0, &[]).unwrap();
    assert_eq!(downloads(&hub, 0).len(), 1);
}

#[test]
fn what_another_run_reads_is_not_evicted_under_it() {
    let (hub, dir) = (hub(3, 1000), tempfile::tempdir().unwrap());
    let shards = within(&hub, dir.path(), 1000, 0).unwrap();
    shards.open(0, &[]).unwrap();
    let reader = resolve(&hub, dir.path());
    let held = reader.open(0, &[]).unwrap();
    assert!(message(shards.open(1, &[])).contains("disk_budget"));
    assert_eq!(content(&held), bytes(0, 1000));
    drop(held);
    shards.open(1, &[]).unwrap();
    assert_eq!(downloads(&hub, 0).len(), 1);
}

#[test]
fn a_budget_below_the_largest_shard_is_refused_at_once() {
    let (hub, dir) = (hub(2, 1000), tempfile::tempdir().unwrap());
    let refused = within(&hub, dir.path(), 999, 2).err().unwrap();
    assert!(matches!(
        refused,
        Error::Config {
            field: "disk_budget",
            ..
        }
    ));
    let refused = refused.to_string();
    assert!(
        refused.contains("give at least 1000") && refused.contains(".parquet"),
        "{refused}"
    );
}
