//! Checkpoint directories: round trip, every problem named at once, nothing panics.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_model::{Llama, ModelConfig, RandomInit, load, save};

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

fn model(config: &ModelConfig) -> Llama {
    Llama::build(config, &mut RandomInit::new(config, 3), &Device::flex())
}

fn logits(model: &Llama) -> Vec<f32> {
    let ids = TensorData::new((0..14).map(|i| i * 5 % 33).collect::<Vec<i32>>(), [2, 7]);
    let ids = Tensor::<2, Int>::from_data(ids, &Device::flex());
    model.forward(ids).into_data().try_into_vec().unwrap()
}

fn saved(tied: bool) -> (tempfile::TempDir, Llama) {
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
fn a_saved_model_loads_with_the_same_logits() {
    for tied in [true, false] {
        let (dir, model) = saved(tied);
        let (read, again) = load(dir.path(), &Device::flex()).unwrap();
        assert_eq!(read, config(tied));
        assert_eq!(logits(&again), logits(&model));
    }
}

#[test]
fn a_position_does_not_see_the_ones_after_it() {
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
fn the_built_model_has_the_parameters_that_the_config_counts() {
    for tied in [true, false] {
        let config = config(tied);
        let mut n = 0;
        model(&config)
            .for_each_tensor(|_, shape, values| {
                assert_eq!(shape.iter().product::<usize>(), values.len());
                n += values.len();
                Ok::<_, ()>(())
            })
            .unwrap();
        assert_eq!(n, config.parameters().0);
    }
}

#[test]
fn every_wrong_tensor_is_named_in_one_error() {
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
fn an_extra_tensor_is_named() {
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
fn a_cut_file_is_an_error_at_every_length() {
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
fn a_missing_directory_names_the_file() {
    let message = failure(Path::new("no/such/model"));
    assert!(message.contains("no/such/model/config.json"), "{message}");
}

#[test]
fn the_seed_and_nothing_else_decides_the_initial_weights() {
    let config = config(true);
    let build = |seed| {
        let mut init = RandomInit::new(&config, seed);
        logits(&Llama::build(&config, &mut init, &Device::flex()))
    };
    assert_eq!(build(3), build(3));
    assert_ne!(build(3), build(4));
}
