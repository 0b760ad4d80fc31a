//! The first Qwen against its equations, written out in f64 over plain vectors from the
//! checkpoint's tensors by name, within and past the trained length.

use std::collections::HashMap;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_format::{Kind, ModelConfig, Precision, TensorSpec};
use retort_model::{Decoder, RandomInit, Weights};

/// Random weights with nothing at zero or one, so that every tensor matters.
struct Uneven(RandomInit);

impl Weights for Uneven {
    fn take(
        &mut self,
        spec: &TensorSpec,
        rows: std::ops::Range<usize>,
        transpose: bool,
    ) -> TensorData {
        let salt = rows.start as f32 + spec.name.len() as f32;
        let data = self.0.take(spec, rows, transpose);
        let shape = data.shape().clone();
        let values: Vec<f32> = data.try_into_vec().unwrap();
        let uneven = values.iter().enumerate().map(|(i, v)| match spec.kind {
            Kind::Norm | Kind::Bias => v + 0.3 * (i as f32 * 0.7 + salt).sin(),
            _ => 6.0 * v,
        });
        TensorData::new(uneven.collect::<Vec<f32>>(), shape)
    }
}

fn config(seq_length: usize, ntk: bool, logn: bool) -> ModelConfig {
    let v = serde_json::json!({
        "model_type": "qwen", "vocab_size": 37, "hidden_size": 24, "intermediate_size": 80,
        "num_hidden_layers": 3, "num_attention_heads": 3, "layer_norm_epsilon": 1e-6,
        "seq_length": seq_length, "use_dynamic_ntk": ntk, "use_logn_attn": logn,
        "tie_word_embeddings": false,
    });
    let config: ModelConfig = serde_json::from_value(v).unwrap();
    config.resolve().unwrap()
}

type Matrix = Vec<Vec<f64>>;

fn matmul(x: &Matrix, w: &Matrix) -> Matrix {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    x.iter()
        .map(|x| w.iter().map(|w| dot(x, w)).collect())
        .collect()
}

fn rms_norm(x: &Matrix, gain: &[f64]) -> Matrix {
    x.iter()
        .map(|x| {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (mean + 1e-6).sqrt();
            x.iter().zip(gain).map(|(v, g)| v * scale * g).collect()
        })
        .collect()
}

