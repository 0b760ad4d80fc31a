//! Speed of a model on this machine: prefill, decoding, memory, and the share of what the machine can do.
//!
//! Each repetition takes a prompt of pseudo-random tokens into a fresh sequence and then decodes
//! greedily after it, as an answer to a prompt of that length would. Figures are medians over the
//! repetitions, after one unmeasured warm-up that pages the weights in; their spread is beside
//! them. Times in seconds. The machine's limits are measured afterwards, when memory has been noted.

use std::time::Instant;

use serde::Serialize;

use crate::decoder::Engine;
use crate::machine;
use crate::machine::Energy;
use crate::sampling::argmax;
use retort_files::memory;
use retort_format::{Error, Result};

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchSettings {
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
    /// `ttft_seconds` of every repetition.
    pub ttft_seconds_values: Vec<f64>,
    /// `tpot_seconds` of every repetition.
    pub tpot_seconds_values: Vec<f64>,
    /// The most memory this process has held, weights of the mapped file included; `None` where
    /// the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// The most address space this process has held, used or not; `None` where the system does not tell.
    pub peak_vms_bytes: Option<u64>,
    /// Energy of a generated token; `None` where the system does not tell.
    pub joules_per_token: Option<f64>,
    /// Bytes of weights that decoding reads in a second.
    pub decode_bytes_per_second: f64,
    /// Bytes that the same threads read from memory in a second when they do nothing else.
    pub read_bytes_per_second: Option<f64>,
    /// The former as a share of the latter.
    pub decode_share_of_bandwidth: Option<f64>,
    /// Multiply-adds of weights in a second of prefill.
    pub prefill_macs_per_second: f64,
    /// The same of the kernels' multiply-add instructions when they do nothing else.
    pub peak_macs_per_second: Option<f64>,
    /// The former as a share of the latter.
    pub prefill_share_of_peak: Option<f64>,
}

/// Measures `engine`; `progress` gets steps done and steps in all.
pub fn bench(
    engine: &Engine,
    settings: &BenchSettings,
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
    session.forward(&prompt)?;
    let (mut ttfts, mut tpots, mut joules) = (Vec::new(), Vec::new(), Vec::new());
    for rep in 0..settings.reps {
        session.truncate(0);
        let start = Instant::now();
        let mut token = argmax(session.forward(&prompt)?);
        ttfts.push(start.elapsed().as_secs_f64());
        let energy = Energy::start();
        let start = Instant::now();
        for _ in 0..settings.generate {
            token = argmax(session.forward(&[token])?);
        }
        tpots.push(start.elapsed().as_secs_f64() / settings.generate as f64);
        joules.extend(energy.and_then(|energy| energy.joules()));
        progress(rep + 1, settings.reps);
    }
    let (peak_rss_bytes, peak_vms_bytes) =
        (memory::peak_resident_bytes(), memory::peak_virtual_bytes());
    let (ttft, tpot) = (median(&ttfts), median(&tpots));
    let macs = (engine.macs_per_prompt_token() as f64) * settings.prompt as f64 / ttft;
    let bytes = engine.bytes_per_token() as f64 / tpot;
    let bandwidth = machine::read_bandwidth(engine.pool());
    let peak = machine::integer_peak(retort_kernels::active()?, engine.pool());
    let joules = (joules.len() == settings.reps).then(|| median(&joules));
    Ok(Figures {
        prefill_tokens_per_second: settings.prompt as f64 / ttft,
        decode_tokens_per_second: 1.0 / tpot,
        ttft_seconds: ttft,
        tpot_seconds: tpot,
        ttft_seconds_values: ttfts,
        tpot_seconds_values: tpots,
        peak_rss_bytes,
        peak_vms_bytes,
        joules_per_token: joules.map(|joules| joules / settings.generate as f64),
        decode_bytes_per_second: bytes,
        read_bytes_per_second: bandwidth,
        decode_share_of_bandwidth: bandwidth.map(|limit| bytes / limit),
        prefill_macs_per_second: macs,
        peak_macs_per_second: peak,
        prefill_share_of_peak: peak.map(|limit| macs / limit),
    })
}

impl Figures {
    /// One header and one row under optimum-benchmark's column names, in its units: seconds, MB, kWh, tokens/s.
    /// Columns of what the system does not tell are left out.
    pub fn csv(&self, model: &str, settings: &BenchSettings) -> String {
        let generated = settings.generate as f64;
        let decodes: Vec<f64> = (self.tpot_seconds_values.iter())
            .map(|tpot| tpot * generated)
            .collect();
        let mut columns: Vec<(String, String)> = vec![
            ("config.backend.name".into(), "retort-edge".into()),
            ("config.backend.model".into(), model.into()),
            (
                "config.scenario.input_shapes.sequence_length".into(),
                settings.prompt.to_string(),
            ),
            (
                "config.scenario.generate_kwargs.max_new_tokens".into(),
                settings.generate.to_string(),
            ),
        ];
        let mut add = |name: String, value: String| columns.push((format!("report.{name}"), value));
        let parts = [
            ("prefill", &self.ttft_seconds_values),
            ("decode", &decodes),
            ("per_token", &self.tpot_seconds_values),
        ];
        for (part, values) in parts {
            add(format!("{part}.latency.unit"), "s".into());
            add(format!("{part}.latency.count"), values.len().to_string());
            add(format!("{part}.latency.mean"), mean(values).to_string());
            add(
                format!("{part}.latency.stdev"),
                deviation(values).to_string(),
            );
            add(format!("{part}.latency.p50"), median(values).to_string());
        }
        for (part, rate) in [
            ("prefill", self.prefill_tokens_per_second),
            ("decode", self.decode_tokens_per_second),
        ] {
            add(format!("{part}.throughput.unit"), "tokens/s".into());
            add(format!("{part}.throughput.value"), rate.to_string());
            if let Some(bytes) = self.peak_rss_bytes {
                add(format!("{part}.memory.unit"), "MB".into());
                add(
                    format!("{part}.memory.max_ram"),
                    (bytes as f64 / 1e6).to_string(),
                );
            }
        }
        if let Some(joules) = self.joules_per_token {
            add("decode.energy.unit".into(), "kWh".into());
            add(
                "decode.energy.total".into(),
                (joules * generated / 3.6e6).to_string(),
            );
        }
        let quoted = |text: &String| {
            if text.contains([',', '"', '\n']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.clone()
            }
        };
        let (names, values): (Vec<_>, Vec<_>) = (columns.iter())
            .map(|(name, value)| (name.clone(), quoted(value)))
            .unzip();
        format!("{}\n{}\n", names.join(","), values.join(","))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard deviation of the values themselves, not of a population they might stand for.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len().max(1) as f64).sqrt()
}

/// Tokens spread over the vocabulary, the same each time.
fn prompt_tokens(n: usize, vocab_size: usize) -> Vec<u32> {
    // Knuth's multiplicative hash: consecutive numbers land far apart.
    let spread = |i: u64| (i.wrapping_mul(2_654_435_761) & 0xffff_ffff) % vocab_size as u64;
    (0..n as u64).map(|i| spread(i) as u32).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn prompt_tokens_stay_in_the_vocabulary() {
        assert!(prompt_tokens(1000, 7).iter().all(|&id| id < 7));
    }
}
