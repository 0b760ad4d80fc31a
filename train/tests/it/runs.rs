//! Runs learn, repeat bit for bit, and resume as if never stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use retort_train::{CrossEntropy, Event, NoTeacher, Recipe, prepare, train};

use super::{fixture, go, losses, recipe, validation_losses, weights};

#[test]
fn run_learns_and_leaves_a_complete_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let outcome = go(
        recipe(&["train.steps=150", "train.checkpoint_every=50"]),
        &run,
        false,
        u64::MAX,
    );
    let all = validation_losses(&run);
    let (first, last) = (all[0].1, all[all.len() - 1].1);
    assert!(last < first - 0.3, "{first} -> {last}");
    assert_eq!(outcome.step, 150);
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "state.json",
        "optimizer.bpk",
    ] {
        assert!(outcome.checkpoint.join(file).exists(), "{file}");
    }
    let kept: Vec<u64> = retort_train::list(&run)
        .unwrap()
        .iter()
        .map(|c| c.0)
        .collect();
    assert_eq!(kept, [50, 100, 150]);
    let leftovers: Vec<PathBuf> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "tmp"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[test]
fn resume_after_stop_ends_in_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let end = go(recipe(&[]), &whole, false, u64::MAX);
    let stopped = go(recipe(&[]), &parts, false, 5);
    assert!(stopped.stopped);
    assert_eq!(stopped.step, 5);
    go(recipe(&[]), &parts, true, 7);
    let resumed = go(recipe(&[]), &parts, true, u64::MAX);
    assert_eq!(losses(&whole), losses(&parts));
    assert_eq!(weights(&end.checkpoint), weights(&resumed.checkpoint));
}

#[test]
fn resume_after_kill_repeats_the_lost_steps_from_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let end = go(recipe(&[]), &whole, false, u64::MAX);
    go(recipe(&[]), &killed, false, u64::MAX);
    // What SIGKILL after step 9 leaves: no checkpoint past 8, one half-written, and
    // metrics of steps past 8 with a torn last line.
    fs::remove_dir_all(killed.join("checkpoints/step-12")).unwrap();
    fs::create_dir_all(killed.join("checkpoints/.step-12.aBcDeF.tmp")).unwrap();
    // And one that was being removed.
    fs::create_dir_all(killed.join("checkpoints/step-2/ema")).unwrap();
    fs::create_dir_all(killed.join("checkpoints/.step-1.tmp")).unwrap();
    let metrics = fs::read_to_string(killed.join("metrics.jsonl")).unwrap();
    let cut = metrics.rfind("{\"step\":10").unwrap() + 20;
    fs::write(killed.join("metrics.jsonl"), &metrics[..cut]).unwrap();
    let resumed = go(recipe(&[]), &killed, true, u64::MAX);
    let mut left: Vec<_> = fs::read_dir(killed.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["step-12", "step-4", "step-8"]);
    assert_eq!(losses(&whole), losses(&killed));
    assert_eq!(weights(&end.checkpoint), weights(&resumed.checkpoint));
}

/// The first step sees the same weights: its loss and gradient differ by rounding alone. Adam
/// then divides that by numbers as small, so later losses may part a little further.
#[test]
fn accumulated_gradients_equal_those_of_one_large_batch() {
    let dir = tempfile::tempdir().unwrap();
    for packing in ["concat", "best_fit"] {
        let steps = |name: &str, changes: &[&str]| -> Vec<(f64, f64)> {
            let packing = format!("data.packing={packing}");
            let changes = [
                changes,
                &[&packing, "data.seq_len=300", "train.eval_every=0"],
            ]
            .concat();
            let run = dir.path().join(format!("{packing}-{name}"));
            go(recipe(&changes), &run, false, u64::MAX);
            let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
            let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
            lines
                .filter_map(|v: serde_json::Value| {
                    Some((v["loss"].as_f64()?, v["grad_norm"].as_f64()?))
                })
                .collect()
        };
        let big = steps("big", &["train.batch_size=8"]);
        let small = steps("small", &["train.batch_size=2", "train.accumulate=4"]);
        assert_eq!((big.len(), small.len()), (12, 12));
        let close = |a: f64, b: f64, by: f64| assert!((a - b).abs() < by * a, "{packing}: {a} {b}");
        close(big[0].0, small[0].0, 1e-6);
        close(big[0].1, small[0].1, 1e-5);
        for (a, b) in big.iter().zip(&small) {
            close(a.0, b.0, 1e-3);
        }
    }
}

