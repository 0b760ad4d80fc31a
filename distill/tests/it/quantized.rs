//! Fake quantization in distillation: runs resume, and the exported file computes what was
//! trained.

use std::fs;
use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData};
use retort_distill::TeacherConfig;
use retort_engine::decoder::{Engine, EngineSettings, KvType};
use retort_format::GgmlType;
use retort_format::gguf::Gguf;
use retort_format::quant::{dequantize_row, quantize_row};
use retort_model::{ActivationFormat, FakeQuantization, KvFormat, Scales, WeightFormat};
use retort_train::{CrossEntropy, Recipe};

use crate::fixture::{as_gguf, assert_resume_is_exact, loss_part, tokenizer, train_recipe};

fn recipe(dir: &Path, tokens: &Path, parent: &Path) -> Recipe {
    let text = r#"
        [data]
        source = "-"
        tokenizer = "-"
        seq_len = 32
        [model]
        from = "-"
        [quantize]
        weights = "q4_0"
        scales = "nearest"
        activations = "int8"
        [train]
        steps = 30
        batch_size = 4
        lr = 2e-3
        [teacher]
        path = "-"
        [teacher.losses]
        forward_kl = 1.0
    "#;
    let set = [
        format!("data.source={:?}", dir.join("corpus")),
        format!("data.tokenizer={tokens:?}"),
        format!("model.from={parent:?}"),
        format!("teacher.path={parent:?}"),
    ];
    Recipe::parse::<TeacherConfig>(text, Path::new("test.toml"), &set).unwrap()
}

/// The bytes of the tensors in a safetensors file, by name.
fn tensors(file: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(file).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = all
        .iter()
        .map(|(name, view)| (name.to_owned(), view.data().to_vec()))
        .collect();
    all.sort();
    all
}

#[test]
fn fake_quantized_student_recovers_and_its_export_is_bit_for_bit_what_was_trained() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let tokens = tokenizer(dir, 300);
    // Large weights at random make outputs that rounding spoils.
    let wild = [
        "model.initializer_range=0.3".to_owned(),
        "train.lr=3e-3".to_owned(),
    ];
    let parent = crate::fixture::recipe(dir, &tokens, &wild);
    let parent = train_recipe(parent, &dir.join("parent"), &CrossEntropy)
        .0
        .checkpoint;
    let recipe = recipe(dir, &tokens, &parent);
    let files = ["model.safetensors", "latent.safetensors"];
    let end = assert_resume_is_exact(&recipe, dir, &[11], &files).checkpoint;

    // The first step has what plain rounding costs.
    let kl = loss_part(&dir.join("whole"), "forward_kl");
    let last = kl[25..].iter().sum::<f64>() / 5.0;
    assert!(last < 0.8 * kl[0], "{} -> {last}", kl[0]);

    // Rounded once more nothing changes: the file holds the very weights of the checkpoint.
    let file = as_gguf(&end, GgmlType::Q4_0);
    let imported = dir.join("imported");
    let settings = retort_convert::import::ImportSettings::default();
    retort_convert::import::import(&file, &imported, &settings, |_| {}).unwrap();
    let [ours, theirs, latent] = [
        end.join("model.safetensors"),
        imported.join("model.safetensors"),
        end.join("latent.safetensors"),
    ]
    .map(|file| tensors(&file));
    assert!(ours == theirs, "an export rounded");
    assert!(ours != latent, "the latent weights are others");

    // And the engine computes what the model did in training, to what f32 adds up to: an integer may
    // fall the other way where two sums differ in their last digit.
    let device = retort_train::device("cpu").unwrap();
    let (_, model) = retort_model::load_latent(&end, &device).unwrap();
    const LENGTH: usize = 150;
    let row = || (0..LENGTH as u32).map(|i| (i * 37 + 11) % 300);
    let of = |activations, kv| {
        let quantization = FakeQuantization {
            weights: WeightFormat::Q4_0,
            scales: Scales::Nearest,
            activations,
            kv,
        };
        let model = model
            .clone()
            .with_fake_quantization(Some(quantization))
            .unwrap();
        let ids: Vec<i32> = row().map(|id| id as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, LENGTH]), &device);
        let logits: Vec<f32> = model.forward(ids).into_data().try_into_vec().unwrap();
        logits
    };
    let engines = |kv| {
        let settings = EngineSettings::new(None, false, kv).unwrap();
        let engine = Engine::with(Gguf::open(&file).unwrap(), settings).unwrap();
        let mut logits = Vec::new();
        let mut session = engine.session(LENGTH).unwrap();
        let ids: Vec<u32> = row().collect();
        session
            .forward_all(&ids, 0, |_, rows| logits.extend_from_slice(rows))
            .unwrap();
        logits
    };
    let distance = |a: &[f32], b: &[f32]| {
        let largest = b.iter().fold(0f32, |m, x| m.max(x.abs()));
        let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
        (sum / a.len() as f32).sqrt() / largest
    };
    let exact = engines(KvType::F32);
    let int8 = of(ActivationFormat::Int8, KvFormat::Float32);
    let float = of(ActivationFormat::Float32, KvFormat::Float32);
    let (near, far) = (distance(&int8, &exact), distance(&float, &exact));
    assert!(near < 1e-4, "{near}");
    assert!(far > near, "{far} {near}");

    // So it is with keys and values of 8 bits, which are further from what was trained without them.
    let rounded = engines(KvType::Q8);
    let kv = of(ActivationFormat::Int8, KvFormat::Q8);
    let (near, far) = (distance(&kv, &rounded), distance(&int8, &rounded));
    assert!(near < 1e-4, "{near}");
    assert!(far > near, "{far} {near}");
}

