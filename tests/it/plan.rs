//! `--plan`: what a run will take, with and without tokenizer, teacher and model.

use std::fs;

use crate::support::{RECIPE, names, refused, retort, workplace};

#[test]
fn plan_is_printed_and_writes_nothing() {
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
fn plan_works_without_tokenizer_teacher_and_model() {
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
