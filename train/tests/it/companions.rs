//! What a checkpoint carries beside weights and tokenizer.

use std::fs;
use std::path::{Path, PathBuf};

use retort_tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{fixture, go, recipe};

const TEMPLATE: &str = "{% for message in messages %}{{ message.content }}{% endfor %}";
const FILES: [&str; 4] = [
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "merges.txt",
];

/// The settings of generation of [`chat_model`].
fn generation() -> Value {
    json!({"eos_token_id": [0, 5], "temperature": 0.6, "top_p": 0.9})
}

/// A small model with everything a chat model has beside its weights.
fn chat_model(dir: &Path) -> PathBuf {
    let trained = go(recipe(&[]), &dir.join("base"), false, 1).checkpoint;
    let model = dir.join("model");
    fs::create_dir(&model).unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        fs::copy(trained.join(name), model.join(name)).unwrap();
    }
    fs::write(model.join(FILES[0]), TEMPLATE).unwrap();
    fs::write(model.join(FILES[1]), generation().to_string()).unwrap();
    fs::write(model.join(FILES[2]), r#"{"eos_token": "<|endoftext|>"}"#).unwrap();
    fs::write(model.join(FILES[3]), "#version: 0.2").unwrap();
    fs::write(model.join("README.md"), "Not a companion.").unwrap();
    model
}

/// Which of [`FILES`] are in `checkpoint`, as they are in `model`.
fn carried(checkpoint: &Path, model: &Path) -> Vec<&'static str> {
    assert!(!checkpoint.join("README.md").exists());
    let bytes = |directory: &Path, name: &str| fs::read(directory.join(name)).ok();
    let same = |name: &&str| bytes(checkpoint, name) == bytes(model, name);
    FILES.into_iter().filter(same).collect()
}

#[test]
fn run_from_a_chat_model_keeps_its_template_and_generation_settings() {
    let dir = tempfile::tempdir().unwrap();
    let model = chat_model(dir.path());
    let from = format!("model={{from={model:?}}}");
    let own = format!("data.tokenizer={model:?}");
    let file = format!("data.tokenizer={:?}", model.join("tokenizer.json"));
    let lora = "lora={rank=2, alpha=2.0, targets=[\"q_proj\"]}";
    let ema = "train.ema_decay=0.9";
    let variants: [&[&str]; 3] = [
        &[&from, &own, ema],
        &[&from, &file, lora],
        // The same tokenizer, elsewhere.
        &[&from],
    ];
    for (i, changes) in variants.into_iter().enumerate() {
        let end = go(
            recipe(changes),
            &dir.path().join(format!("run{i}")),
            false,
            1,
        );
        assert_eq!(carried(&end.checkpoint, &model), FILES, "{changes:?}");
        let ema = end.checkpoint.join("ema");
        assert_eq!(ema.exists(), i == 0);
        if i == 0 {
            assert_eq!(carried(&ema, &model), FILES);
        }
    }
}

#[test]
fn resumed_run_keeps_the_template_when_the_models_directory_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (model, run) = (chat_model(dir.path()), dir.path().join("run"));
    let changes = [
        &format!("model={{from={model:?}}}")[..],
        &format!("data.tokenizer={model:?}"),
        "train.ema_decay=0.9",
    ];
    let whole = go(recipe(&changes), &dir.path().join("whole"), false, u64::MAX);
    let stopped = go(recipe(&changes), &run, false, 5);
    assert!(stopped.stopped);
    let away = dir.path().join("away");
    fs::rename(&model, &away).unwrap();
    let end = go(recipe(&changes), &run, true, u64::MAX);
    for part in ["", "ema"] {
        let checkpoint = end.checkpoint.join(part);
        assert_eq!(carried(&checkpoint, &away), FILES, "{part:?}");
        let bytes = |checkpoint: &Path| fs::read(checkpoint.join(part).join("model.safetensors"));
        assert_eq!(
            bytes(&whole.checkpoint).unwrap(),
            bytes(&end.checkpoint).unwrap()
        );
    }
}

#[test]
fn run_with_another_tokenizer_than_the_models_takes_no_template_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let model = chat_model(dir.path());
    let other = dir.path().join("tokenizer");
    retort_test_kit::write_tokenizer(&other, &fixture().join("corpus"), 290);
    fs::write(other.join("special_tokens_map.json"), "{}").unwrap();
    let changes = [
        &format!("model={{from={model:?}}}")[..],
        &format!("data.tokenizer={other:?}"),
    ];
    let end = go(recipe(&changes), &dir.path().join("run"), false, 1).checkpoint;
    assert_eq!(carried(&end, &model), ["generation_config.json"]);
    let map = fs::read_to_string(end.join("special_tokens_map.json"));
    assert_eq!(map.unwrap(), "{}");
    assert!(!end.join("chat_template.jinja").exists());
}

#[test]
fn new_model_takes_the_template_of_its_tokenizers_directory() {
    let dir = tempfile::tempdir().unwrap();
    let model = chat_model(dir.path());
    let changes = [format!("data.tokenizer={model:?}")];
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    let end = go(recipe(&changes), &dir.path().join("run"), false, 1).checkpoint;
    let expected = [
        "chat_template.jinja",
        "special_tokens_map.json",
        "merges.txt",
    ];
    assert_eq!(carried(&end, &model), expected);
    // How to sample from another model is not its.
    let text = fs::read_to_string(end.join("generation_config.json")).unwrap();
    let settings: Value = serde_json::from_str(&text).unwrap();
    let eot = Tokenizer::from_file(&end, None).unwrap().eot();
    assert_eq!(settings, json!({"bos_token_id": null, "eos_token_id": eot}));
}

/// A template that was put into the tokenizer's configuration is the one that was meant.
#[test]
fn template_in_the_tokenizers_own_configuration_is_not_hidden_by_the_models() {
    let dir = tempfile::tempdir().unwrap();
    let model = chat_model(dir.path());
    let tokenizer = dir.path().join("tokenizer");
    fs::create_dir(&tokenizer).unwrap();
    fs::copy(
        model.join("tokenizer.json"),
        tokenizer.join("tokenizer.json"),
    )
    .unwrap();
    let config = json!({"eos_token": "<|endoftext|>", "chat_template": "other"});
    fs::write(tokenizer.join("tokenizer_config.json"), config.to_string()).unwrap();
    let changes = [
        &format!("model={{from={model:?}}}")[..],
        &format!("data.tokenizer={tokenizer:?}"),
    ];
    let end = go(recipe(&changes), &dir.path().join("run"), false, 1).checkpoint;
    assert!(!end.join("chat_template.jinja").exists());
    let written = Tokenizer::from_file(&end, None).unwrap();
    assert_eq!(written.config()["chat_template"], "other");
    assert_eq!(carried(&end, &model), [FILES[1], FILES[2], FILES[3]]);
}
