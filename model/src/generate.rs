//! Sampling from a checkpoint in Burn, to look at what training has reached.
//!
//! In: prompt ids. Out: the ids that follow. Every new token runs the whole window again
//! (no cache): right for a look, wrong for use; the edge engine is for that.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::ModelConfig;
use crate::llama::Llama;

/// Continues `prompt` by up to `n` ids, calling `on_token` with each; stops at
/// `config.eos_token_id` or when `on_token` answers false.
///
/// At `temperature` 0 the likeliest id is taken, else one is drawn from the softmax of
/// logits / temperature with `seed`.
///
/// # Panics
/// An id of the prompt is outside the vocabulary, or the prompt is empty.
pub fn generate(
    config: &ModelConfig,
    model: &Llama,
    device: &Device,
    prompt: &[u32],
    n: usize,
    (temperature, seed): (f64, u64),
    mut on_token: impl FnMut(u32) -> bool,
) {
    assert!(
        !prompt.is_empty(),
        "the prompt must have at least one token"
    );
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut ids: Vec<i32> = prompt.iter().map(|&id| id as i32).collect();
    for _ in 0..n {
        let window = &ids[ids.len().saturating_sub(config.max_position_embeddings)..];
        let input = Tensor::<2, Int>::from_data(
            TensorData::new(window.to_vec(), [1, window.len()]),
            device,
        );
        let last = model.hidden(input).narrow(1, window.len() - 1, 1);
        let logits: Vec<f32> = model
            .logits(last)
            .into_data()
            .try_into_vec()
            .expect("logits are f32");
        let next = pick(&logits, temperature, &mut rng);
        if Some(next) == config.eos_token_id || !on_token(next) {
            return;
        }
        ids.push(next as i32);
    }
}

fn pick(logits: &[f32], temperature: f64, rng: &mut ChaCha8Rng) -> u32 {
    let best = (0..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b });
    if temperature <= 0.0 {
        return best as u32;
    }
    let weight = |&l: &f32| (f64::from(l - logits[best]) / temperature).exp();
    let total: f64 = logits.iter().map(weight).sum();
    let mut left = rng.random::<f64>() * total;
    for (i, l) in logits.iter().enumerate() {
        left -= weight(l);
        if left < 0.0 {
            return i as u32;
        }
    }
    best as u32
}
