//! Low-rank adapters: nothing changes before training, only they are trained, and merged
//! they give the same logits.

use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_format::{ModelConfig, Precision};
use retort_model::{Decoder, LoraConfig, RandomInit, load, load_adapters, save, save_adapters};

fn config(kind: &str) -> ModelConfig {
    let config: ModelConfig = serde_json::from_value(serde_json::json!({
        "model_type": kind, "vocab_size": 33, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4,
        "tie_word_embeddings": kind != "qwen",
    }))
    .unwrap();
    config.resolve().unwrap()
}

fn lora(targets: &[&str]) -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 6.0,
        targets: targets.iter().map(|t| t.to_string()).collect(),
    }
}

fn base(kind: &str, device: &Device) -> Decoder {
    let config = config(kind);
    Decoder::build(&config, &mut RandomInit::new(&config, 3), device)
}

fn ids(device: &Device) -> Tensor<2, Int> {
    let ids = (0..14).map(|i| i * 5 % 33).collect::<Vec<i32>>();
    Tensor::from_data(TensorData::new(ids, [2, 7]), device)
}

fn logits(model: &Decoder, device: &Device) -> Vec<f32> {
    model
        .forward(ids(device))
        .into_data()
        .try_into_vec()
        .unwrap()
}

fn tensors(model: &Decoder) -> Vec<(String, Vec<u8>)> {
    retort_format::tensors(model.config())
        .into_iter()
        .map(|spec| {
            let bytes = model.tensor(&spec, Precision::F32);
            (spec.name, bytes)
        })
        .collect()
}

/// A few steps towards larger logits.
fn train(mut model: Decoder, device: &Device) -> Decoder {
    let mut optimizer = AdamWConfig::new().init();
    for _ in 0..3 {
        let loss = model.forward(ids(device)).square().mean().neg();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.05, model, grads);
    }
    model
}

#[test]
fn lora_trains_adapters_alone_and_merging_keeps_logits() {
    let device = Device::flex().autodiff();
    for kind in ["llama", "qwen", "qwen2"] {
        let targets = match kind {
            "qwen" => ["c_attn", "mlp.w?"],
            _ => ["q_proj", "mlp.*_proj"],
        };
        let model = base(kind, &device);
        let before = logits(&model, &device);
        let weights = tensors(&model);
        let model = model.with_adapters(&lora(&targets), 1).unwrap();
        assert_eq!(logits(&model, &device), before);
        let model = train(model, &device);
        let after = logits(&model, &device);
        assert_ne!(after, before);
        // Saved tensors have the adapters in them: adapted ones changed, others not.
        for ((name, now), (_, then)) in tensors(&model).iter().zip(&weights) {
            let adapted = match kind {
                "qwen" => name.ends_with("c_attn.weight") || name.contains("mlp.w"),
                _ => name.contains("q_proj.weight") || name.contains("mlp."),
            };
            assert_eq!(now != then, adapted, "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &config(kind), &model).unwrap();
        let (_, merged) = load(dir.path(), &device).unwrap();
        for (a, b) in logits(&merged, &device).iter().zip(&after) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        assert_eq!(merged.trainable_parameters(), config(kind).parameters());
        // All of it can be trained again.
        assert_ne!(tensors(&train(merged, &device))[0].1, weights[0].1);
    }
}

#[test]
fn lora_adapters_round_trip_through_files() {
    let device = Device::flex().autodiff();
    let lora = lora(&["q_proj", "model.layers.1.mlp.down_proj"]);
    let model = base("llama", &device).with_adapters(&lora, 1).unwrap();
    assert_eq!(
        model.trainable_parameters(),
        2 * 3 * (16 + 16) + 3 * (24 + 16)
    );
    let model = train(model, &device);
    let dir = tempfile::tempdir().unwrap();
    save_adapters(dir.path(), &model, &lora, "base").unwrap();
    let again = load_adapters(dir.path(), base("llama", &device), &lora).unwrap();
    assert_eq!(logits(&again, &device), logits(&model, &device));
    // The merged model is an ordinary checkpoint.
    save(dir.path(), &config("llama"), &model).unwrap();
    let (_, merged) = load(dir.path(), &device).unwrap();
    assert_eq!(tensors(&merged), tensors(&model));
}

#[test]
fn lora_errors_name_the_field_and_the_layers_there_are() {
    let device = Device::flex();
    let mut wrong = vec![(lora(&["q_prj"]), "no layer is called \"q_prj\"")];
    wrong.push((lora(&[]), "lora.targets"));
    wrong.push((lora(&["["]), "lora.targets"));
    wrong.push((
        LoraConfig {
            rank: 0,
            ..lora(&["q_proj"])
        },
        "lora.rank",
    ));
    wrong.push((
        LoraConfig {
            alpha: f64::NAN,
            ..lora(&["q_proj"])
        },
        "lora.alpha",
    ));
    for (lora, expected) in wrong {
        let outcome = base("llama", &device).with_adapters(&lora, 1);
        let message = outcome.map(drop).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // A head that is the embedding is no layer of its own.
    let tied: ModelConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": 33, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "tie_word_embeddings": true,
    }))
    .unwrap();
    let tied = tied.resolve().unwrap();
    let model = Decoder::build(&tied, &mut RandomInit::new(&tied, 3), &device);
    let message = model.with_adapters(&lora(&["lm_head"]), 1).map(drop);
    let message = message.unwrap_err().to_string();
    assert!(
        message.contains("no layer is called \"lm_head\""),
        "{message}"
    );
}

