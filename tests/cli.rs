//! The command line as a user meets it: help with examples, and bad input answered by one
//! clear line, a non-zero exit and nothing written.

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use retort_data::stories;

use support::retort;

/// Runs what must fail; answers the error after checking that it is one line.
fn refused(args: &[&str], cwd: &Path) -> String {
    let (ok, stdout, stderr) = retort(args, cwd);
    assert!(!ok, "{args:?} succeeded");
    assert_eq!(stdout, "", "{args:?}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    stderr
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

const RECIPE: &str = r#"
[data]
source = "corpus"
tokenizer = "tokenizer"
seq_len = 32
validation_fraction = 0.1
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 1
num_attention_heads = 2
[train]
steps = 3
batch_size = 2
lr = 1e-3
"#;

/// A directory with a corpus, a tokenizer and a recipe.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus");
    stories::write_parquet(&corpus, &stories::generate(1, 200), 2).unwrap();
    let (ok, _, stderr) = retort(
        &[
            "tokenizer",
            "train",
            "--data",
            "corpus",
            "--vocab-size",
            "300",
            "--out",
            "tokenizer",
        ],
        dir.path(),
    );
    assert!(ok, "{stderr}");
    fs::write(dir.path().join("recipe.toml"), RECIPE).unwrap();
    dir
}

#[test]
fn every_command_has_an_example_in_its_help() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        "demo",
        "tokenizer train",
        "data inspect",
        "train",
        "distill",
        "prune",
        "generate",
        "export",
        "report",
        "challenge arm",
        "challenge edge-llm",
    ] {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let (ok, stdout, _) = retort(&args, dir.path());
        assert!(ok && stdout.contains("Example"), "{command}: {stdout}");
    }
}

/// Each would train by itself, into one directory.
#[cfg(not(feature = "mpi"))]
#[test]
fn several_processes_need_a_build_with_mpi() {
    let dir = workplace();
    let output = assert_cmd::Command::cargo_bin("retort")
        .unwrap()
        .args(["train", "recipe.toml", "--run", "run"])
        .env("OMPI_COMM_WORLD_SIZE", "2")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("--features mpi"), "{stderr}");
    assert!(!dir.path().join("run").exists());
}

