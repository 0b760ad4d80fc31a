//! Tiny models with random weights as GGUF files.
//!
//! Every weight is a function of the tensor's name and a seed, so that two files of the same shape
//! hold the same numbers whatever their format.

use std::path::Path;

use crate::Random;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use retort_engine::tokenizer::{TokenType, Vocabulary};
use retort_format::GgmlType;
use retort_format::gguf::{Metadata, Writer};
use retort_format::quant::quantize_row;
use retort_tokenizer::SplitRule;

/// A tiny model.
#[derive(Clone, Debug)]
pub struct Shape {
    pub architecture: &'static str,
    pub layers: usize,
    pub hidden: usize,
    pub inner: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub context: usize,
    pub tied: bool,
    pub ty: GgmlType,
    pub rope_freqs: bool,
    pub rope_factor: Option<f32>,
    /// For `qwen`: the length past which rotary base and queries are scaled.
    pub trained: Option<usize>,
}

impl Shape {
    /// The first Qwen, which has as many key heads as query heads and a head of its own.
    pub fn qwen() -> Self {
        Self {
            architecture: "qwen",
            kv_heads: 4,
            ..Self::default()
        }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            architecture: "llama",
            layers: 2,
            hidden: 64,
            inner: 96,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            context: 512,
            tied: false,
            ty: GgmlType::F32,
            rope_freqs: false,
            rope_factor: None,
            trained: None,
        }
    }
}

/// Bytes, a few merges and an end of text: 272 tokens.
pub fn vocabulary() -> Vocabulary {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut tokens: Vec<String> = (0..=255u8)
        .filter(printable)
        .map(|byte| char::from(byte).to_string())
        .collect();
    let moved = ('\u{100}'..).take(256 - tokens.len());
    tokens.extend(moved.map(String::from));
    // those of rare letters make it a multiple of 16, so that the vocabulary's matrices can be packed
    let merges = [
        "t h", "th e", "Ġ the", "i n", "a n", "an d", "Ġ and", "q z", "z q", "x q", "q x", "x z",
        "z x", "j q", "j x",
    ];
    let merges: Vec<_> = merges
        .iter()
        .filter_map(|merge| Vocabulary::parse_merge(merge))
        .collect();
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let mut types = vec![TokenType::Normal; tokens.len()];
    tokens.push("<|endoftext|>".into());
    types.push(TokenType::Control);
    Vocabulary {
        eos: Some(tokens.len() as u32 - 1),
        bos: None,
        eot: None,
        eom: None,
        more_ends: Vec::new(),
        pad: None,
        add_bos: false,
        split: SplitRule::Gpt2,
        nfc: false,
        tokens,
        types,
        merges,
    }
}

/// Text that is different for every seed.
pub fn text(seed: u64) -> String {
    let bytes = Random::new(seed.wrapping_mul(77) + 1).bytes(600);
    bytes
        .into_iter()
        .map(|byte| char::from(b' ' + byte % 90))
        .collect()
}

/// Random weights for the tensor `name`, uniform with standard deviation `scale`.
pub fn weights(name: &str, n: usize, scale: f32) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(1u64, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..n).map(|_| uniform() * scale * 1.732).collect()
}

/// Every tensor of the model: name, GGUF shape, values.
pub fn tensors(shape: &Shape) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let mut tensors = Vec::new();
    let vocab = vocabulary().tokens.len();
    let (q, kv) = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
    );
    let mut matrix = |name: String, rows: usize, cols: usize| {
        let values = weights(&name, rows * cols, 2.0 / (cols as f32).sqrt());
        tensors.push((name, vec![cols as u64, rows as u64], values));
    };
    matrix("token_embd.weight".into(), vocab, shape.hidden);
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        if shape.architecture == "qwen" {
            matrix(name("attn_qkv"), q + kv + kv, shape.hidden);
        } else {
            matrix(name("attn_q"), q, shape.hidden);
            matrix(name("attn_k"), kv, shape.hidden);
            matrix(name("attn_v"), kv, shape.hidden);
        }
        matrix(name("attn_output"), shape.hidden, q);
        matrix(name("ffn_gate"), shape.inner, shape.hidden);
        matrix(name("ffn_up"), shape.inner, shape.hidden);
        matrix(name("ffn_down"), shape.hidden, shape.inner);
    }
    if !shape.tied {
        matrix("output.weight".into(), vocab, shape.hidden);
    }
    let mut vector = |name: String, size: usize, centre: f32, scale: f32| {
        let mut values = weights(&name, size, scale);
        values.iter_mut().for_each(|value| *value += centre);
        tensors.push((name, vec![size as u64], values));
    };
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        vector(name("attn_norm.weight"), shape.hidden, 1.0, 0.2);
        vector(name("ffn_norm.weight"), shape.hidden, 1.0, 0.2);
        if shape.architecture == "qwen" {
            vector(name("attn_qkv.bias"), q + kv + kv, 0.0, 0.5);
        }
        if shape.architecture == "qwen2" {
            vector(name("attn_q.bias"), q, 0.0, 0.5);
            vector(name("attn_k.bias"), kv, 0.0, 0.5);
            vector(name("attn_v.bias"), kv, 0.0, 0.5);
        }
        if shape.architecture == "qwen3" {
            vector(name("attn_q_norm.weight"), shape.head_dim, 1.0, 0.2);
            vector(name("attn_k_norm.weight"), shape.head_dim, 1.0, 0.2);
        }
    }
    vector("output_norm.weight".into(), shape.hidden, 1.0, 0.2);
    if shape.rope_freqs {
        vector("rope_freqs.weight".into(), shape.head_dim / 2, 4.0, 1.0);
    }
    tensors
}

