//! Sampling from a checkpoint in Burn, to look at what training has reached.
//!
//! In: prompt ids. Out: the ids that follow. What has been read is kept in a
//! [`Cache`], so a token costs one position; for speed use the edge engine.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cache::Cache;
use crate::decoder::Decoder;
use retort_format::ModelConfig;

/// Continues `prompt` by up to `n` ids, calling `on_token` with each; stops at
/// `config.eos_token_id` or when `on_token` answers false.
///
/// At `temperature` 0 the likeliest id is taken, else one is drawn from the softmax of
/// logits / temperature with `seed`. The model sees a window of at most
/// `config.max_position_embeddings` ids, which moves on by half when it is full.
///
/// # Panics
/// An id of the prompt is outside the vocabulary, or the prompt is empty.
pub fn generate(
    config: &ModelConfig,
    model: &Decoder,
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
    let mut cache = Cache::default();
    let mut cached_from = 0;
    for _ in 0..n {
        let first = window(ids.len(), config.max_position_embeddings);
        if first != cached_from || !cache.fits(config, ids.len() - first - cache.len()) {
            cache = Cache::default();
            cached_from = first;
        }
        let fresh = &ids[first + cache.len()..];
        let shape = [1, fresh.len()];
        let input = Tensor::<2, Int>::from_data(TensorData::new(fresh.to_vec(), shape), device);
        let hidden = model.hidden_cached(input, &mut cache);
        let last = hidden.narrow(1, fresh.len() - 1, 1);
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

/// Where the window over `length` ids begins when it holds at most `most`: it moves by
/// half of `most` at a time, so that a cache lasts.
fn window(length: usize, most: usize) -> usize {
    let step = (most / 2).max(1);
    length.saturating_sub(most).div_ceil(step) * step
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generate_window_is_neither_empty_nor_longer_than_the_context() {
        for most in 1..9 {
            for length in 1..40 {
                let held = length - window(length, most);
                assert!((1..=most).contains(&held), "{length} {most}: {held}");
                assert!(length > most || held == length);
            }
        }
    }
}
