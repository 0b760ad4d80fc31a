//! Speed of a model on this machine: prefill, decoding, memory.
//!
//! Each repetition takes a prompt of pseudo-random tokens into a fresh sequence and then decodes
//! greedily after it, as an answer to a prompt of that length would. Figures are medians over the
//! repetitions, after one unmeasured warm-up that pages the weights in. Times in seconds.

use std::time::Instant;

use serde::Serialize;

use crate::engine::Engine;
use crate::sampling::argmax;
use crate::{Error, Result};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens decoded after it.
    pub generate: usize,
    /// Repetitions.
    pub reps: usize,
}

/// Medians over the repetitions, under the names of the JSON report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Prompt tokens per second.
    pub prefill_tokens_per_second: f64,
    /// Generated tokens per second, prefill apart.
    pub decode_tokens_per_second: f64,
    /// From the prompt's arrival to the first token.
    pub ttft_seconds: f64,
    /// From one token to the next.
    pub tpot_seconds: f64,
    /// The most memory this process has held, weights of the mapped file included; `None` where
    /// the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

/// Measures `engine`; `progress` gets steps done and steps in all.
pub fn bench(
    engine: &Engine,
    settings: &Settings,
    mut progress: impl FnMut(usize, usize),
) -> Result<Figures> {
    if settings.prompt == 0 || settings.generate == 0 || settings.reps == 0 {
        let problem = "prompt, gen and reps must each be at least 1";
        return Err(Error::Argument(problem.into()));
    }
    let context = settings.prompt.saturating_add(settings.generate);
    let trained = engine.config().context_length;
    if context > trained {
        return Err(Error::Argument(format!(
            "prompt and gen together take {context} positions, the model has {trained}"
        )));
    }
    let prompt = prompt_tokens(settings.prompt, engine.config().vocab_size);
    let mut session = engine.session(context)?;
    session.forward(&prompt[..settings.prompt.min(64)])?;
    let (mut ttft, mut tpot) = (Vec::new(), Vec::new());
    for rep in 0..settings.reps {
        session.truncate(0);
        let start = Instant::now();
        let mut token = argmax(session.forward(&prompt)?);
        ttft.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for _ in 0..settings.generate {
            token = argmax(session.forward(&[token])?);
        }
        tpot.push(start.elapsed().as_secs_f64() / settings.generate as f64);
        progress(rep + 1, settings.reps);
    }
    let (ttft, tpot) = (median(ttft), median(tpot));
    Ok(Figures {
        prefill_tokens_per_second: settings.prompt as f64 / ttft,
        decode_tokens_per_second: 1.0 / tpot,
        ttft_seconds: ttft,
        tpot_seconds: tpot,
        peak_rss_bytes: peak_rss_bytes(),
    })
}

/// Tokens spread over the vocabulary, the same each time.
fn prompt_tokens(n: usize, vocab_size: usize) -> Vec<u32> {
    // Knuth's multiplicative hash: consecutive numbers land far apart.
    let spread = |i: u64| (i.wrapping_mul(2_654_435_761) & 0xffff_ffff) % vocab_size as u64;
    (0..n as u64).map(|i| spread(i) as u32).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// The most memory this process has held, from Linux's `/proc/self/status`.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn prompt_tokens_stay_in_the_vocabulary() {
        assert!(prompt_tokens(1000, 7).iter().all(|&id| id < 7));
    }
}