/// `modeling_qwen.py`'s forward pass over one sequence without a cache.
fn reference(
    c: &ModelConfig,
    tensors: &HashMap<String, (Vec<usize>, Vec<f64>)>,
    ids: &[i32],
) -> Matrix {
    let matrix = |name: String| -> Matrix {
        let (shape, values) = &tensors[&name];
        values.chunks(shape[1]).map(<[f64]>::to_vec).collect()
    };
    let vector = |name: String| tensors[&name].1.clone();
    let (d, e, t) = (c.hidden_size, c.head_dim, ids.len());
    let context = (t as f64 / c.seq_length as f64).log2() + 1.0;
    let alpha = if c.use_dynamic_ntk {
        (2f64.powf(context.ceil()) - 1.0).max(1.0)
    } else {
        1.0
    };
    let base = 10_000.0 * alpha.powf(e as f64 / (e as f64 - 2.0));
    let turn = |x: &[f64], p: usize| -> Vec<f64> {
        let half = e / 2;
        let mut y = vec![0.0; e];
        for i in 0..half {
            let angle = p as f64 / base.powf(2.0 * i as f64 / e as f64);
            y[i] = x[i] * angle.cos() - x[i + half] * angle.sin();
            y[i + half] = x[i + half] * angle.cos() + x[i] * angle.sin();
        }
        y
    };
    let wte = matrix("transformer.wte.weight".into());
    let mut x: Matrix = ids.iter().map(|&id| wte[id as usize].clone()).collect();
    for layer in 0..c.num_hidden_layers {
        let at = |name: &str| format!("transformer.h.{layer}.{name}");
        let n = rms_norm(&x, &vector(at("ln_1.weight")));
        let mut qkv = matmul(&n, &matrix(at("attn.c_attn.weight")));
        let bias = vector(at("attn.c_attn.bias"));
        for row in &mut qkv {
            row.iter_mut().zip(&bias).for_each(|(v, b)| *v += b);
        }
        let mut mixed = vec![vec![0.0; d]; t];
        for head in 0..c.num_attention_heads {
            let part = |p: usize, which: usize| &qkv[p][which * d + head * e..][..e];
            for (p, out) in mixed.iter_mut().enumerate() {
                let mut q = turn(part(p, 0), p);
                if c.use_logn_attn && t > c.seq_length && p + 1 > c.seq_length {
                    let factor = ((p + 1) as f64).log(c.seq_length as f64);
                    q.iter_mut().for_each(|v| *v *= factor);
                }
                let scores: Vec<f64> = (0..=p)
                    .map(|s| {
                        let k = turn(part(s, 1), s);
                        q.iter().zip(&k).map(|(a, b)| a * b).sum::<f64>() / (e as f64).sqrt()
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (s, w) in weights.iter().enumerate() {
                    for (i, v) in part(s, 2).iter().enumerate() {
                        out[head * e + i] += w / sum * v;
                    }
                }
            }
        }
        let y = matmul(&mixed, &matrix(at("attn.c_proj.weight")));
        x.iter_mut()
            .flatten()
            .zip(y.iter().flatten())
            .for_each(|(x, y)| *x += y);
        let n = rms_norm(&x, &vector(at("ln_2.weight")));
        let mut a1 = matmul(&n, &matrix(at("mlp.w1.weight")));
        let a2 = matmul(&n, &matrix(at("mlp.w2.weight")));
        for (a, b) in a1.iter_mut().flatten().zip(a2.iter().flatten()) {
            *a *= b / (1.0 + (-b).exp());
        }
        let y = matmul(&a1, &matrix(at("mlp.c_proj.weight")));
        x.iter_mut()
            .flatten()
            .zip(y.iter().flatten())
            .for_each(|(x, y)| *x += y);
    }
    let n = rms_norm(&x, &vector("transformer.ln_f.weight".into()));
    matmul(&n, &matrix("lm_head.weight".into()))
}

fn tensors_of(model: &Decoder) -> HashMap<String, (Vec<usize>, Vec<f64>)> {
    let values = |spec: TensorSpec| {
        let bytes = model.tensor(&spec, Precision::F32);
        let (values, _) = bytes.as_chunks::<4>();
        let values = values.iter().map(|b| f32::from_le_bytes(*b).into());
        (spec.name, (spec.shape, values.collect()))
    };
    let specs = retort_format::tensors(model.config());
    specs.into_iter().map(values).collect()
}

/// The largest difference of logits over `t` positions, and the largest logit.
fn difference(config: &ModelConfig, t: usize) -> (f64, f64) {
    let device = Device::flex();
    let mut init = Uneven(RandomInit::new(config, 4));
    let model = Decoder::build(config, &mut init, &device);
    let ids: Vec<i32> = (0..t as i32).map(|i| (i * i + 5) % 37).collect();
    let expected = reference(config, &tensors_of(&model), &ids);
    let input = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, t]), &device);
    let logits: Vec<f32> = model.forward(input).into_data().try_into_vec().unwrap();
    let expected: Vec<f64> = expected.into_iter().flatten().collect();
    let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
    let difference = logits
        .iter()
        .zip(&expected)
        .map(|(a, b)| (f64::from(*a) - b).abs())
        .fold(0.0, f64::max);
    (difference, largest)
}

#[test]
fn qwen_logits_equal_the_equations_within_the_trained_length() {
    let (difference, largest) = difference(&config(64, true, true), 40);
    println!("within: {difference:.2e} of {largest:.1}");
    assert!(
        largest > 1.0 && difference < 1e-4,
        "{difference:e} of {largest}"
    );
}

#[test]
fn qwen_logits_equal_the_equations_past_the_trained_length() {
    for (ntk, logn) in [(true, true), (true, false), (false, true)] {
        // Five times the trained length: α = 15 there.
        let (difference, largest) = difference(&config(16, ntk, logn), 80);
        println!("past, ntk {ntk}, logn {logn}: {difference:.2e} of {largest:.1}");
        assert!(
            largest > 1.0 && difference < 1e-4,
            "{difference:e} of {largest}"
        );
    }
}

#[test]
fn qwen_ntk_and_logn_scaling_are_off_in_training() {
    let ids = TensorData::new((0..80).map(|i| i % 37).collect::<Vec<i32>>(), [1, 80]);
    let run = |config: &ModelConfig, device: &Device| -> Vec<f32> {
        let model = Decoder::build(config, &mut Uneven(RandomInit::new(config, 4)), device);
        let input = Tensor::<2, Int>::from_data(ids.clone(), device);
        model.forward(input).into_data().try_into_vec().unwrap()
    };
    let (plain, stretched) = (config(16, false, false), config(16, true, true));
    assert_ne!(
        run(&plain, &Device::flex()),
        run(&stretched, &Device::flex())
    );
    let training = Device::flex().autodiff();
    assert_eq!(run(&plain, &training), run(&stretched, &training));
}
