//! Which checkpoints stay, and what happens when one cannot be written.

use std::fs;

use retort_train::CrossEntropy;

use super::{go, recipe, try_go, validation_losses, weights};

#[test]
fn keep_best_keeps_the_checkpoint_with_the_lowest_validation_loss() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let changes = [
        // Far too much in the end: the loss rises again.
        "train.lr=3.0",
        "train.warmup_steps=12",
        "train.eval_every=2",
        "train.checkpoint_every=2",
        "train.keep_checkpoints=1",
    ];
    go(recipe(&changes), &run, false, u64::MAX);
    let evaluations = validation_losses(&run);
    let best = evaluations
        .iter()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap();
    assert_ne!(best.0, 12, "the loss was to rise");
    let kept: Vec<u64> = retort_train::list(&run)
        .unwrap()
        .iter()
        .map(|c| c.0)
        .collect();
    assert_eq!(kept, [best.0, 12]);
    let (path, loss) = retort_train::best(&run).unwrap().unwrap();
    assert!(path.ends_with(format!("step-{}", best.0)));
    assert!((loss - best.1).abs() < 1e-9);

    let run = dir.path().join("newest");
    let changes = [&changes[..], &["train.keep_best=false"]].concat();
    go(recipe(&changes), &run, false, u64::MAX);
    let kept: Vec<u64> = retort_train::list(&run)
        .unwrap()
        .iter()
        .map(|c| c.0)
        .collect();
    assert_eq!(kept, [12]);
}

#[test]
fn checkpoint_that_cannot_be_written_is_an_error_naming_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, run) = (dir.path().join("whole"), dir.path().join("run"));
    let end = go(recipe(&[]), &whole, false, u64::MAX);
    // In the way of step 8's directory.
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    fs::write(run.join("checkpoints/step-8"), "").unwrap();
    let error = try_go(recipe(&[]), &run, false, u64::MAX, &CrossEntropy).unwrap_err();
    let message = error.to_string();
    for expected in ["step-8", "could not be written", "--resume", "step-4"] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(retort_train::list(&run).unwrap().len(), 1);
    fs::remove_file(run.join("checkpoints/step-8")).unwrap();
    let resumed = go(recipe(&[]), &run, true, u64::MAX);
    assert_eq!(weights(&end.checkpoint), weights(&resumed.checkpoint));
}

/// `state.json` with the keys of version 0.1.
#[test]
fn checkpoint_of_version_0_1_resumes_to_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let plain: &[&str] = &["train.spike_factor=1.1"];
    let diloco: &[&str] = &["train.spike_factor=1.1", "train.diloco={every=2}"];
    for (i, changes) in [plain, diloco].into_iter().enumerate() {
        let path = |name: &str| dir.path().join(format!("{name}{i}"));
        let (whole, run) = (path("whole"), path("run"));
        let end = go(recipe(changes), &whole, false, u64::MAX);
        let stopped = go(recipe(changes), &run, false, 5);
        let path = stopped.checkpoint.join("state.json");
        let mut text = fs::read_to_string(&path).unwrap();
        let keys = [
            ("loss_spike", "guard"),
            ("diloco", "apart"),
            ("loss_spikes", "guards"),
            ("optimizers", "moments"),
        ];
        for (new, old) in keys {
            let [new, old] = [new, old].map(|key| format!("\"{key}\":"));
            assert!(text.contains(&new) || changes == plain, "{new}: {text}");
            text = text.replace(&new, &old);
        }
        fs::write(&path, text).unwrap();
        let resumed = go(recipe(changes), &run, true, u64::MAX);
        assert_eq!(weights(&end.checkpoint), weights(&resumed.checkpoint));
        assert_eq!(end.skipped, resumed.skipped);
    }
}

#[test]
fn checkpoint_of_another_model_is_an_error_naming_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let (wide, run) = (dir.path().join("wide"), dir.path().join("run"));
    go(
        recipe(&["model.intermediate_size=96"]),
        &wide,
        false,
        u64::MAX,
    );
    go(recipe(&[]), &run, false, 5);
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    fs::rename(
        wide.join("checkpoints/step-8"),
        run.join("checkpoints/step-8"),
    )
    .unwrap();
    let error = try_go(recipe(&[]), &run, true, u64::MAX, &CrossEntropy).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("model.intermediate_size"), "{message}");
}

/// A file of the right length with one wrong byte was read without a word, and training went on from other moments.
#[test]
fn damaged_optimizer_state_is_an_error_naming_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let checkpoint = go(recipe(&[]), &run, false, 5).checkpoint;
    let path = checkpoint.join("optimizer.bpk");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for bytes in [&damaged[..], &whole[..whole.len() - 1]] {
        fs::write(&path, bytes).unwrap();
        let message = match try_go(recipe(&[]), &run, true, u64::MAX, &CrossEntropy) {
            Ok(_) => panic!("went on from a damaged file"),
            Err(e) => e.to_string(),
        };
        assert!(message.contains("optimizer.bpk: is damaged"), "{message}");
    }
    fs::write(&path, &whole).unwrap();
    go(recipe(&[]), &run, true, u64::MAX);
}
