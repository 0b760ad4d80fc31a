//! Weights that are rounded before they are used: what is computed is what is saved, the latent
//! weights survive, and widths that do not divide are refused.

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_format::ModelConfig;
use retort_model::{
    ActivationFormat, Cache, Decoder, FakeQuantization, KvFormat, RandomInit, Scales, WeightFormat,
    load, load_latent, save, save_latent,
};

fn config(width: usize, tied: bool) -> ModelConfig {
    let config: ModelConfig = serde_json::from_value(serde_json::json!({
        "model_type": "qwen2", "vocab_size": 33, "hidden_size": width, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "tie_word_embeddings": tied,
        "initializer_range": 0.3,
    }))
    .unwrap();
    config.resolve().unwrap()
}

fn model(config: &ModelConfig, device: &Device) -> Decoder {
    Decoder::build(config, &mut RandomInit::new(config, 3), device)
}

fn quantization(weights: WeightFormat, activations: ActivationFormat) -> Option<FakeQuantization> {
    Some(FakeQuantization {
        weights,
        scales: Scales::Largest,
        activations,
        kv: KvFormat::Float32,
    })
}

fn ids(device: &Device) -> Tensor<2, Int> {
    let ids = (0..14).map(|i| i * 5 % 33).collect::<Vec<i32>>();
    Tensor::from_data(TensorData::new(ids, [2, 7]), device)
}

fn logits(model: &Decoder, device: &Device) -> Vec<f32> {
    let logits = model.forward(ids(device));
    logits.into_data().try_into_vec().unwrap()
}

/// How far apart, as a share of the largest.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let largest = a.iter().fold(0f32, |m, x| m.max(x.abs()));
    let pairs = a.iter().zip(b);
    pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn saved_fake_quantized_model_computes_the_same_logits() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        for (tied, weights) in [(true, WeightFormat::Q4_0), (false, WeightFormat::Q8_0)] {
            let config = config(32, tied);
            let plain = model(&config, &device);
            let q = quantization(weights, ActivationFormat::Float32);
            let rounded = plain.clone().with_fake_quantization(q).unwrap();
            let directory = tempfile::tempdir().unwrap();
            save(directory.path(), &config, &rounded).unwrap();
            save_latent(directory.path(), &rounded).unwrap();

            let (_, loaded) = load(directory.path(), &device).unwrap();
            assert_eq!(logits(&loaded, &device), logits(&rounded, &device));
            let moved = distance(&logits(&plain, &device), &logits(&rounded, &device));
            let least = if weights == WeightFormat::Q4_0 {
                0.01
            } else {
                1e-4
            };
            assert!(moved > least && moved < 0.5, "{moved}");
            // On the grid already: nothing more happens to it.
            let again = loaded.with_fake_quantization(q).unwrap();
            assert!(distance(&logits(&again, &device), &logits(&rounded, &device)) < 1e-3);

            let (_, latent) = load_latent(directory.path(), &device).unwrap();
            assert_eq!(logits(&latent, &device), logits(&plain, &device));
            let back = rounded.with_fake_quantization(None).unwrap();
            assert_eq!(logits(&back, &device), logits(&plain, &device));
        }
    }
}

#[test]
fn int8_activations_change_logits_a_little_and_losses_equal_those_of_the_logits() {
    let device = Device::flex().autodiff();
    for tied in [true, false] {
        let config = config(32, tied);
        let weights_alone = quantization(WeightFormat::Q4_0, ActivationFormat::Float32);
        let both = quantization(WeightFormat::Q4_0, ActivationFormat::Int8);
        let [alone, both] = [weights_alone, both]
            .map(|q| model(&config, &device).with_fake_quantization(q).unwrap());
        let moved = distance(&logits(&alone, &device), &logits(&both, &device));
        assert!(moved > 1e-4 && moved < 0.05, "{moved}");

        let (targets, ones) = (ids(&device), Tensor::<2>::ones([2, 7], &device));
        let fused = both.cross_entropy(both.hidden(ids(&device)), targets.clone(), ones);
        let logits = both.forward(ids(&device)).reshape([14, 33]);
        let ones = Tensor::<1>::ones([14], &device);
        let composed = retort_model::cross_entropy(logits, targets.reshape([14]), ones);
        let (fused, composed): (f32, f32) = (fused.into_scalar(), composed.into_scalar());
        assert!((fused / composed - 1.0).abs() < 1e-5, "{fused} {composed}");
    }
}

#[test]
fn fake_quantization_refuses_widths_that_blocks_do_not_divide() {
    let config = config(40, true);
    let q = quantization(WeightFormat::Q4_0, ActivationFormat::Float32);
    let error = model(&config, &Device::flex()).with_fake_quantization(q);
    let message = error.unwrap_err().to_string();
    assert!(message.contains("q_proj has 40 inputs"), "{message}");
}

#[test]
fn fake_kv_cache_gives_the_same_logits_at_once_and_token_by_token() {
    let config = config(64, true);
    let exact = quantization(WeightFormat::Q4_0, ActivationFormat::Float32);
    let kv = exact.map(|q| FakeQuantization {
        kv: KvFormat::Q8,
        ..q
    });
    // Cached passes compose attention of Burn's operations.
    for device in [Device::flex(), Device::flex().autodiff()] {
        let [exact, rounded] = [exact, kv].map(|q| {
            let model = model(&config, &device);
            model.with_fake_quantization(q).unwrap()
        });
        let row: Vec<i32> = (0..150).map(|i| i * 7 % 33).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(row, [1, 150]), &device);
        let numbers =
            |logits: Tensor<3>| -> Vec<f32> { logits.into_data().try_into_vec().unwrap() };
        let at_once = numbers(rounded.forward(ids.clone()));
        let moved = distance(&numbers(exact.forward(ids.clone())), &at_once);
        assert!(moved > 1e-5 && moved < 0.05, "{moved}");
        for cut in [1, 40] {
            let mut cache = Cache::default();
            let parts = (0..150).step_by(cut).map(|first| {
                let part = ids.clone().narrow(1, first, cut.min(150 - first));
                rounded.logits(rounded.hidden_cached(part, &mut cache))
            });
            let parts = numbers(Tensor::cat(parts.collect(), 1));
            assert!(distance(&parts, &at_once) < 1e-3, "{cut}");
        }
    }
}