#[test]
fn run_directory_with_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    go(recipe(&["train.steps=4"]), &run, false, u64::MAX);
    let device = retort_train::device("cpu").unwrap();
    let refuse = |recipe: Recipe, resume: bool| {
        prepare(recipe, &run, &device, resume, &|_| {})
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let message = refuse(recipe(&["train.steps=4"]), false);
    assert!(message.contains("--resume"), "{message}");
    let message = refuse(recipe(&["train.steps=4", "train.lr=5e-3"]), true);
    assert!(message.contains("train.lr"), "{message}");
}

#[test]
fn cpu_and_ndarray_devices_train_to_the_same_losses() {
    let mut all = Vec::new();
    for name in ["cpu", "ndarray"] {
        let dir = tempfile::tempdir().unwrap();
        let device = retort_train::device(name).unwrap();
        let recipe = recipe(&["train.steps=3", "train.checkpoint_every=0"]);
        let prepared = prepare(recipe, &dir.path().join("run"), &device, false, &|_| {}).unwrap();
        let mut losses = Vec::new();
        let stop = AtomicBool::new(false);
        train(prepared, &CrossEntropy, &stop, &mut |event| {
            if let Event::Step(m) = event {
                losses.push(m.loss);
            }
        })
        .unwrap();
        all.push(losses);
    }
    for (a, b) in all[0].iter().zip(&all[1]) {
        assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
    }
}

/// A software Vulkan stored it, computed nothing in it, and every batch was passed over.
#[test]
fn bfloat16_is_refused_where_the_device_does_not_compute_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let device = retort_train::device("ndarray").unwrap();
    let refused = prepare(
        recipe(&["train.precision=bfloat16"]),
        &run,
        &device,
        false,
        &|_| {},
    );
    let message = refused.map(drop).unwrap_err().to_string();
    assert!(
        message.contains("train.precision") && message.contains("float32"),
        "{message}"
    );
    assert!(!run.exists(), "nothing is begun");
}

/// Only the adapters are trained; the checkpoint has them merged, and a stopped run goes on from
/// the base and its adapters to the same bytes.
#[test]
fn lora_trains_adapters_alone_and_resumes_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let base = go(recipe(&[]), &dir.path().join("base"), false, u64::MAX).checkpoint;
    let adapted = || {
        let text = format!(
            "seed = 5\n[data]\nsource = {:?}\ntokenizer = {:?}\nseq_len = 32\n\
             validation_fraction = 0.1\nmax_validation_rows = 16\n[model]\nfrom = {:?}\n\
             [lora]\nrank = 4\nalpha = 8.0\ntargets = [\"q_proj\", \"down_proj\"]\n\
             [train]\nsteps = 8\nbatch_size = 4\nlr = 1e-2\n",
            fixture().join("corpus"),
            fixture().join("tokenizer"),
            base,
        );
        Recipe::parse::<NoTeacher>(&text, Path::new("lora.toml"), &[]).unwrap()
    };
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let end = go(adapted(), &whole, false, u64::MAX);
    go(adapted(), &parts, false, 3);
    let resumed = go(adapted(), &parts, true, u64::MAX);
    assert_eq!(losses(&whole), losses(&parts));
    assert_eq!(weights(&end.checkpoint), weights(&resumed.checkpoint));
    let adapters = |run: &Path| fs::read(run.join("adapter_model.safetensors")).unwrap();
    assert_eq!(adapters(&end.checkpoint), adapters(&resumed.checkpoint));

    // What was not named is as it was, to the byte.
    let (before, after) = (weights(&base), weights(&end.checkpoint));
    let header = 8 + u64::from_le_bytes(before[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&before[8..header]).unwrap();
    for (name, tensor) in tensors.as_object().unwrap() {
        let Some(range) = tensor["data_offsets"].as_array() else {
            continue;
        };
        let [from, to] = [0, 1].map(|i| header + range[i].as_u64().unwrap() as usize);
        let named = name.contains("q_proj") || name.contains("down_proj");
        assert_eq!(before[from..to] != after[from..to], named, "{name}");
    }
}

/// With attention within documents a document's loss does not depend on what lies before it.
#[test]
fn document_attention_changes_the_loss_of_packed_rows() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, keep: bool| {
        let keep = format!("train.document_attention={keep}");
        let set = [
            &keep,
            "data.packing=best_fit",
            "train.steps=4",
            "data.seq_len=900",
        ];
        go(recipe(&set), &dir.path().join(name), false, u64::MAX);
        losses(&dir.path().join(name))
    };
    let (kept, crossing) = (run("kept", true), run("crossing", false));
    assert_eq!(kept.len(), crossing.len());
    assert_ne!(kept[0], crossing[0]);
}
