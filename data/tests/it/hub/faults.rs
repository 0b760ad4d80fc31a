//! Servers and connections that fail: what is tried again, resumed, or given up.

use std::time::Instant;

use retort_data::{Error, Shards, SourceOptions};

use super::server::{Fault, sha256};
use super::*;

fn status(status: u16, headers: &str) -> Fault {
    Fault::Status(status, headers.into())
}

/// Opens the only shard of `hub` and checks its content.
fn fetch(hub: &Hub, dir: &Path, size: usize) {
    let held = resolve(hub, dir).open(0, &[]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), bytes(0, size));
    let digest = sha256(&bytes(0, size));
    assert_eq!(names(&folder(dir).join("blobs")), [digest]);
}

/// Leaves `content` as the part of shard 0.
fn leave_part(dir: &Path, size: usize, content: &[u8]) {
    let blobs = folder(dir).join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let digest = sha256(&bytes(0, size));
    std::fs::write(blobs.join(format!("{digest}.incomplete")), content).unwrap();
}

fn ranges(hub: &Hub) -> Vec<Option<String>> {
    let range = |r: &server::Request| r.header("range").map(str::to_owned);
    downloads(hub, 0).iter().map(range).collect()
}

#[test]
fn retry_after_is_honoured() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    hub.break_once("/api", status(429, "Retry-After: 1\r\n"));
    hub.break_once(&cdn(0), status(503, "Retry-After: 1\r\n"));
    let start = Instant::now();
    fetch(&hub, dir.path(), 1000);
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(
        (hub.requests("/api").len(), downloads(&hub, 0).len()),
        (2, 2)
    );
}

#[test]
fn a_server_that_recovers_costs_nothing_but_time() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    for broken in ["/api", "/datasets", "/cdn"] {
        hub.break_once(broken, status(500, ""));
        hub.break_once(broken, Fault::Raw(Vec::new()));
        hub.break_once(broken, Fault::Raw(b"\0\x01garbage\r\n\r\n".to_vec()));
    }
    let mut patient = config(&hub, dir.path());
    patient.retries = 6;
    let shards = Shards::resolve_with(SOURCE, &SourceOptions::default(), &patient).unwrap();
    let held = shards.open(0, &[]).unwrap();
    assert_eq!(std::fs::read(&*held).unwrap(), bytes(0, 1000));
}

#[test]
fn a_server_that_does_not_recover_is_given_up() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    let shards = resolve(&hub, dir.path());
    hub.break_always("/datasets", status(502, ""));
    let given_up = message(shards.open(0, &[]));
    assert!(given_up.contains("502, 4 times in a row"), "{given_up}");
    assert!(given_up.contains("0000.parquet"), "{given_up}");
    assert_eq!(hub.requests("/datasets").len(), 4);
    // It is not remembered as lost.
    hub.repair();
    shards.open(0, &[]).unwrap();
}

#[test]
fn nobody_there() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    let mut nowhere = config(&hub, dir.path());
    nowhere.endpoint = "http://127.0.0.1:1".into();
    let result = Shards::resolve_with(SOURCE, &SourceOptions::default(), &nowhere);
    assert!(message(result).contains("HF_ENDPOINT (http://127.0.0.1:1)"));
}

#[test]
fn a_cut_connection_is_resumed() {
    let (hub, dir) = (hub(1, 200_000), tempfile::tempdir().unwrap());
    hub.break_once(&cdn(0), Fault::Cut(150_000));
    hub.break_once(&cdn(0), Fault::Cut(10_000));
    fetch(&hub, dir.path(), 200_000);
    let asked = [
        None,
        Some("bytes=150000-".into()),
        Some("bytes=160000-".into()),
    ];
    assert_eq!(ranges(&hub), asked);
}

#[test]
fn a_cut_download_is_resumed_by_the_next_run() {
    let (hub, dir) = (hub(1, 200_000), tempfile::tempdir().unwrap());
    hub.break_once(&cdn(0), Fault::Cut(70_000));
    let mut impatient = config(&hub, dir.path());
    impatient.retries = 0;
    let first = Shards::resolve_with(SOURCE, &SourceOptions::default(), &impatient).unwrap();
    message(first.open(0, &[]));
    drop(first);
    fetch(&hub, dir.path(), 200_000);
    assert_eq!(ranges(&hub), [None, Some("bytes=70000-".into())]);
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    hub.break_once(&cdn(0), Fault::Cut(600));
    hub.break_once(&cdn(0), Fault::IgnoreRange);
    fetch(&hub, dir.path(), 1000);
    assert_eq!(ranges(&hub), [None, Some("bytes=600-".into())]);
}

