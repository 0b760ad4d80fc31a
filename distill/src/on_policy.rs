//! Steps on the student's own text (`[teacher.on_policy]`, generalized knowledge distillation:
//! Agarwal et al., arXiv 2306.13649, algorithm 1, whose λ is `fraction`).
//!
//! In: the student, the batches of a step, the step. Out: batches of the same rows, whose first
//! `prompt` ids are the data's and whose other ids the student samples. Only sampled ids up to the
//! end of a document are targets. Each row is one document to both models. The sampling is not
//! differentiated.
//!
//! Whether a step is on-policy, and what it samples, depends on the seed, the step and the
//! weights alone.
//!
//! The rows of a batch are sampled together, in Burn, with a KV cache: the student's weights are
//! on its device, while the edge engine would need an export at every such step and runs one row
//! at a time.

use std::sync::Mutex;

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use retort_data::{Batch, BatchSource};
use retort_engine::sampling::{Sampler, Sampling};
use retort_model::{Cache, Decoder};
use retort_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::schedule::WeightSchedule;

/// `[teacher.on_policy]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnPolicyConfig {
    /// The share of steps on the student's own text, from 0 to 1.
    pub fraction: WeightSchedule,
    /// Ids of a row that the student continues.
    pub prompt: usize,
    /// Ids that it samples.
    pub new_tokens: usize,
    /// The sampling temperature; 0 takes the most likely id.
    #[serde(default = "one")]
    pub temperature: f32,
    /// Samples from the most likely ids whose probabilities reach this sum; 1 is all ids.
    #[serde(default = "one")]
    pub top_p: f32,
}

fn one() -> f32 {
    1.0
}

impl OnPolicyConfig {
    /// # Errors
    /// [`Error::Config`] names the key that is out of range for rows of `seq_len` ids.
    fn check(&self, seq_len: usize) -> Result<()> {
        let bad = |what: String| Err(Error::Config(format!("on_policy.{what}")));
        self.fraction.check("on_policy.fraction")?;
        if self.fraction.range().iter().any(|f| *f > 1.0) {
            return bad("fraction: must be between 0 and 1".into());
        }
        if self.prompt == 0 || self.new_tokens == 0 {
            return bad("prompt and new_tokens: must be at least 1".into());
        }
        if self.prompt.saturating_add(self.new_tokens) > seq_len + 1 {
            return bad(format!(
                "prompt and new_tokens: {} and {} are more than a row holds, data.seq_len + 1 = {}",
                self.prompt,
                self.new_tokens,
                seq_len + 1
            ));
        }
        let sampling = self.sampling(0).validate();
        sampling.or_else(|e| bad(e.replace("top-p", "top_p")))
    }

    fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            seed,
            ..Sampling::plain()
        }
    }
}

/// The number of on-policy steps in `from..next`.
#[derive(Default)]
struct StepCount {
    from: u64,
    next: u64,
    count: u64,
}

/// Steps on the student's own text.
pub struct OnPolicy {
    config: OnPolicyConfig,
    seed: u64,
    /// Rows of a step on all ranks.
    rows: u64,
    /// Ids below this may be sampled.
    vocabulary: usize,
    /// The id that ends a document.
    eot: u32,
    counted: Mutex<StepCount>,
}

impl OnPolicy {
    /// The steps of `config` in a run with `seed` and `tokenizer` whose steps have `rows` rows of
    /// `seq_len` ids. The teacher has `vocabulary` ids.
    ///
    /// # Errors
    /// [`Error::Config`] names the key that is out of range.
    pub fn new(
        config: OnPolicyConfig,
        seed: u64,
        (rows, seq_len): (usize, usize),
        tokenizer: &Tokenizer,
        vocabulary: usize,
    ) -> Result<Self> {
        config.check(seq_len)?;
        Ok(Self {
            config,
            seed,
            rows: rows.max(1) as u64,
            vocabulary: tokenizer.vocab_size().min(vocabulary),
            eot: tokenizer.eot(),
            counted: Mutex::default(),
        })
    }

    /// Whether the step after `step` updates is on the student's own text.
    pub fn is_on_policy(&self, step: u64) -> bool {
        // 53 bits make a number below 1.
        let share = (self.hash(step, u64::MAX) >> 11) as f64 / (1u64 << 53) as f64;
        share < f64::from(self.config.fraction.at(step))
    }