/// Writes the whole model to `path`.
pub fn write_gguf(path: &Path, shape: &Shape) {
    write(path, shape, |_| true, &[], |_| {});
}

/// Writes the model to `path` with more vectors: name, length.
pub fn write_gguf_with(path: &Path, shape: &Shape, more: &[(&str, usize)]) {
    write(path, shape, |_| true, more, |_| {});
}

/// Writes the model to `path`, leaving out tensors that `keep` refuses.
pub fn write_gguf_where(path: &Path, shape: &Shape, keep: impl Fn(&str) -> bool) {
    write(path, shape, keep, &[], |_| {});
}

/// Writes the model to `path` with metadata that `change` adds or replaces.
pub fn write_gguf_changed(path: &Path, shape: &Shape, change: impl Fn(&mut Writer)) {
    write(path, shape, |_| true, &[], change);
}

/// Encoded weights of a format that is read and not written: arbitrary integers under scales that
/// are finite and of the size that [`weights`] has.
pub fn random_blocks(ty: GgmlType, name: &str, n: usize) -> Vec<u8> {
    let noise = weights(name, ty.row_bytes(n).unwrap(), 1.0);
    let mut bytes: Vec<u8> = noise.iter().map(|x| (x.to_bits() >> 8) as u8).collect();
    for block in bytes.chunks_exact_mut(ty.bytes_per_block()) {
        let half = |x: f32| half::f16::from_f32(x).to_le_bytes();
        let scale = 0.01 + f32::from(block[0]) / 25_600.0;
        match ty {
            GgmlType::Q6_K => block[208..].copy_from_slice(&half(scale / 64.0)),
            GgmlType::Q4_K | GgmlType::Q5_K => {
                block[..2].copy_from_slice(&half(scale / 32.0));
                block[2..4].copy_from_slice(&half(scale / 8.0));
            }
            GgmlType::Q4_1 | GgmlType::Q5_1 => {
                block[..2].copy_from_slice(&half(scale));
                block[2..4].copy_from_slice(&half(-8.0 * scale));
            }
            _ => block[..2].copy_from_slice(&half(scale)),
        }
    }
    bytes
}

fn encode(ty: GgmlType, name: &str, values: &[f32], cols: usize) -> Vec<u8> {
    if !matches!(
        ty,
        GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K | GgmlType::Q6_K
    ) {
        let mut bytes = Vec::new();
        for row in values.chunks(cols) {
            quantize_row(ty, row, &mut bytes).unwrap();
        }
        return bytes;
    }
    random_blocks(ty, name, values.len())
}

fn write(
    path: &Path,
    shape: &Shape,
    keep: impl Fn(&str) -> bool,
    more: &[(&str, usize)],
    change: impl Fn(&mut Writer),
) {
    let mut writer = Writer::new(path);
    write_metadata(&mut writer, shape);
    let mut tables = Metadata::new(path);
    vocabulary().write(&mut tables);
    writer.set_all(&tables).unwrap();
    change(&mut writer);
    let more = more.iter().map(|&(name, size)| {
        let values = weights(name, size, 0.5);
        (name.to_owned(), vec![size as u64], values)
    });
    let tensors: Vec<_> = tensors(shape)
        .into_iter()
        .filter(|(name, ..)| keep(name))
        .chain(more)
        .collect();
    let ty = |dims: &[u64]| {
        if dims.len() == 2 {
            shape.ty
        } else {
            GgmlType::F32
        }
    };
    for (name, dims, _) in &tensors {
        writer.declare(name, dims, ty(dims)).unwrap();
    }
    for (name, dims, values) in &tensors {
        let bytes = encode(ty(dims), name, values, dims[0] as usize);
        writer.write(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn write_metadata(writer: &mut Writer, shape: &Shape) {
    let arch = shape.architecture;
    writer.set("general.architecture", arch).unwrap();
    let sizes = [
        ("block_count", shape.layers),
        ("context_length", shape.context),
        ("embedding_length", shape.hidden),
        (
            "feed_forward_length",
            if arch == "qwen" {
                2 * shape.inner
            } else {
                shape.inner
            },
        ),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("attention.key_length", shape.head_dim),
        ("attention.value_length", shape.head_dim),
    ];
    for (key, size) in sizes {
        let key = format!("{arch}.{key}");
        writer.set(&key, size as u32).unwrap();
    }
    let eps = format!("{arch}.attention.layer_norm_rms_epsilon");
    writer.set(&eps, 1e-5f32).unwrap();
    let base = format!("{arch}.rope.freq_base");
    writer.set(&base, 10000.0f32).unwrap();
    if let Some(trained) = shape.trained {
        let key = |field: &str| format!("{arch}.{field}");
        writer
            .set(&key("rope.scaling.original_context_length"), trained as u32)
            .unwrap();
        writer.set(&key("rope.scaling.dynamic_ntk"), true).unwrap();
        writer.set(&key("attention.logn_scaling"), true).unwrap();
    }
    if let Some(factor) = shape.rope_factor {
        let key = |field: &str| format!("{arch}.rope.scaling.{field}");
        writer.set(&key("type"), "linear").unwrap();
        writer.set(&key("factor"), factor).unwrap();
    }
}
