//! Several processes that train one model, started by `mpirun` as a user starts them. Only in a build with the
//! feature `mpi`: `cargo test --release --features mpi --test data_parallel`.
#![cfg(feature = "mpi")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use retort_data::stories;
use serde_json::Value;

use support::retort;

const RECIPE: &str = r#"
[data]
source = "corpus"
tokenizer = "tokenizer"
seq_len = 32
validation_fraction = 0.1
max_validation_rows = 8
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 3
num_attention_heads = 2
[train]
steps = 12
batch_size = 8
lr = 3e-3
warmup_steps = 2
optimizer = "muon"
ema_decay = 0.9
spike_factor = 3.0
activation_checkpointing = true
"#;

/// A directory with a corpus, a tokenizer and a recipe.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus");
    stories::write_parquet(&corpus, &stories::generate(1, 300), 2).unwrap();
    let tokenizer = "tokenizer train --data corpus --vocab-size 300 --out tokenizer";
    let (ok, _, stderr) = retort(&words(tokenizer), dir.path());
    assert!(ok, "{stderr}");
    fs::write(dir.path().join("recipe.toml"), RECIPE).unwrap();
    dir
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// `mpirun` with so many ranks of `retort line`.
fn mpirun(ranks: usize, line: &str, cwd: &Path) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args([
            "--oversubscribe",
            "--allow-run-as-root",
            "--bind-to",
            "none",
            "-n",
        ])
        .arg(ranks.to_string())
        .arg(env!("CARGO_BIN_EXE_retort"))
        .args(words(line))
        .current_dir(cwd)
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn run(ranks: usize, line: &str, cwd: &Path) {
    let output = mpirun(ranks, line, cwd).output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output));
}

fn refused(ranks: usize, line: &str, cwd: &Path) -> String {
    let output = mpirun(ranks, line, cwd).output().unwrap();
    assert!(!output.status.success(), "{line}");
    text(&output)
}

fn lines(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The figures of `run` that say what was learnt: losses, norms and tokens, of steps and evaluations.
fn losses(run: &Path) -> Vec<f64> {
    let keys = [
        "loss",
        "grad_norm",
        "tokens",
        "validation_loss",
        "ema_validation_loss",
    ];
    let all = lines(run);
    let of = |line: &Value| {
        keys.iter()
            .filter_map(|key| line[key].as_f64())
            .collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

fn assert_close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-5 * a.abs(), "{a} {b}");
    }
}

fn weights(run: &Path, step: u64) -> Vec<u8> {
    fs::read(run.join(format!("checkpoints/step-{step}/model.safetensors"))).unwrap()
}

#[test]
fn any_number_of_ranks_gives_the_losses_of_one_and_one_number_the_same_bytes() {
    let dir = workplace();
    let at = dir.path();
    let (ok, _, stderr) = retort(&words("train recipe.toml --run one"), at);
    assert!(ok, "{stderr}");
    run(2, "train recipe.toml --run two", at);
    run(4, "train recipe.toml --run four", at);
    run(4, "train recipe.toml --run again", at);
    let one = losses(&at.join("one"));
    assert_close(&one, &losses(&at.join("two")));
    assert_close(&one, &losses(&at.join("four")));
    assert_eq!(losses(&at.join("four")), losses(&at.join("again")));
    assert_eq!(
        weights(&at.join("four"), 12),
        weights(&at.join("again"), 12)
    );
    // Without layer by layer all gradients come at once: the same sums, but for the order within a rank.
    run(
        2,
        "train recipe.toml --run whole --set train.activation_checkpointing=false --set train.accumulate=2 --set train.batch_size=4",
        at,
    );
    assert_close(&one, &losses(&at.join("whole")));
    for line in lines(&at.join("four"))
        .iter()
        .filter(|line| line["loss"].is_f64())
    {
        assert!(line["sent_bytes"].as_u64().unwrap() > 0, "{line}");
    }
}

#[test]
fn four_ranks_go_on_as_two_and_as_one() {
    let dir = workplace();
    let at = dir.path();
    let set = "--set train.checkpoint_every=6 --set train.accumulate=2";
    let (ok, _, stderr) = retort(&words(&format!("train recipe.toml --run one {set}")), at);
    assert!(ok, "{stderr}");
    run(4, &format!("train recipe.toml --run four {set}"), at);
    for (ranks, name) in [(2, "two"), (1, "alone"), (4, "same")] {
        let to = at.join(name);
        let copied = Command::new("cp")
            .arg("-r")
            .arg(at.join("four"))
            .arg(&to)
            .status()
            .unwrap();
        assert!(copied.success());
        fs::remove_dir_all(to.join("checkpoints/step-12")).unwrap();
        run(
            ranks,
            &format!("train recipe.toml --run {name} {set} --resume"),
            at,
        );
        assert_close(&losses(&at.join("one")), &losses(&to));
    }
    assert_eq!(weights(&at.join("four"), 12), weights(&at.join("same"), 12));
    let cursor = |name: &str| {
        let state = fs::read(at.join(name).join("checkpoints/step-12/state.json")).unwrap();
        serde_json::from_slice::<Value>(&state).unwrap()["cursor"].clone()
    };
    // Nothing lost or repeated: all ended at the same place of the data.
    assert_eq!(cursor("two"), cursor("one"));
    assert_eq!(cursor("alone"), cursor("one"));
}

