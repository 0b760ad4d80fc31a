//! What is downloaded, where it lies, and that it is not downloaded again.

use std::sync::Barrier;

use retort_data::{Shards, SourceOptions};

use super::server::{Fault, sha256};
use super::*;

#[test]
fn a_shard_lies_where_huggingface_hub_keeps_it() {
    let (hub, dir) = (hub(2, 1000), tempfile::tempdir().unwrap());
    let shards = resolve(&hub, dir.path());
    assert_eq!((shards.len(), shards.bytes()), (2, 2000));
    let name = format!("hf://owner/name@{COMMIT}/en/train/0001.parquet");
    assert_eq!(shards.name(1), name);
    assert_eq!(hub.requests("/datasets").len(), 0);

    let held = shards.open(1, &[]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), bytes(1, 1000));
    let snapshot = folder(dir.path()).join("snapshots").join(COMMIT);
    assert_eq!(*held, snapshot.join("en/train/0001.parquet"));
    let digest = sha256(&bytes(1, 1000));
    let target = std::fs::read_link(&*held).unwrap();
    let relative = format!("../../../../blobs/{digest}");
    assert_eq!(target, Path::new(&relative));
    assert_eq!(names(&folder(dir.path()).join("blobs")), [digest]);
    let reference = folder(dir.path()).join("refs").join(CONVERSION);
    assert_eq!(std::fs::read_to_string(reference).unwrap(), COMMIT);
}

#[test]
fn what_is_cached_is_not_asked_for_again_nor_online_nor_offline() {
    let (hub, dir) = (hub(2, 1000), tempfile::tempdir().unwrap());
    let first = resolve(&hub, dir.path());
    first.open(0, &[]).unwrap();
    first.open(0, &[]).unwrap();
    resolve(&hub, dir.path()).open(0, &[]).unwrap();
    assert_eq!(downloads(&hub, 0).len(), 1);

    let requests = hub.requests("/").len();
    let mut offline = config(&hub, dir.path());
    offline.offline = true;
    let options = SourceOptions::default();
    let shards = Shards::resolve_with(SOURCE, &options, &offline).unwrap();
    assert_eq!(shards.identity(), first.identity());
    assert_eq!(shards.pinned(), first.pinned());
    let held = shards.open(0, &[1]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), bytes(0, 1000));
    let missing = message(shards.open(1, &[]));
    assert!(
        missing.contains("0001.parquet") && missing.contains("1 of 2"),
        "{missing}"
    );
    assert!(missing.contains("HF_HUB_OFFLINE"), "{missing}");
    let other = Shards::resolve_with("hf://owner/name/en@main", &options, &offline);
    assert!(message(other).contains("hf download"));
    assert_eq!(hub.requests("/").len(), requests);
}

#[test]
fn what_python_downloaded_is_used_offline() {
    let dir = tempfile::tempdir().unwrap();
    let content = bytes(7, 500);
    let digest = sha256(&content);
    let root = folder(dir.path());
    let place = root.join("snapshots").join(COMMIT).join("en/train");
    for folder in [&place, &root.join("blobs"), &root.join("refs/refs/convert")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(root.join("blobs").join(&digest), &content).unwrap();
    std::fs::write(root.join("refs").join(CONVERSION), COMMIT).unwrap();
    let target = format!("../../../../blobs/{digest}");
    std::os::unix::fs::symlink(target, place.join("0000.parquet")).unwrap();

    let hub = hub(1, 1000);
    let mut offline = config(&hub, dir.path());
    offline.offline = true;
    let options = SourceOptions::default();
    let shards = Shards::resolve_with(SOURCE, &options, &offline).unwrap();
    let held = shards.open(0, &[]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), content);
    assert_eq!(shards.bytes(), 500);
}

#[test]
fn a_truncated_blob_is_fetched_again() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    let shards = resolve(&hub, dir.path());
    let path = shards.open(0, &[]).unwrap().to_owned();
    std::fs::write(&path, b"short").unwrap();
    shards.open(0, &[]).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes(0, 1000));
}

#[test]
fn the_next_shards_come_in_their_order_and_no_more_than_asked() {
    let (hub, dir) = (hub(5, 1000), tempfile::tempdir().unwrap());
    let shards = resolve(&hub, dir.path());
    let _held = shards.open(0, &[3, 1, 2]).unwrap();
    wait_for("shard 1", || !downloads(&hub, 1).is_empty());
    std::thread::sleep(Duration::from_millis(50));
    let order: Vec<String> = hub
        .requests("/cdn")
        .iter()
        .map(|r| r.path.clone())
        .collect();
    let place = |i| order.iter().position(|p| p.starts_with(&cdn(i)));
    assert!(place(3) < place(1), "{order:?}");
    assert_eq!((place(2), place(4), order.len()), (None, None, 3));
    let held = shards.open(1, &[]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), bytes(1, 1000));
    assert_eq!(downloads(&hub, 1).len(), 1);
}

#[test]
fn two_runs_that_want_the_same_shard_fetch_it_once() {
    let (hub, dir) = (hub(1, 300_000), tempfile::tempdir().unwrap());
    let slow = Fault::Stall(Duration::from_millis(200));
    hub.break_once(&cdn(0), slow);
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let shards = resolve(&hub, dir.path());
                start.wait();
                let held = shards.open(0, &[]).unwrap();
                assert_eq!(std::fs::read(&*held).unwrap(), bytes(0, 300_000));
            });
        }
    });
    // The second request resumes the first, which was cut after its silence.
    let ranges: Vec<_> = downloads(&hub, 0)
        .iter()
        .map(|r| r.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=1-".into())]);
}

#[test]
fn small_files_are_verified_by_gits_id() {
    let (hub, dir) = (Hub::start(), tempfile::tempdir().unwrap());
    let content = b"{\"text\":\"hello\"}\n".to_vec();
    hub.push("main", COMMIT, &[("data/train.jsonl", content.clone())]);
    let options = SourceOptions::default();
    let source = "hf://owner/name@main";
    let shards = Shards::resolve_with(source, &options, &config(&hub, dir.path())).unwrap();
    let held = shards.open(0, &[]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), content);
    drop(held);
    hub.break_always("/cdn", Fault::Corrupt);
    let other = tempfile::tempdir().unwrap();
    let shards = Shards::resolve_with(source, &options, &config(&hub, other.path())).unwrap();
    assert!(message(shards.open(0, &[])).contains("b5c457be52e2a4d2fb2c8531854552bd03ce332e"));
}
