//! What needs a process of its own: the environment, and two processes with one cache.

use std::process::{Command, Stdio};

use retort_data::{Shards, SourceOptions};

use super::server::Fault;
use super::*;

/// Runs [`child`] in another process with this environment.
fn run_child(hub: &Hub, home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "hub::process::child", "--ignored", "--nocapture"])
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", format!("{}/", hub.endpoint()))
        .env("HF_TOKEN", TOKEN)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Not a test of its own: what the others run in another process.
#[test]
#[ignore = "run by the tests beside it"]
fn child() {
    let shards = Shards::resolve(SOURCE, &SourceOptions::default()).unwrap();
    let held = shards.open(0, &[]).unwrap();
    println!("{} opened", held.display());
}

#[test]
fn the_environment_is_read() {
    let (hub, home) = (hub(1, 1000), tempfile::tempdir().unwrap());
    let output = run_child(&hub, home.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let path = home.path().join("hub/datasets--owner--name");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    let sent = &hub.requests("/api")[0];
    assert_eq!(
        sent.header("authorization"),
        Some(&*format!("Bearer {TOKEN}"))
    );

    let requests = hub.requests("/").len();
    let mut offline = run_child(&hub, home.path());
    let output = offline.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(hub.requests("/").len(), requests);
}

#[test]
fn two_processes_fetch_a_shard_once() {
    let (hub, home) = (hub(1, 100_000), tempfile::tempdir().unwrap());
    hub.break_once(&cdn(0), Fault::Stall(Duration::from_millis(500)));
    let children: Vec<_> = (0..2)
        .map(|_| run_child(&hub, home.path()).spawn().unwrap())
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    // The one that stalled, and the one that resumed it.
    assert_eq!(downloads(&hub, 0).len(), 2);
}

#[test]
fn a_killed_process_leaves_what_the_next_resumes() {
    let (hub, home) = (hub(1, 100_000), tempfile::tempdir().unwrap());
    hub.break_once(&cdn(0), Fault::Stall(Duration::from_secs(20)));
    let mut killed = run_child(&hub, home.path()).spawn().unwrap();
    let blobs = folder(&home.path().join("hub")).join("blobs");
    let part = || names(&blobs).first().map(|n| blobs.join(n));
    wait_for("the first byte", || {
        part().is_some_and(|p| p.metadata().is_ok_and(|m| m.len() == 1))
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    let output = run_child(&hub, home.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let ranges: Vec<_> = downloads(&hub, 0)
        .iter()
        .map(|r| r.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=1-".into())]);
}