#[test]
fn ranks_that_do_not_do_the_same_are_refused_by_name() {
    let dir = workplace();
    let at = dir.path();
    let uneven = refused(3, "train recipe.toml --run uneven", at);
    assert!(
        uneven.contains("3 ranks") && uneven.contains("train.batch_size = 8"),
        "{uneven}"
    );
    let output = mpirun(
        2,
        "train recipe.toml --run other --set train.batch_size=6",
        at,
    )
    .args([":", "-n", "1", env!("CARGO_BIN_EXE_retort")])
    .args(words(
        "train recipe.toml --run other --set train.batch_size=6 --set train.lr=1e-3",
    ))
    .output()
    .unwrap();
    let other = text(&output);
    assert!(!output.status.success(), "{other}");
    assert!(
        other.contains("rank 2 differs from rank 0 in: recipe"),
        "{other}"
    );
    assert!(!at.join("other/recipe.toml").exists());
}

/// Starts a run that is far from its end, and waits until it has written a checkpoint.
fn started(ranks: usize, name: &str, cwd: &Path) -> Child {
    let line = format!(
        "train recipe.toml --run {name} --set train.steps=100000 --set train.checkpoint_every=5"
    );
    let child = mpirun(ranks, &line, cwd)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let from = Instant::now();
    while fs::read_dir(cwd.join(name).join("checkpoints")).map_or(0, Iterator::count) < 2 {
        assert!(from.elapsed() < Duration::from_secs(60), "no checkpoint");
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
fn a_killed_rank_ends_the_job_by_name_and_fewer_go_on() {
    let dir = workplace();
    let at = dir.path();
    let child = started(4, "run", at);
    let ranks = children(child.id());
    assert_eq!(ranks.len(), 4, "{ranks:?}");
    assert!(
        Command::new("kill")
            .args(["-9", &ranks[2]])
            .status()
            .unwrap()
            .success()
    );
    let from = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(
        from.elapsed() < Duration::from_secs(20),
        "{:?}",
        from.elapsed()
    );
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
    let child = child
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let from = Instant::now();
    while last_step() <= lost {
        assert!(
            from.elapsed() < Duration::from_secs(60),
            "it does not go on"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // One rank is asked to stop; all do, with a checkpoint.
    let ranks = children(child.id());
    assert!(
        Command::new("kill")
            .args(["-TERM", &ranks[1]])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let last = lines(&at.join("run")).last().unwrap()["step"].clone();
    let newest = retort_train::latest(&at.join("run")).unwrap().unwrap();
    assert!(
        newest.ends_with(format!("step-{last}")),
        "{newest:?} {last}"
    );
}

#[test]
fn diloco_goes_on_bit_for_bit_and_with_other_ranks() {
    let dir = workplace();
    let at = dir.path();
    for int8 in [false, true] {
        let set = format!(
            "--set train.diloco={{every=3,int8={int8}}} --set train.ema_decay=0.0 --set train.checkpoint_every=4 \
             --set train.keep_checkpoints=9"
        );
        let name = format!("run-{int8}");
        run(2, &format!("train recipe.toml --run {name} {set}"), at);
        let whole = at.join(&name);
        let saved = |step: u64| whole.join(format!("checkpoints/step-{step}"));
        // Due after 4 and 8 steps, written when the ranks met next.
        assert!(!saved(3).exists() && saved(6).exists() && saved(9).exists() && saved(12).exists());
        let sent: Vec<u64> = lines(&whole)
            .iter()
            .filter_map(|line| line["sent_bytes"].as_u64())
            .collect();
        assert_eq!(sent.len(), 4, "{sent:?}");
        for (ranks, again) in [(2, format!("same-{int8}")), (4, format!("four-{int8}"))] {
            let to = at.join(&again);
            let copied = Command::new("cp")
                .arg("-r")
                .arg(&whole)
                .arg(&to)
                .status()
                .unwrap();
            assert!(copied.success());
            fs::remove_dir_all(to.join("checkpoints/step-12")).unwrap();
            fs::remove_dir_all(to.join("checkpoints/step-9")).unwrap();
            run(
                ranks,
                &format!("train recipe.toml --run {again} {set} --resume"),
                at,
            );
            assert_eq!(lines(&to).len(), lines(&whole).len());
            if ranks == 2 {
                assert_eq!(losses(&to), losses(&whole));
                assert_eq!(weights(&to, 12), weights(&whole, 12));
            }
        }
    }
    // Of the first meeting, before any checkpoint was collected.
    let sent = |name: &str| {
        let all = lines(&at.join(name));
        all.iter()
            .find_map(|line| line["sent_bytes"].as_u64())
            .unwrap()
    };
    assert!(3 * sent("run-true") < sent("run-false"));
}

#[test]
fn ranks_write_one_cache_and_learn_from_it() {
    let dir = workplace();
    let at = dir.path();
    let (ok, _, stderr) = retort(
        &words("train recipe.toml --run teacher --set train.steps=2"),
        at,
    );
    assert!(ok, "{stderr}");
    let recipe = format!("{RECIPE}\n[teacher]\npath = \"teacher/checkpoints/step-2\"\n");
    fs::write(at.join("distil.toml"), recipe).unwrap();
    let (ok, _, stderr) = retort(&words("distill cache distil.toml --out one"), at);
    assert!(ok, "{stderr}");
    // A part by two ranks, the rest by three, of which each finds its own rows missing.
    run(2, "distill cache distil.toml --out many --rows 40", at);
    run(3, "distill cache distil.toml --out many", at);
    let shards = fs::read_dir(at.join("many")).unwrap().count() - 1;
    // Of the first 40 rows two, of the other 56 those of the second and the third rank's blocks.
    assert_eq!(shards, 4);
    let set = "--set teacher.path=teacher/checkpoints/step-2";
    let (ok, _, stderr) = retort(
        &words(&format!(
            "distill distil.toml --run a --set teacher.cache=one {set}"
        )),
        at,
    );
    assert!(ok, "{stderr}");
    run(
        2,
        &format!("distill distil.toml --run b --set teacher.cache=many {set}"),
        at,
    );
    assert_close(&losses(&at.join("a")), &losses(&at.join("b")));
}
