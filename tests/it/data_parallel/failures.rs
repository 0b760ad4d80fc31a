//! A killed rank ends the job, and a stop signal to one rank stops all.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{lines, mpirun, text, workplace};

fn kill(signal: &str, process: &str) {
    let sent = Command::new("kill").args([signal, process]).status();
    assert!(sent.unwrap().success());
}

/// Starts a run that is far from its end, and waits until it has written a checkpoint.
fn started(ranks: usize, name: &str, cwd: &Path) -> Child {
    let line = format!(
        "train recipe.toml --run {name} --set train.steps=100000 --set train.checkpoint_every=5"
    );
    let mut child = mpirun(ranks, &line, cwd)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while fs::read_dir(cwd.join(name).join("checkpoints")).map_or(0, Iterator::count) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

/// The process numbers of the children of `parent`, in the order in which they were started.
fn children(parent: u32) -> Vec<String> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    fs::read_to_string(path)
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[test]
fn killed_rank_ends_the_job_naming_it_and_fewer_ranks_resume() {
    let dir = workplace();
    let at = dir.path();
    let child = started(4, "run", at);
    let ranks = children(child.id());
    assert_eq!(ranks.len(), 4, "{ranks:?}");
    kill("-9", &ranks[2]);
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert!(
        !output.status.success() && said.contains("rank 2"),
        "{said}"
    );
    // Lines past the newest checkpoint stay until the run goes on: only one past them all says that it does.
    let last_step = || -> Option<u64> {
        lines(&at.join("run"))
            .iter()
            .filter_map(|l| l["step"].as_u64())
            .max()
    };
    let lost = last_step();
    assert!(lost.is_some());
    // The schedule is of the whole run: a rank that is stopped at once shows that it went on.
    let mut child = mpirun(
        2,
        "train recipe.toml --run run --set train.steps=100000 --set train.checkpoint_every=5 --resume",
        at,
    );
    let mut child = child
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while last_step() <= lost {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        std::thread::sleep(Duration::from_millis(50));
    }
    // One rank is asked to stop; all do, with a checkpoint.
    let ranks = children(child.id());
    kill("-TERM", &ranks[1]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let last = lines(&at.join("run")).last().unwrap()["step"].clone();
    let newest = retort_train::latest(&at.join("run")).unwrap().unwrap();
    assert!(
        newest.ends_with(format!("step-{last}")),
        "{newest:?} {last}"
    );
}
