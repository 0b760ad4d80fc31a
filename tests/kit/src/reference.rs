//! The decoder written down once more, in f64, without cache, blocks or threads: what the engine is
//! held to. Straight from the Llama and Qwen papers' equations; tensors by llama.cpp's names.

use retort_format::gguf::Gguf;

use crate::gguf::Shape;

struct Tensors<'g>(&'g Gguf);

impl Tensors<'_> {
    fn get(&self, name: &str) -> Vec<f64> {
        let values = self.0.tensor(name).unwrap().to_f32().unwrap();
        values.into_iter().map(f64::from).collect()
    }

    fn apply(&self, name: &str, x: &[f64]) -> Vec<f64> {
        apply(&self.get(name), x)
    }
}

fn apply(weight: &[f64], x: &[f64]) -> Vec<f64> {
    let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum();
    weight.chunks_exact(x.len()).map(dot).collect()
}

fn rms_norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (mean + f64::from(1e-5f32)).sqrt();
    x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Qwen's code: log2(length / trained) + 1 rounded up, as a power of two, less one.
fn base(shape: &Shape, length: usize) -> f64 {
    let Some(trained) = shape.trained.filter(|&trained| length > trained) else {
        return 10000.0;
    };
    let context = (length as f64 / trained as f64).log2() + 1.0;
    let alpha = 2f64.powf(context.ceil()) - 1.0;
    let dim = shape.head_dim as f64;
    10000.0 * alpha.powf(dim / (dim - 2.0))
}

fn rotate(shape: &Shape, base: f64, divisors: Option<&[f64]>, position: usize, heads: &mut [f64]) {
    let half = shape.head_dim / 2;
    for head in heads.chunks_exact_mut(shape.head_dim) {
        for pair in 0..half {
            let exponent = -2.0 * pair as f64 / shape.head_dim as f64;
            let mut angle = position as f64 * base.powf(exponent);
            angle /= divisors.map_or(1.0, |divisors| divisors[pair]);
            angle /= f64::from(shape.rope_factor.unwrap_or(1.0));
            let (a, b) = match shape.architecture {
                "llama" => (2 * pair, 2 * pair + 1),
                _ => (pair, pair + half),
            };
            let (x, y) = (head[a], head[b]);
            head[a] = x * angle.cos() - y * angle.sin();
            head[b] = x * angle.sin() + y * angle.cos();
        }
    }
}

/// Logits after each of `tokens`.
pub fn logits(gguf: &Gguf, shape: &Shape, tokens: &[u32]) -> Vec<Vec<f64>> {
    let t = Tensors(gguf);
    let base = base(shape, tokens.len());
    let divisors = shape.rope_freqs.then(|| t.get("rope_freqs.weight"));
    let embeddings = t.get("token_embd.weight");
    let embed = |&token: &u32| embeddings[token as usize * shape.hidden..][..shape.hidden].to_vec();
    let mut stream: Vec<Vec<f64>> = tokens.iter().map(embed).collect();
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, x) in stream.iter_mut().enumerate() {
            let normed = rms_norm(x, &t.get(&name("attn_norm.weight")));
            let project = |part: &str| {
                if shape.architecture == "qwen" {
                    let third = "qkv".find(part).unwrap();
                    let weight = t.get(&name("attn_qkv.weight"));
                    let rows = &weight[third * weight.len() / 3..(third + 1) * weight.len() / 3];
                    let mut out = apply(rows, &normed);
                    let bias = t.get(&name("attn_qkv.bias"));
                    add(
                        &mut out,
                        &bias[third * bias.len() / 3..(third + 1) * bias.len() / 3],
                    );
                    return out;
                }
                let mut out = t.apply(&name(&format!("attn_{part}.weight")), &normed);
                if shape.architecture == "qwen2" {
                    add(&mut out, &t.get(&name(&format!("attn_{part}.bias"))));
                }
                if shape.architecture == "qwen3" && part != "v" {
                    let norm = t.get(&name(&format!("attn_{part}_norm.weight")));
                    let heads = out.chunks_exact(shape.head_dim);
                    out = heads.flat_map(|head| rms_norm(head, &norm)).collect();
                }
                out
            };
            let (mut q, mut k) = (project("q"), project("k"));
            rotate(shape, base, divisors.as_deref(), position, &mut q);
            rotate(shape, base, divisors.as_deref(), position, &mut k);
            let seen = position as f64 + 1.0;
            if let Some(trained) = shape.trained.map(|trained| trained as f64)
                && seen > trained
            {
                q.iter_mut().for_each(|q| *q *= seen.ln() / trained.ln());
            }
            keys.push(k);
            values.push(project("v"));
            let gathered = attend(shape, &q, &keys, &values);
            add(x, &t.apply(&name("attn_output.weight"), &gathered));
            let normed = rms_norm(x, &t.get(&name("ffn_norm.weight")));
            let mut gate = t.apply(&name("ffn_gate.weight"), &normed);
            let up = t.apply(&name("ffn_up.weight"), &normed);
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate = *gate / (1.0 + (-*gate).exp()) * up;
            }
            add(x, &t.apply(&name("ffn_down.weight"), &gate));
        }
    }
    let head = match shape.tied {
        true => "token_embd.weight",
        false => "output.weight",
    };
    let norm = t.get("output_norm.weight");
    let last = |x: &Vec<f64>| t.apply(head, &rms_norm(x, &norm));
    stream.iter().map(last).collect()
}

fn attend(shape: &Shape, q: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
    let (dim, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let mut out = Vec::new();
    for (head, q) in q.chunks_exact(dim).enumerate() {
        let part = head / group * dim..(head / group + 1) * dim;
        let score = |key: &Vec<f64>| {
            let dot: f64 = key[part.clone()].iter().zip(q).map(|(k, q)| k * q).sum();
            (dot / (dim as f64).sqrt()).exp()
        };
        let scores: Vec<f64> = keys.iter().map(score).collect();
        let total: f64 = scores.iter().sum();
        let mut gathered = vec![0.0; dim];
        for (score, value) in scores.iter().zip(values) {
            for (out, value) in gathered.iter_mut().zip(&value[part.clone()]) {
                *out += score / total * value;
            }
        }
        out.extend(gathered);
    }
    out
}
