//! Checkpoint directories: round trip, every problem named at once, nothing panics.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_format::checkpoint::stored_precision;
use retort_format::{ModelConfig, Precision, tensors};
use retort_model::{Decoder, RandomInit, SaveOptions, load, load_as, save, save_as};

fn config(tied: bool) -> ModelConfig {
    serde_json::from_value::<ModelConfig>(serde_json::json!({
        "vocab_size": 33, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied,
        "eos_token_id": 0,
    }))
    .unwrap()
    .resolve()
    .unwrap()
}

fn model(config: &ModelConfig) -> Decoder {
    Decoder::build(config, &mut RandomInit::new(config, 3), &Device::flex())
}

fn logits(model: &Decoder) -> Vec<f32> {
    let ids = TensorData::new((0..14).map(|i| i * 5 % 33).collect::<Vec<i32>>(), [2, 7]);
    let ids = Tensor::<2, Int>::from_data(ids, &Device::flex());
    model.forward(ids).into_data().try_into_vec().unwrap()
}

fn saved(tied: bool) -> (tempfile::TempDir, Decoder) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(tied);
    let model = model(&config);
    save(dir.path(), &config, &model).unwrap();
    (dir, model)
}

fn failure(dir: &Path) -> String {
    load(dir, &Device::flex())
        .map(drop)
        .unwrap_err()
        .to_string()
}

#[test]
fn checkpoint_round_trip_keeps_logits() {
    for tied in [true, false] {
        let (dir, model) = saved(tied);
        let (read, again) = load(dir.path(), &Device::flex()).unwrap();
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            serde_json::to_value(config(tied)).unwrap()
        );
        assert_eq!(logits(&again), logits(&model));
    }
}

#[test]
fn attention_is_causal() {
    let config = config(true);
    let model = model(&config);
    let run = |last: i32| -> Vec<f32> {
        let ids = TensorData::new(vec![1, 2, 3, last], [1, 4]);
        let ids = Tensor::<2, Int>::from_data(ids, &Device::flex());
        model.forward(ids).into_data().try_into_vec().unwrap()
    };
    let (a, b) = (run(4), run(9));
    assert_eq!(a[..3 * 33], b[..3 * 33]);
    assert_ne!(a[3 * 33..], b[3 * 33..]);
}

#[test]
fn built_model_has_the_tensors_of_its_config() {
    for tied in [true, false] {
        let config = config(tied);
        let model = model(&config);
        for spec in tensors(&config) {
            let bytes = model.tensor(&spec, Precision::Bf16);
            assert_eq!(bytes.len(), spec.elements() * 2);
        }
        assert_eq!(model.trainable_parameters(), config.parameters());
    }
}