#[test]
fn lora_adapters_of_fused_layers_and_the_head_round_trip() {
    let device = Device::flex().autodiff();
    let lora = lora(&["c_attn", "w1", "lm_head"]);
    let model = base("qwen", &device).with_adapters(&lora, 1).unwrap();
    let model = train(model, &device);
    let dir = tempfile::tempdir().unwrap();
    save_adapters(dir.path(), &model, &lora, "base").unwrap();
    let again = load_adapters(dir.path(), base("qwen", &device), &lora).unwrap();
    assert_eq!(logits(&again, &device), logits(&model, &device));
    // What PEFT adds to the fused weight from the files is what merging adds to it.
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("adapter_config.json")).unwrap())
            .unwrap();
    let (plain, merged) = (tensors(&base("qwen", &device)), tensors(&model));
    let bytes = std::fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |bytes: &[u8]| -> Vec<f32> {
        let word = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
        bytes.chunks_exact(4).map(word).collect()
    };
    for module in [
        "transformer.h.0.attn.c_attn",
        "transformer.h.1.mlp.w1",
        "lm_head",
    ] {
        let read = |which: &str| {
            let name = format!("base_model.model.{module}.lora_{which}.weight");
            let tensor = file.tensor(&name).unwrap();
            (tensor.shape().to_vec(), floats(tensor.data()))
        };
        let ((a_shape, a), (b_shape, b)) = (read("A"), read("B"));
        let (rank, input, output) = (a_shape[0], a_shape[1], b_shape[0]);
        assert_eq!(b_shape[1], rank);
        let pattern = |key: &str, usual: f64| config[key][module].as_f64().unwrap_or(usual);
        assert_eq!(pattern("rank_pattern", 3.0), rank as f64);
        let scale = (pattern("alpha_pattern", 6.0) / rank as f64) as f32;
        let of = |tensors: &[(String, Vec<u8>)]| {
            let name = format!("{module}.weight");
            floats(&tensors.iter().find(|(n, _)| *n == name).unwrap().1)
        };
        let (before, after) = (of(&plain), of(&merged));
        assert_ne!(before, after);
        for at in 0..output * input {
            let (row, column) = (at / input, at % input);
            let terms = (0..rank).map(|r| b[row * rank + r] * a[r * input + column]);
            let expected = before[at] + scale * terms.sum::<f32>();
            assert!((after[at] - expected).abs() < 1e-5, "{module} {at}");
        }
    }
}

#[test]
fn lora_fused_adapter_that_mixes_q_k_and_v_is_an_error() {
    let device = Device::flex().autodiff();
    let lora = lora(&["c_attn"]);
    let model = base("qwen", &device).with_adapters(&lora, 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    save_adapters(dir.path(), &model, &lora, "base").unwrap();
    let path = dir.path().join("adapter_model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let start = 8 + header;
    let last = bytes.len() - 4;
    // The last row of the last B is v's: its first rank is q's.
    let first_of_last_row = last - 4 * 8;
    assert!(first_of_last_row > start);
    bytes[first_of_last_row..first_of_last_row + 4].copy_from_slice(&1f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let outcome = load_adapters(dir.path(), base("qwen", &device), &lora);
    let message = outcome.map(drop).unwrap_err().to_string();
    assert!(message.contains("mixes q, k and v"), "{message}");
}
