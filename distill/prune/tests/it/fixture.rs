//! Tiny parents with parts that do nothing, a corpus and a tokenizer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_data::{Shards, SourceOptions, stories};
use retort_format::checkpoint::{TensorHeader, write_config, write_weights};
use retort_format::{Axis, Kind, ModelConfig, Precision, TensorSpec, tensors};
use retort_model::load;
use retort_prune::{PruneOptions, PruneReport, Result, TextSource, prune};
use retort_test_kit::Random;
use serde_json::json;

pub const VOCABULARY: usize = 400;
pub const KINDS: [&str; 4] = ["llama", "qwen", "qwen2", "qwen3"];

/// The parts of a parent that do nothing.
#[derive(Default)]
pub struct Idle {
    pub hidden: Vec<usize>,
    /// Of each layer: key/value heads.
    pub kv_heads: Vec<Vec<usize>>,
    /// Of each layer: channels of the feed-forward block.
    pub mlp: Vec<Vec<usize>>,
    /// Layers that add nothing to the residual stream.
    pub layers: Vec<usize>,
}

pub fn config(kind: &str, tied: bool) -> ModelConfig {
    let mut v = json!({
        "model_type": kind, "vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 20,
        "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3,
        "head_dim": 4, "tie_word_embeddings": tied, "max_position_embeddings": 128,
        "eos_token_id": 0,
    });
    match kind {
        "llama" => (v["attention_bias"], v["mlp_bias"]) = (true.into(), true.into()),
        "qwen" => (v["num_key_value_heads"], v["intermediate_size"]) = (6.into(), 40.into()),
        _ => {}
    }
    let config: ModelConfig = serde_json::from_value(v).unwrap();
    config.resolve().unwrap()
}

/// Numbers that look random, from -1 to 1.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut random = Random::new(seed);
    move || random.f32()
}

fn values(config: &ModelConfig, spec: &TensorSpec, idle: &Idle) -> Vec<f32> {
    let seed = spec.name.bytes().fold(7, |h: u64, b| h * 31 + u64::from(b));
    let mut next = noise(seed);
    let width = spec.shape.get(1).copied().unwrap_or(1);
    let group = config.num_attention_heads / config.num_key_value_heads;
    let none = Vec::new();
    let of = |list: &'_ [Vec<usize>], layer: Option<usize>| {
        layer.and_then(|l| list.get(l)).unwrap_or(&none).clone()
    };
    let (groups, inner) = (
        of(&idle.kv_heads, spec.layer()),
        of(&idle.mlp, spec.layer()),
    );
    let adds_nothing = spec
        .layer()
        .is_some_and(|layer| idle.layers.contains(&layer));
    let is_idle = |dimension, i: usize, writes: bool| match dimension {
        Axis::Hidden => writes && (adds_nothing || idle.hidden.contains(&i)),
        Axis::Queries => groups.contains(&(i / (config.head_dim * group))),
        Axis::Keys => groups.contains(&(i / config.head_dim)),
        Axis::Inner => inner.contains(&i),
        Axis::Vocabulary | Axis::Head => false,
    };
    let embeds = spec.kind == Kind::Table && !spec.name.starts_with("lm_head");
    let mut out = Vec::new();
    for extent in spec.axes() {
        for row in 0..extent.rows.len() {
            for column in 0..width {
                let value = next();
                let idle = match spec.kind {
                    Kind::Norm => false,
                    _ if is_idle(extent.output, row, true) => true,
                    _ => extent.input.is_some_and(|d| {
                        is_idle(d, column, false) || embeds && idle.hidden.contains(&column)
                    }),
                };
                out.push(match spec.kind {
                    _ if idle => 0.0,
                    Kind::Norm => 1.0 + 0.3 * value,
                    Kind::Table => value,
                    _ => 0.5 * value,
                });
            }
        }
    }
    out
}

/// A corpus, a tokenizer, and parents made from them.
pub struct Fixture(pub tempfile::TempDir);

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let corpus = dir.path().join("corpus");
        stories::write_parquet(&corpus, &stories::generate(1, 300), 1).unwrap();
        let shards = Shards::resolve(corpus.to_str().unwrap(), &SourceOptions::default());
        let tokenizer =
            retort_data::train_tokenizer(&Arc::new(shards.unwrap()), VOCABULARY, &|_| {}).unwrap();
        assert_eq!(tokenizer.vocab_size(), VOCABULARY);
        tokenizer.save(dir.path().join("tokenizer")).unwrap();
        Self(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self) -> TextSource {
        TextSource {
            source: self.path("corpus").to_str().unwrap().to_owned(),
            tokens: 1024,
        }
    }

    pub fn parent(
        &self,
        name: &str,
        config: &ModelConfig,
        idle: &Idle,
        precision: Precision,
    ) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir(&dir).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(self.path("tokenizer").join(file), dir.join(file)).unwrap();
        }
        write_config(&dir, config, precision).unwrap();
        // Several shards.
        let specs = tensors(config);
        let headers = TensorHeader::all(&specs, precision);
        write_weights(&dir, &headers, 20_000, |i, sink| {
            let values = values(config, &specs[i], idle).into_iter();
            let bytes: Vec<u8> = match precision {
                Precision::F32 => values.flat_map(f32::to_le_bytes).collect(),
                // Cut rather than rounded.
                _ => values
                    .flat_map(|v| [v.to_le_bytes()[2], v.to_le_bytes()[3]])
                    .collect(),
            };
            sink.write(&bytes)
        })
        .unwrap();
        dir
    }

    pub fn options(&self) -> PruneOptions {
        PruneOptions {
            calibration_text: Some(self.text()),
            vocabulary_text: Some(self.text()),
            seq_len: 32,
            ..PruneOptions::default()
        }
    }
}

pub fn cut(parent: &Path, out: &Path, options: &PruneOptions) -> Result<PruneReport> {
    let stop = AtomicBool::new(false);
    prune(parent, out, options, &Device::flex(), &stop, &|_| {})
}

/// Logits of 14 ids below 200 in two rows, each position's in turn.
pub fn logits(dir: &Path) -> Vec<Vec<f32>> {
    let (config, model) = load(dir, &Device::flex()).unwrap();
    let ids = TensorData::new((0..14).map(|i| i * 13 % 200).collect::<Vec<i32>>(), [2, 7]);
    let ids = Tensor::<2, Int>::from_data(ids, &Device::flex());
    let values: Vec<f32> = model.forward(ids).into_data().try_into_vec().unwrap();
    let rows = values.chunks(config.vocab_size);
    rows.map(<[f32]>::to_vec).collect()
}

pub fn max_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    assert_eq!(a.concat().len(), b.concat().len());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

pub fn file_names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
    names.sort();
    names
}
