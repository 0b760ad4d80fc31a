//! The same made-up models as Hugging Face directories.

use std::collections::BTreeMap;
use std::path::Path;

use retort_format::GgmlType;
use retort_format::quant::quantize_row;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use crate::gguf::{Shape, tensors, vocabulary};

/// config.json as transformers 4 writes it, or Qwen's own.
pub fn config(shape: &Shape) -> Value {
    if shape.architecture == "qwen" {
        return json!({
            "architectures": ["QWenLMHeadModel"],
            "model_type": "qwen",
            "hidden_size": shape.hidden,
            "intermediate_size": 2 * shape.inner,
            "kv_channels": shape.head_dim,
            "layer_norm_epsilon": 1e-5,
            "max_position_embeddings": shape.context,
            "no_bias": true,
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "rotary_emb_base": 10000,
            "rotary_pct": 1.0,
            "scale_attn_weights": true,
            "seq_length": shape.trained.unwrap_or(shape.context),
            "tie_word_embeddings": shape.tied,
            "use_dynamic_ntk": shape.trained.is_some(),
            "use_logn_attn": shape.trained.is_some(),
            "vocab_size": vocabulary().tokens.len(),
            "eos_token_id": vocabulary().eos,
        });
    }
    let class = match shape.architecture {
        "qwen2" => "Qwen2ForCausalLM",
        "qwen3" => "Qwen3ForCausalLM",
        _ => "LlamaForCausalLM",
    };
    json!({
        "architectures": [class],
        "model_type": shape.architecture,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": null,
        "tie_word_embeddings": shape.tied,
        "vocab_size": vocabulary().tokens.len(),
        "max_position_embeddings": shape.context,
        "eos_token_id": vocabulary().eos,
    })
}

/// tokenizer.json as the tokenizers crate writes it.
pub fn tokenizer() -> Value {
    let vocabulary = vocabulary();
    let end = vocabulary.tokens.len() - 1;
    let vocab: BTreeMap<&str, usize> = vocabulary.tokens[..end]
        .iter()
        .enumerate()
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let merges: Vec<_> = vocabulary
        .merges
        .iter()
        .map(|(a, b)| json!([a, b]))
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    json!({
        "version": "1.0",
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "added_tokens": [{
            "id": end, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true
        }],
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges
        }
    })
}

/// Every tensor under its Hugging Face name: outermost dimension first, values.
pub fn hf_tensors(shape: &Shape) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let renamed = tensors(shape).into_iter().map(|(name, dims, mut values)| {
        let interleaved = name.contains("attn_q.weight") || name.contains("attn_k.weight");
        if interleaved && shape.architecture == "llama" {
            values = separate_halves(&values, shape.head_dim, dims[0] as usize);
        }
        let dims = dims.iter().rev().map(|&dim| dim as usize).collect();
        let name = match shape.architecture {
            "qwen" => qwen_name(&name),
            _ => hf_name(&name),
        };
        (name, (dims, values))
    });
    renamed.collect()
}

/// Rows 2i and 2i + 1 of each head apart, as transformers keeps them.
fn separate_halves(values: &[f32], head_dim: usize, cols: usize) -> Vec<f32> {
    let heads = values.chunks_exact(head_dim * cols);
    let one = |head: &[f32]| -> Vec<f32> {
        let row = |i: usize| head[i * cols..(i + 1) * cols].iter().copied();
        let even = (0..head_dim).step_by(2).flat_map(row);
        let odd = (1..head_dim).step_by(2).flat_map(row);
        even.chain(odd).collect()
    };
    heads.flat_map(one).collect()
}

fn qwen_name(name: &str) -> String {
    let parts = [
        ("attn_qkv", "attn.c_attn"),
        ("attn_output", "attn.c_proj"),
        ("ffn_gate", "mlp.w2"),
        ("ffn_up", "mlp.w1"),
        ("ffn_down", "mlp.c_proj"),
        ("attn_norm", "ln_1"),
        ("ffn_norm", "ln_2"),
        ("token_embd", "transformer.wte"),
        ("output_norm", "transformer.ln_f"),
    ];
    if name == "output.weight" {
        return "lm_head.weight".into();
    }
    let name = name.replace("blk.", "transformer.h.");
    let (from, to) = parts.iter().find(|(from, _)| name.contains(from)).unwrap();
    name.replace(from, to)
}

fn hf_name(name: &str) -> String {
    let parts = [
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("attn_q.", "self_attn.q_proj."),
        ("attn_k.", "self_attn.k_proj."),
        ("attn_v.", "self_attn.v_proj."),
        ("attn_output.", "self_attn.o_proj."),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("attn_norm", "input_layernorm"),
        ("ffn_norm", "post_attention_layernorm"),
        ("token_embd", "model.embed_tokens"),
        ("output_norm", "model.norm"),
    ];
    if name == "output.weight" {
        return "lm_head.weight".into();
    }
    let name = name.replace("blk.", "model.layers.");
    let (from, to) = parts.iter().find(|(from, _)| name.contains(from)).unwrap();
    name.replace(from, to)
}

/// Writes tensors to a safetensors file as F32, F16 or BF16.
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    ty: GgmlType,
) {
    let dtype = match ty {
        GgmlType::F16 => Dtype::F16,
        GgmlType::BF16 => Dtype::BF16,
        _ => Dtype::F32,
    };
    let encode = |values: &[f32]| {
        let mut bytes = Vec::new();
        quantize_row(ty, values, &mut bytes).unwrap();
        bytes
    };
    let encoded: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (dims, values))| (name, dims, encode(values)))
        .collect();
    let views = encoded.iter().map(|(name, dims, bytes)| {
        let view = TensorView::new(dtype, (*dims).clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let format = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(views, Some(format), path).unwrap();
}

/// Writes a JSON file.
pub fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

/// Writes the whole directory, weights in one F32 file.
pub fn write_directory(dir: &Path, shape: &Shape) {
    write_json(&dir.join("config.json"), &config(shape));
    write_json(&dir.join("tokenizer.json"), &tokenizer());
    let path = dir.join("model.safetensors");
    write_safetensors(&path, &hf_tensors(shape), GgmlType::F32);
}