    /// The number of on-policy steps from `from` to `step`, both included.
    pub fn count(&self, from: u64, step: u64) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(|e| e.into_inner());
        if counted.from != from || counted.next > step + 1 {
            *counted = StepCount {
                from,
                next: from,
                count: 0,
            };
        }
        while counted.next <= step {
            counted.count += u64::from(self.is_on_policy(counted.next));
            counted.next += 1;
        }
        counted.count
    }

    /// A hash of the seed, `step` and `row`.
    fn hash(&self, step: u64, row: u64) -> u64 {
        let mut bytes = [0; 24];
        for (i, x) in [self.seed, step, row].into_iter().enumerate() {
            bytes[8 * i..8 * i + 8].copy_from_slice(&x.to_le_bytes());
        }
        xxh3_64(&bytes)
    }

    /// The rows of `batches` as `model` continues them in the step after `step` updates.
    pub fn batches(&self, model: &Decoder, batches: &[&Batch], step: u64) -> Vec<Batch> {
        let model = model.valid();
        let each = batches.iter().map(|batch| {
            // A row's index in its step, on whichever rank.
            let first = batch.first_row().unwrap_or_default() % self.rows;
            let seeds = (first..first + batch.rows as u64).map(|row| self.hash(step, row));
            let samplers = seeds.map(|seed| Sampler::new(self.config.sampling(seed)));
            let samplers = samplers.collect();
            self.batch(&model, batch, samplers)
        });
        each.collect()
    }

    fn batch(&self, model: &Decoder, batch: &Batch, samplers: Vec<Sampler>) -> Batch {
        let (rows, p, n) = (batch.rows, self.config.prompt, self.config.new_tokens);
        let prompts = batch.inputs.chunks(batch.seq_len).map(|row| &row[..p]);
        let prompts: Vec<&[i32]> = prompts.collect();
        let sampled = self.sample(model, &prompts, samplers);
        let seq_len = p + n - 1;
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for (prompt, sampled) in prompts.iter().zip(&sampled) {
            let ids = prompt.iter().chain(sampled).copied();
            let fill = self.eot as i32;
            inputs.extend(ids.chain(std::iter::repeat(fill)).take(seq_len));
            targets.extend(std::iter::repeat_n(Batch::IGNORE, p - 1));
            let more = std::iter::repeat(Batch::IGNORE);
            targets.extend(sampled.iter().copied().chain(more).take(n));
        }
        Batch {
            rows,
            seq_len,
            inputs,
            targets,
            documents: vec![0; rows * seq_len],
            positions: (0..rows).flat_map(|_| 0..seq_len as i32).collect(),
            source: BatchSource::Synthetic,
        }
    }

    /// The ids that `model` samples after each of `prompts` (of one length), up to and including
    /// the end of a document.
    fn sample(
        &self,
        model: &Decoder,
        prompts: &[&[i32]],
        mut samplers: Vec<Sampler>,
    ) -> Vec<Vec<i32>> {
        let (count, device) = (prompts.len(), model.norm.gamma.val().device());
        let mut rows: Vec<Vec<i32>> = prompts.iter().map(|p| p.to_vec()).collect();
        let mut ended = vec![false; count];
        let mut cache = Cache::default();
        for _ in 0..self.config.new_tokens {
            if !cache.fits(model.config(), rows[0].len() - cache.len()) {
                cache = Cache::default();
            }
            let new: Vec<i32> = rows
                .iter()
                .flat_map(|row| &row[cache.len()..])
                .copied()
                .collect();
            let shape = [count, new.len() / count];
            let ids = Tensor::<2, Int>::from_data(TensorData::new(new, shape), &device);
            let hidden = model.hidden_cached(ids, &mut cache);
            let logits = model.logits(hidden.narrow(1, shape[1] - 1, 1));
            let v = logits.dims()[2];
            let logits = logits.into_data().convert::<f32>().try_into_vec::<f32>();
            let logits = logits.expect("numbers just converted");
            for (r, sampler) in samplers.iter_mut().enumerate() {
                let id = if ended[r] {
                    self.eot
                } else {
                    sampler.sample(&logits[r * v..r * v + self.vocabulary.min(v)])
                };
                rows[r].push(id as i32);
                ended[r] |= id == self.eot;
            }
            if ended.iter().all(|e| *e) {
                break;
            }
        }
        let p = self.config.prompt;
        let end = self.eot as i32;
        let sampled = rows.into_iter().map(|row| {
            let sampled = &row[p..];
            let count = sampled.iter().position(|&id| id == end);
            sampled[..count.map_or(sampled.len(), |at| at + 1)].to_vec()
        });
        sampled.collect()
    }
}