#[test]
fn a_server_that_sends_another_range_is_read_from_the_start() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    hub.break_once(&cdn(0), Fault::Cut(600));
    hub.break_once(&cdn(0), Fault::OtherRange);
    fetch(&hub, dir.path(), 1000);
    assert_eq!(ranges(&hub), [None, Some("bytes=600-".into()), None]);
}

#[test]
fn a_part_that_is_complete_needs_no_request() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    leave_part(dir.path(), 1000, &bytes(0, 1000));
    fetch(&hub, dir.path(), 1000);
    assert_eq!(ranges(&hub), []);
}

#[test]
fn a_part_that_is_too_long_or_wrong_is_thrown_away() {
    let wrong_start = bytes(9, 600);
    let wrong_whole = bytes(9, 1000);
    let too_long = bytes(0, 1001);
    let after = Some("bytes=600-".to_owned());
    for (part, asked) in [
        (too_long, vec![None]),
        (wrong_whole, vec![None]),
        (wrong_start, vec![after, None]),
    ] {
        let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
        leave_part(dir.path(), 1000, &part);
        fetch(&hub, dir.path(), 1000);
        assert_eq!(ranges(&hub), asked);
    }
}

#[test]
fn a_wrong_hash_is_tried_once_more_from_zero() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    hub.break_once(&cdn(0), Fault::Corrupt);
    fetch(&hub, dir.path(), 1000);
    assert_eq!(ranges(&hub), [None, None]);
}

#[test]
fn a_hash_that_stays_wrong_is_told_and_nothing_is_left() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    let shards = resolve(&hub, dir.path());
    hub.break_always(&cdn(0), Fault::Corrupt);
    let mut came = bytes(0, 1000);
    came[0] ^= 1;
    let told = message(shards.open(0, &[]));
    for part in [&*shards.name(0), &sha256(&bytes(0, 1000)), &sha256(&came)] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(ranges(&hub), [None, None]);
    assert!(names(&folder(dir.path()).join("blobs")).is_empty());
}

#[test]
fn a_wrong_size_is_told_and_nothing_is_left() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    let shards = resolve(&hub, dir.path());
    hub.break_always(&cdn(0), Fault::Longer(5));
    let told = shards.open(0, &[]).err().unwrap();
    assert!(matches!(told, Error::Verification { .. }));
    let told = told.to_string();
    assert!(
        told.contains("1000 bytes") && told.contains("1005 bytes"),
        "{told}"
    );
    // A size that is not announced is bounded all the same.
    hub.repair();
    let mut unannounced = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    unannounced.extend(bytes(0, 1000));
    unannounced.push(0);
    hub.break_always(&cdn(0), Fault::Raw(unannounced));
    assert!(message(shards.open(0, &[])).contains("more than 1000 bytes"));
    assert!(names(&folder(dir.path()).join("blobs")).is_empty());
}

#[test]
fn a_silent_server_is_left_after_the_idle_timeout() {
    let (hub, dir) = (hub(1, 1000), tempfile::tempdir().unwrap());
    hub.break_once(&cdn(0), Fault::Stall(Duration::from_secs(20)));
    let mut hasty = config(&hub, dir.path());
    hasty.idle_timeout = Duration::from_millis(200);
    let shards = Shards::resolve_with(SOURCE, &SourceOptions::default(), &hasty).unwrap();
    shards.open(0, &[]).unwrap();
    assert_eq!(hub.silences_over(), 0);
    assert_eq!(ranges(&hub), [None, Some("bytes=1-".into())]);
}

#[test]
fn dropping_the_shards_does_not_wait_for_a_slow_server() {
    let (hub, dir) = (hub(3, 1000), tempfile::tempdir().unwrap());
    hub.break_always(&cdn(1), Fault::Stall(Duration::from_secs(20)));
    let mut patient = config(&hub, dir.path());
    patient.idle_timeout = Duration::from_secs(60);
    let shards = Shards::resolve_with(SOURCE, &SourceOptions::default(), &patient).unwrap();
    let held = shards.open(0, &[1, 2]).unwrap();
    wait_for("the download ahead", || !downloads(&hub, 1).is_empty());
    drop(shards);
    drop(held);
    assert_eq!(hub.silences_over(), 0);
    // Nothing new is begun.
    assert_eq!((downloads(&hub, 1).len(), downloads(&hub, 2).len()), (1, 0));
}

#[test]
fn a_stopped_run_does_not_sit_out_its_waits() {
    let (hub, dir) = (hub(2, 1000), tempfile::tempdir().unwrap());
    hub.break_always(&cdn(1), status(429, "Retry-After: 1\r\n"));
    let shards = resolve(&hub, dir.path());
    shards.open(0, &[1]).unwrap();
    wait_for("the download ahead", || !downloads(&hub, 1).is_empty());
    drop(shards);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(downloads(&hub, 1).len(), 1);
}