#[test]
fn the_line_from_shards_to_gguf_works_command_by_command() {
    let dir = workplace();
    let at = dir.path();
    let (ok, stdout, stderr) = retort(
        &[
            "data",
            "inspect",
            "corpus",
            "--tokenizer",
            "tokenizer",
            "--json",
        ],
        at,
    );
    assert!(ok, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(figures["documents"], 200);
    assert!(figures["tokens"].as_u64().unwrap() > 1000);

    let (ok, stdout, stderr) = retort(&["train", "recipe.toml", "--run", "teacher"], at);
    assert!(ok, "{stderr}");
    assert!(stdout.contains("validation loss"), "{stdout}");
    assert!(at.join("teacher/recipe.toml").exists() && at.join("teacher/metrics.jsonl").exists());

    fs::write(
        at.join("student.toml"),
        format!("{RECIPE}\n[teacher]\npath = \"teacher/checkpoints/step-3\"\n"),
    )
    .unwrap();
    let (ok, _, stderr) = retort(&["distill", "student.toml", "--run", "student"], at);
    assert!(ok, "{stderr}");
    let cache = [
        "distill",
        "cache",
        "student.toml",
        "--out",
        "cache",
        "--json",
    ];
    let (ok, stdout, stderr) = retort(&cache, at);
    assert!(ok, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(figures["rows"].as_u64().unwrap() > 0 && figures["bytes_per_token"].is_f64());
    let from = ["--set", "teacher.cache=cache", "--run", "cached"];
    let (ok, _, stderr) = retort(&[&["distill", "student.toml"], &from[..]].concat(), at);
    assert!(ok, "{stderr}");

    let (ok, stdout, stderr) = retort(&["generate", "student", "-p", "One day", "-n", "5"], at);
    assert!(ok && stdout.starts_with("One day"), "{stdout}{stderr}");

    let (ok, stdout, stderr) = retort(&["export", "student", "--out", "s.gguf"], at);
    assert!(ok, "{stderr}");
    assert_eq!(stdout.trim(), "s.gguf");
    retort_engine::Model::open(&at.join("s.gguf")).unwrap();

    let (ok, _, stderr) = retort(&["report", "teacher", "student", "--out", "report"], at);
    assert!(ok, "{stderr}");
    assert!(at.join("report/index.html").exists());
}

#[test]
fn a_run_is_resumed_and_not_trained_over() {
    let dir = workplace();
    let at = dir.path();
    assert!(retort(&["train", "recipe.toml", "--run", "r"], at).0);
    let message = refused(&["train", "recipe.toml", "--run", "r"], at);
    assert!(message.contains("--resume"), "{message}");
    assert!(retort(&["train", "recipe.toml", "--run", "r", "--resume"], at).0);
}

#[test]
fn missing_files_are_named() {
    let dir = workplace();
    let at = dir.path();
    let before = names(at);
    for (args, part) in [
        (vec!["train", "nowhere.toml"], "nowhere.toml"),
        (
            vec!["train", "recipe.toml", "--set", "data.source=nowhere"],
            "nowhere",
        ),
        (
            vec!["train", "recipe.toml", "--set", "data.tokenizer=nowhere"],
            "nowhere",
        ),
        (vec!["data", "inspect", "nowhere"], "nowhere"),
        (vec!["export", "nowhere", "--out", "x.gguf"], "nowhere"),
        (vec!["generate", "nowhere", "-p", "a"], "nowhere"),
        (vec!["report", "nowhere", "--out", "x"], "nowhere"),
        (
            vec![
                "tokenizer",
                "train",
                "--data",
                "nowhere",
                "--vocab-size",
                "300",
                "--out",
                "x",
            ],
            "nowhere",
        ),
        (vec!["distill", "recipe.toml"], "[teacher]"),
    ] {
        let message = refused(&args, at);
        assert!(message.contains(part), "{args:?}: {message}");
        assert_eq!(names(at), before, "{args:?} wrote something");
    }
}

#[test]
fn a_truncated_shard_is_refused() {
    let dir = workplace();
    let at = dir.path();
    let shard = at.join("corpus/stories-train-00001-of-00002.parquet");
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
    let before = names(at);
    for args in [
        vec!["train", "recipe.toml"],
        vec!["data", "inspect", "corpus"],
    ] {
        let message = refused(&args, at);
        assert!(
            message.contains("stories-train-00001-of-00002.parquet"),
            "{message}"
        );
        assert_eq!(names(at), before);
    }
}

#[test]
fn an_unknown_recipe_key_is_refused() {
    let dir = workplace();
    let at = dir.path();
    let before = names(at);
    for set in [
        "train.learning_rate=1",
        "model.hiden_size=1",
        "data.shards=1",
        "optimizer.x=1",
    ] {
        let message = refused(&["train", "recipe.toml", "--set", set], at);
        let (section, key) = set.split_once('.').unwrap();
        let key = match section {
            "optimizer" => section,
            _ => key.trim_end_matches("=1"),
        };
        assert!(message.contains(key), "{set}: {message}");
        assert_eq!(names(at), before);
    }
}

#[test]
fn a_checkpoint_of_another_architecture_is_refused() {
    let dir = workplace();
    let at = dir.path();
    fs::create_dir(at.join("other")).unwrap();
    fs::write(at.join("other/config.json"), r#"{"model_type": "mamba"}"#).unwrap();
    let before = names(at);
    for args in [
        vec!["export", "other", "--out", "x.gguf"],
        vec!["generate", "other", "-p", "a"],
        vec!["train", "recipe.toml", "--set", "model={from=\"other\"}"],
    ] {
        let message = refused(&args, at);
        assert!(message.contains("mamba"), "{args:?}: {message}");
        assert_eq!(names(at), before, "{args:?} wrote something");
    }
}

#[test]
fn an_unknown_device_lists_the_known_ones() {
    let dir = workplace();
    let message = refused(&["train", "recipe.toml", "--device", "tpu"], dir.path());
    assert!(message.contains("cpu, ndarray"), "{message}");
}

#[test]
fn the_demo_does_not_touch_a_directory_that_is_not_its_own() {
    let dir = workplace();
    let at = dir.path();
    let before = (names(at), names(&at.join("corpus")));
    let message = refused(&["demo", "--out", "."], at);
    assert!(message.contains("--out"), "{message}");
    assert_eq!((names(at), names(&at.join("corpus"))), before);
}

#[test]
fn a_plan_is_printed_and_nothing_else_happens() {
    let dir = workplace();
    let at = dir.path();
    let before = names(at);
    let plan = ["train", "recipe.toml", "--plan"];
    let (ok, stdout, stderr) = retort(&plan, at);
    assert!(ok, "{stderr}");
    for word in ["parameters", "tokens", "memory", "arithmetic", "time"] {
        assert!(stdout.contains(word), "{word}: {stdout}");
    }
    assert!(!stdout.contains("cost"), "{stdout}");
    let (ok, stdout, stderr) = retort(&[&plan[..], &["--price-per-hour", "7200"]].concat(), at);
    assert!(ok && stdout.contains("\ncost  "), "{stdout}{stderr}");
    let (ok, _, stderr) = retort(&[&plan[..], &["--price-per-hour=-1"]].concat(), at);
    assert!(!ok && stderr.contains("such as 2.5"), "{stderr}");
    let set = ["--set", "train.steps=7", "--set", "train.accumulate=3"];
    let (ok, stdout, stderr) = retort(&[&plan[..], &["--json"], &set[..]].concat(), at);
    assert!(ok, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(figures["steps"], 7);
    assert_eq!(figures["tokens"], 7 * 3 * 2 * 32);
    assert!(figures["measured"]["seconds_per_step"].as_f64().unwrap() > 0.0);
    assert_eq!(names(at), before);
    // Packed rows are counted, so the plan knows how often each is seen.
    let (ok, _, stderr) = retort(&["data", "pack", "recipe.toml", "--out", "packed"], at);
    assert!(ok, "{stderr}");
    let packed = ["--json", "--set", "data.source=packed"];
    let (ok, stdout, stderr) = retort(&[&plan[..], &packed[..]].concat(), at);
    assert!(ok, "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let epochs = figures["epochs"].as_f64().unwrap();
    assert!(epochs > 0.0 && epochs < 1.0, "{epochs}");
    let (ok, _, stderr) = retort(&["train", "recipe.toml", "--json"], at);
    assert!(!ok && stderr.contains("--plan"), "{stderr}");
}

#[test]
fn a_plan_needs_neither_tokenizer_nor_teacher_nor_the_model_it_starts_from() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    fs::write(at.join("recipe.toml"), RECIPE).unwrap();
    let taught =
        format!("{RECIPE}[teacher]\npath = \"taught/by\"\n[teacher.losses]\nforward_kl = 1.0\n");
    fs::write(at.join("taught.toml"), &taught).unwrap();
    let before = names(at);
    // Nothing says how many ids there are.
    let message = refused(&["train", "recipe.toml", "--plan"], at);
    assert!(message.contains("--set model.vocab_size=N"), "{message}");
    let size = ["--plan", "--set", "model.vocab_size=300"];
    let call = |first: [&str; 2], more: &[&str]| {
        let (ok, stdout, stderr) = retort(&[&first[..], &size[..], more].concat(), at);
        assert!(ok, "{stderr}");
        stdout
    };
    let plan = call(["train", "recipe.toml"], &[]);
    for line in [
        "time  ",
        "timed       a batch, forward",
        "tokenizer: the tokenizer is not there",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    let plan = call(["distill", "taught.toml"], &["--price-per-hour", "2"]);
    for line in [
        "taught/by: the teacher is not there",
        "teacher.path=DIRECTORY",
        "cost  ",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    // A teacher of which only the shape is there is counted.
    fs::create_dir_all(at.join("taught/by")).unwrap();
    let shape = r#"{"model_type": "llama", "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 2, "tie_word_embeddings": false, "rms_norm_eps": 1e-5}"#;
    fs::write(at.join("taught/by/config.json"), shape).unwrap();
    let plan = call(["distill", "taught.toml"], &[]);
    for line in [
        ", teacher 0.",
        "and the teacher's ",
        "the teacher did not run",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    // 3 steps of 2 · 32 tokens.
    let told = ["--json", "--flops-per-second", "1e6"];
    let figures: serde_json::Value =
        serde_json::from_str(&call(["distill", "taught.toml"], &told)).unwrap();
    let each = |key: &serde_json::Value| key.as_f64().unwrap();
    let flops = each(&figures["flops_per_token"]) + each(&figures["targets"]["flops_per_token"]);
    let hours = 3.0 * 64.0 * flops / 1e6 / 3600.0;
    assert!(
        (each(&figures["hours"]) / hours - 1.0).abs() < 1e-9,
        "{figures}"
    );
    assert!(figures["measured"].is_null());
    // Of a model that is yet to be made, the tokens are known.
    let cut = taught.replace(
        "hidden_size = 32\nintermediate_size = 64\nnum_hidden_layers = 1\nnum_attention_heads = 2",
        "from = \"cut\"",
    );
    fs::write(at.join("cut.toml"), cut).unwrap();
    let (ok, plan, stderr) = retort(&["distill", "cut.toml", "--plan"], at);
    assert!(ok, "{stderr}");
    assert!(
        plan.starts_with("tokens      192 in 3 steps of 64"),
        "{plan}"
    );
    assert!(plan.contains("--set model.from=DIRECTORY"), "{plan}");
    fs::remove_file(at.join("cut.toml")).unwrap();
    fs::remove_dir_all(at.join("taught")).unwrap();
    assert_eq!(names(at), before);
}

#[test]
fn a_model_is_pruned_and_what_is_left_is_a_model() {
    let dir = workplace();
    let at = dir.path();
    let deeper = ["--set", "model.num_hidden_layers=4"];
    let train = ["train", "recipe.toml", "--run", "r"];
    assert!(retort(&[&train[..], &deeper[..]].concat(), at).0);
    let before = names(at);
    let prune = |more: &str| -> Vec<String> {
        let args = format!("prune r {more}");
        args.split(' ').map(str::to_owned).collect()
    };
    let call = |more: &str| {
        let args = prune(more);
        retort(&args.iter().map(String::as_str).collect::<Vec<_>>(), at)
    };
    let (ok, stdout, stderr) = call("--params 30k --plan");
    assert!(ok && stdout.contains("parameters"), "{stderr}");
    let (ok, stdout, _) = call("--layers 2 --vocab 280 --plan --json");
    let plan: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert!(ok && plan["student"]["layers"] == 2 && plan["parent"]["layers"] == 4);
    assert_eq!(names(at), before, "a plan writes nothing");
    for (more, part) in [
        ("--out s --layers 9", "--layers"),
        ("--out s --layers 2", "--data"),
        ("--out s --layers 2 --data nowhere", "nowhere"),
        ("--out s --vocab 290", "--vocab-from"),
        ("--out s --mlp 16 --device tpu", "tpu"),
    ] {
        let args = prune(more);
        let message = refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), at);
        assert!(message.contains(part), "{more}: {message}");
        assert_eq!(names(at), before, "{more} wrote something");
    }
    let all = "--out s --layers 3 --hidden 16 --heads 1 --mlp 32 --vocab 290 --vocab-from corpus \
               --data corpus --tokens 512 --seq-len 32";
    let (ok, stdout, stderr) = call(&all.split_whitespace().collect::<Vec<_>>().join(" "));
    assert!(ok && stdout == "s\n", "{stdout}{stderr}");
    assert!(stderr.contains("layers kept: 0 "), "{stderr}");
    let from = "model={from=\"s\"}";
    let more = ["--run", "t", "--set", from, "--set", "data.tokenizer=s"];
    let (ok, _, stderr) = retort(&[&["train", "recipe.toml"], &more[..]].concat(), at);
    assert!(ok, "{stderr}");
    let (ok, _, stderr) = retort(&["export", "s", "--out", "s.gguf"], at);
    assert!(ok, "{stderr}");
}

#[test]
fn overrides_are_in_the_resolved_recipe_and_bad_ones_are_refused() {
    let dir = workplace();
    let at = dir.path();
    let set = [
        "train.steps=1",
        "train.schedule=wsd",
        "train.groups=[{parameters=[\"*norm*\"], lr_scale=0.5}]",
    ];
    let mut args = vec!["train", "recipe.toml", "--run", "r"];
    args.extend(set.iter().flat_map(|s| ["--set", *s]));
    let (ok, _, stderr) = retort(&args, at);
    assert!(ok, "{stderr}");
    let resolved = fs::read_to_string(at.join("r/recipe.toml")).unwrap();
    for line in ["steps = 1", "schedule = \"wsd\"", "lr_scale = 0.5"] {
        assert!(resolved.contains(line), "{line}: {resolved}");
    }
    // What was resolved is a recipe.
    assert!(retort(&["train", "r/recipe.toml", "--run", "again"], at).0);
    fs::write(
        at.join("student.toml"),
        format!("{RECIPE}\n[teacher]\npath = \"r/checkpoints/step-1\"\n"),
    )
    .unwrap();
    for (set, part) in [
        ("train.schedule=exponential", "cosine"),
        ("train.optimizer=sgd", "muon"),
        ("train.ema_decay=1", "train.ema_decay"),
        ("train.spike_factor=0.5", "train.spike_factor"),
        ("train.lr", "table.key=value"),
        ("train.lr=fast", "train"),
    ] {
        for command in [["train", "recipe.toml"], ["distill", "student.toml"]] {
            let message = refused(&[command[0], command[1], "--set", set], at);
            assert!(message.contains(part), "{command:?} {set}: {message}");
        }
    }
    let unnamed = ["--set", "train.groups=[{parameters=[\"*.mpl.*\"]}]"];
    let message = refused(&[&["train", "recipe.toml"], &unnamed[..]].concat(), at);
    assert!(message.contains("mlp.up_proj"), "{message}");
}

/// SIGTERM stops with a checkpoint and exit 0; a disk that takes no more (here: files no longer than
/// a few blocks) is one clear error that leaves that checkpoint whole; then the run goes on.
#[cfg(unix)]
#[test]
fn sigterm_saves_and_a_full_disk_leaves_the_last_checkpoint_whole() {
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
