//! Forward passes that must agree: packed documents and documents alone, with a cache and
//! without, the head on all positions and on some.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use retort_format::{ModelConfig, Precision};
use retort_model::{Cache, Decoder, Documents, RandomInit, generate};

fn config(changes: serde_json::Value) -> ModelConfig {
    let mut v = serde_json::json!({
        "vocab_size": 53, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
        "num_attention_heads": 4, "initializer_range": 0.4,
    });
    for (key, value) in changes.as_object().unwrap() {
        v[key] = value.clone();
    }
    let config: ModelConfig = serde_json::from_value(v).unwrap();
    config.resolve().unwrap()
}

fn configs() -> Vec<ModelConfig> {
    vec![
        config(serde_json::json!({"num_key_value_heads": 2})),
        config(serde_json::json!({"model_type": "qwen", "seq_length": 8,
            "use_dynamic_ntk": true, "use_logn_attn": true})),
        config(serde_json::json!({"model_type": "qwen2", "num_key_value_heads": 1})),
        config(serde_json::json!({"model_type": "qwen3", "head_dim": 6})),
    ]
}

fn model(config: &ModelConfig) -> Decoder {
    Decoder::build(config, &mut RandomInit::new(config, 8), &Device::flex())
}

fn tensor(ids: &[i32], rows: usize) -> Tensor<2, Int> {
    let data = TensorData::new(ids.to_vec(), [rows, ids.len() / rows]);
    Tensor::from_data(data, &Device::flex())
}

fn vec<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().try_into_vec().unwrap()
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 2e-4 * b.abs().max(1.0), "{a} {b}");
    }
}

#[test]
fn packed_documents_give_the_logits_of_each_document_alone() {
    // Lengths of documents in two rows of 12; none is past the first Qwen's 8.
    let rows = [[5, 4, 3], [1, 8, 3]];
    let ids: Vec<i32> = (0..24).map(|i| (i * 17 + 3) % 53).collect();
    let (mut segments, mut positions) = (Vec::new(), Vec::new());
    for row in rows {
        for (segment, length) in row.into_iter().enumerate() {
            segments.extend((0..length).map(|_| segment as i32));
            positions.extend(0..length);
        }
    }
    let documents = Documents::new(&segments, &positions, [2, 12]);
    for config in configs() {
        let model = model(&config);
        let packed = vec(model.logits(model.hidden_packed(tensor(&ids, 2), &documents)));
        let mut alone = Vec::new();
        let mut first = 0;
        for length in rows.into_iter().flatten() {
            let end = first + length as usize;
            alone.extend(vec(model.forward(tensor(&ids[first..end], 1))));
            first = end;
        }
        assert_close(&packed, &alone);
        // And they are not what the rows give without documents.
        let crossing = vec(model.forward(tensor(&ids, 2)));
        let largest = crossing.iter().zip(&packed).map(|(a, b)| (a - b).abs());
        assert!(largest.fold(0.0, f32::max) > 1e-2);
    }
}

#[test]
fn kv_cache_gives_the_logits_of_one_pass() {
    let ids: Vec<i32> = (0..14).map(|i| (i * 5 + 1) % 53).collect();
    for mut config in configs() {
        // Dynamic scaling is generate's to handle; here the base stays.
        config.use_dynamic_ntk = false;
        let model = model(&config);
        let whole = vec(model.hidden(tensor(&ids, 1)));
        let mut cache = Cache::default();
        let mut parts = Vec::new();
        for part in [&ids[..6], &ids[6..7], &ids[7..12], &ids[12..]] {
            parts.extend(vec(model.hidden_cached(tensor(part, 1), &mut cache)));
        }
        assert_eq!(cache.len(), 14);
        assert_close(&parts, &whole);
    }
}

#[test]
fn generate_with_a_cache_equals_generate_without() {
    for mut config in configs() {
        config.max_position_embeddings = 20;
        let model = model(&config);
        let prompt = [3, 1, 4, 1, 5];
        let mut ids: Vec<i32> = prompt.to_vec();
        let mut expected = Vec::new();
        // Past the first Qwen's 8 and 16, where its base changes, and past the window of 20,
        // which then moves on by 10.
        for _ in 0..22 {
            let first = if ids.len() > 20 { 10 } else { 0 };
            let logits = model.forward(tensor(&ids[first..], 1));
            let last = vec(logits.narrow(1, ids.len() - first - 1, 1));
            let best = (0..53)
                .max_by(|&a, &b| last[a].total_cmp(&last[b]))
                .unwrap();
            expected.push(best as u32);
            ids.push(best as i32);
        }
        let mut got = Vec::new();
        let prompt = prompt.map(|id| id as u32);
        let device = Device::flex();
        generate(&config, &model, &device, &prompt, 22, (0.0, 0), |id| {
            got.push(id);
            true
        });
        assert_eq!(got, expected, "{:?}", config.model_type);
    }
}

#[test]
fn logits_at_positions_equal_their_rows_of_all_logits() {
    let ids: Vec<i32> = (0..14).map(|i| (i * 5 + 1) % 53).collect();
    for tied in [true, false] {
        let config = config(serde_json::json!({"tie_word_embeddings": tied}));
        let model = model(&config);
        let hidden = model.hidden(tensor(&ids, 2));
        let all = vec(model.logits(hidden.clone()));
        let at = Tensor::<1, Int>::from_data(TensorData::from([9, 0, 13]), &Device::flex());
        let some = model.logits_at(hidden, at);
        assert_eq!(some.dims(), [3, 53]);
        let expected: Vec<f32> = [9, 0, 13]
            .iter()
            .flat_map(|p| &all[p * 53..][..53])
            .copied()
            .collect();
        assert_close(&vec(some), &expected);
    }
}

/// In bfloat16 the logits differ, but by its rounding alone; gradients come back in single precision.
#[test]
fn bf16_compute_is_close_to_f32() {
    let ids: Vec<i32> = (0..24).map(|i| (i * 17 + 3) % 53).collect();
    for config in configs() {
        let device = Device::flex().autodiff();
        let full = Decoder::build(&config, &mut RandomInit::new(&config, 8), &device);
        let half = full.clone().with_compute(Precision::Bf16);
        let of = |model: &Decoder| {
            let data = TensorData::new(ids.clone(), [3, 8]);
            let logits = model.forward(Tensor::from_data(data, &device));
            assert_eq!(logits.dtype(), DType::F32);
            let grads = logits.clone().sin().sum().backward();
            let weight = &model.layers[1].self_attn.k_proj.weight;
            let grad = weight.val().grad(&grads).unwrap();
            assert_eq!(grad.dtype(), DType::F32);
            (vec(logits), vec(grad))
        };
        let ((a, da), (b, db)) = (of(&full), of(&half));
        // Three layers of large weights make more of a rounding error on the way back.
        for (a, b, bound) in [(a, b, 0.05), (da, db, 0.2)] {
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
            let size = norm(&mut a.iter().copied());
            let error = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b));
            let share = error / size;
            assert!(
                (1e-4..bound).contains(&share),
                "{:?} {share}",
                config.model_type
            );
        }
    }
}