/// One of every architecture, with what it adds.
fn architectures() -> Vec<ModelConfig> {
    let rope = serde_json::json!({"rope_type": "linear", "factor": 2.0});
    [
        serde_json::json!({"attention_bias": true, "mlp_bias": true, "rope_scaling": rope}),
        serde_json::json!({"model_type": "qwen", "num_key_value_heads": 4, "seq_length": 16,
            "use_dynamic_ntk": true, "use_logn_attn": true, "tie_word_embeddings": false}),
        serde_json::json!({"model_type": "qwen2"}),
        serde_json::json!({"model_type": "qwen3", "head_dim": 6, "tie_word_embeddings": false}),
    ]
    .into_iter()
    .map(|changes| {
        let mut v = serde_json::to_value(config(true)).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            v[key] = value.clone();
        }
        let head_dim = changes.get("head_dim").cloned().unwrap_or(0.into());
        v["head_dim"] = head_dim;
        serde_json::from_value::<ModelConfig>(v)
            .unwrap()
            .resolve()
            .unwrap()
    })
    .collect()
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| {
            let path = e.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn checkpoint_loaded_and_saved_again_is_the_same_bytes() {
    for config in architectures() {
        for (precision, max_shard_bytes) in [
            (Precision::F32, 5_000_000_000),
            (Precision::Bf16, 3_000),
            (Precision::F16, 1),
        ] {
            let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
            fs::write(first.path().join("tokenizer.json"), "{}").unwrap();
            fs::write(first.path().join("chat_template.jinja"), "{{ x }}").unwrap();
            let mut options = SaveOptions {
                precision,
                max_shard_bytes,
                source: None,
            };
            save_as(first.path(), &config, &model(&config), &options).unwrap();
            assert_eq!(stored_precision(first.path()).unwrap(), precision);
            let sharded = first.path().join("model.safetensors.index.json").exists();
            assert_eq!(sharded, max_shard_bytes < 5_000);
            for held in [precision, Precision::F32] {
                let (read, again) = load_as(first.path(), &Device::flex(), held).unwrap();
                options.source = Some(first.path());
                save_as(second.path(), &read, &again, &options).unwrap();
                assert_eq!(files(first.path()), files(second.path()));
            }
        }
    }
}

#[test]
fn half_precision_weights_give_the_logits_of_the_same_f32_weights() {
    for config in architectures() {
        for precision in [Precision::Bf16, Precision::F16] {
            let dir = tempfile::tempdir().unwrap();
            let options = SaveOptions {
                precision,
                ..SaveOptions::default()
            };
            save_as(dir.path(), &config, &model(&config), &options).unwrap();
            let (_, wide) = load(dir.path(), &Device::flex()).unwrap();
            let (_, half) = load_as(dir.path(), &Device::flex(), precision).unwrap();
            assert_eq!(logits(&wide), logits(&half));
        }
    }
}

#[test]
fn config_json_keys_of_other_tools_survive_a_round_trip() {
    let (dir, _) = saved(true);
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replacen('{', "{\n  \"someones\": {\"a\": [1e-3]},", 1);
    fs::write(&path, text).unwrap();
    let (config, model) = load(dir.path(), &Device::flex()).unwrap();
    let other = tempfile::tempdir().unwrap();
    save(other.path(), &config, &model).unwrap();
    let text = fs::read_to_string(other.path().join("config.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["someones"]["a"][0], 1e-3);
}

#[test]
fn lm_head_of_a_tied_checkpoint_must_equal_the_embedding() {
    let (dir, _) = saved(false);
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace(
        "\"tie_word_embeddings\": false",
        "\"tie_word_embeddings\": true",
    );
    fs::write(&path, text).unwrap();
    let message = failure(dir.path());
    assert!(message.contains("tie_word_embeddings"), "{message}");
}

#[test]
fn oversized_config_is_an_error_before_any_allocation() {
    let (dir, _) = saved(false);
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("\"vocab_size\": 33", "\"vocab_size\": 16777216")
        .replace(
            "\"intermediate_size\": 24",
            "\"intermediate_size\": 16777216",
        );
    fs::write(&path, text).unwrap();
    let message = failure(dir.path());
    assert!(message.contains("expected [16777216, 16]"), "{message}");
}

#[test]
fn safetensors_missing_shard_is_an_error_naming_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(false);
    let options = SaveOptions {
        max_shard_bytes: 2_000,
        ..SaveOptions::default()
    };
    save_as(dir.path(), &config, &model(&config), &options).unwrap();
    let shards = files(dir.path());
    let shard = shards
        .iter()
        .find(|(n, _)| n.starts_with("model-00001"))
        .unwrap();
    fs::remove_file(dir.path().join(&shard.0)).unwrap();
    let message = failure(dir.path());
    assert!(message.contains(&shard.0), "{message}");
}

#[test]
fn wrong_tensors_are_all_named_in_one_error() {
    let (dir, _) = saved(false);
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")
        .replace("\"intermediate_size\": 24", "\"intermediate_size\": 25");
    fs::write(&path, text).unwrap();
    let message = failure(dir.path());
    for part in [
        "model.layers.2.self_attn.q_proj.weight is missing",
        "model.layers.0.mlp.gate_proj.weight is [24, 16], expected [25, 16]",
        "model.layers.1.mlp.down_proj.weight is [16, 24], expected [16, 25]",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
}

#[test]
fn extra_tensor_is_an_error_naming_it() {
    let (dir, _) = saved(false);
    let path = dir.path().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"),
    )
    .unwrap();
    let message = failure(dir.path());
    assert!(
        message.contains("model.layers.1.self_attn.q_proj.weight is not part"),
        "{message}"
    );
}

#[test]
fn truncated_safetensors_is_an_error_at_every_length() {
    let (dir, _) = saved(true);
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let message = failure(dir.path());
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn missing_directory_is_an_error_naming_the_file() {
    let message = failure(Path::new("no/such/model"));
    assert!(message.contains("no/such/model/config.json"), "{message}");
}

#[test]
fn random_init_depends_on_the_seed_alone() {
    let config = config(true);
    let build = |seed| {
        let mut init = RandomInit::new(&config, seed);
        logits(&Decoder::build(&config, &mut init, &Device::flex()))
    };
    assert_eq!(build(3), build(3));
    assert_ne!(build(3), build(4));
}