/// The trainer rounds down the columns of transposed weights, an export along rows: both must cut the
/// same blocks and choose the same format for every tensor.
#[test]
fn fake_quantized_weights_are_the_engines_bit_for_bit() {
    let device = retort_train::device("cpu").unwrap();
    let width = 64;
    let config: retort_format::ModelConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": 100, "hidden_size": width, "intermediate_size": 96,
        "num_hidden_layers": 1, "num_attention_heads": 2, "tie_word_embeddings": false,
    }))
    .unwrap();
    let config = config.resolve().unwrap();
    let mut init = retort_model::RandomInit::new(&config, 5);
    let latent = retort_model::Decoder::build(&config, &mut init, &device);
    for (weights, scales) in [
        (WeightFormat::Q4_0, Scales::Largest),
        (WeightFormat::Q4_0, Scales::Nearest),
        (WeightFormat::Q8_0, Scales::Largest),
    ] {
        let quantization = FakeQuantization {
            weights,
            scales,
            activations: ActivationFormat::Float32,
            kv: KvFormat::Float32,
        };
        let used = latent
            .clone()
            .with_fake_quantization(Some(quantization))
            .unwrap();
        let values = |model: &retort_model::Decoder| {
            let specs = retort_format::tensors(model.config()).into_iter();
            let each = specs.map(|spec| {
                let bytes = model.tensor(&spec, retort_format::Precision::F32);
                let (numbers, _) = bytes.as_chunks::<4>();
                let numbers: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
                (spec.name, spec.shape, numbers)
            });
            each.collect::<Vec<_>>()
        };
        for ((name, shape, latent), (_, _, used)) in values(&latent).iter().zip(values(&used)) {
            let table = name.contains("embed") || name.contains("lm_head");
            let ty = match (shape.len(), weights) {
                (1, _) => GgmlType::F32,
                (_, WeightFormat::Q4_0) if !table => GgmlType::Q4_0,
                _ => GgmlType::Q8_0,
            };
            // With searched scales it is the used weights that the engine keeps.
            let given = match scales {
                Scales::Largest => latent,
                Scales::Nearest => &used,
            };
            let mut bytes = Vec::new();
            quantize_row(ty, given, &mut bytes).unwrap();
            let mut engines = vec![0.0; latent.len()];
            dequantize_row(ty, &bytes, &mut engines).unwrap();
            let bits = |v: &[f32]| v.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
            assert!(bits(&engines) == bits(&used), "{name} in {ty}");
        }
    }
}
