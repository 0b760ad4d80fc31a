//! Signals and a full disk while a run trains.

use std::fs;
use std::process::Stdio;

use crate::support::workplace;

/// SIGTERM stops with a checkpoint and exit 0; a disk that takes no more (here: files no longer than
/// a few blocks) is one clear error that leaves that checkpoint whole; then the run goes on.
#[cfg(unix)]
#[test]
fn sigterm_writes_a_checkpoint_and_a_full_disk_keeps_the_last_one_whole() {
    let dir = workplace();
    let at = dir.path();
    let args = "train recipe.toml --run r --resume --set train.steps=3000 \
                --set train.checkpoint_every=5 --set train.keep_checkpoints=1";
    let retort_at = assert_cmd::cargo::cargo_bin("retort");
    let shell = |script: String| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).current_dir(at);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let run = format!("exec {} {args}", retort_at.display());
    let checkpoints = || -> Vec<String> {
        let found = fs::read_dir(at.join("r/checkpoints")).into_iter().flatten();
        found
            .filter(|e| e.as_ref().unwrap().path().join("state.json").exists())
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    };
    // As under `nohup`: SIGHUP is ignored, and stays so.
    let mut child = shell(format!("trap '' HUP; {run}")).spawn().unwrap();
    let newer_than = |before: Vec<String>, child: &mut std::process::Child| {
        while checkpoints().is_empty() || checkpoints() == before {
            assert!(child.try_wait().unwrap().is_none(), "ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        checkpoints()
    };
    let signal = |name: &str, child: &std::process::Child| {
        let sent = shell(format!("kill -{name} {}", child.id())).status();
        assert!(sent.unwrap().success());
    };
    let first = newer_than(Vec::new(), &mut child);
    signal("HUP", &child);
    newer_than(first, &mut child);
    signal("TERM", &child);
    assert!(child.wait().unwrap().success(), "SIGTERM is no failure");
    let before = checkpoints();
    assert_eq!(before.len(), 1, "{before:?}");

    // 64 blocks of 512 bytes (of 1024 in bash): less than the weights. The signal is ignored, so
    // that writing fails as it does on a full disk.
    let mut full = shell(format!("trap '' XFSZ; ulimit -f 64; {run} 2>&1"));
    let output = full.stdout(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    let error = said.lines().rfind(|l| l.starts_with("error: ")).unwrap();
    for part in [
        "checkpoint could not be written",
        "--resume",
        before[0].as_str(),
    ] {
        assert!(error.contains(part), "{part}: {said}");
    }
    assert_eq!(checkpoints(), before);
    let state = fs::read_to_string(at.join("r/checkpoints").join(&before[0]).join("state.json"));
    let state: serde_json::Value = serde_json::from_str(&state.unwrap()).unwrap();
    assert_eq!(format!("step-{}", state["step"]), before[0]);
    let mut child = shell(run).spawn().unwrap();
    newer_than(before, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
}
