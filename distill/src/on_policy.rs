//! Steps on the student's own text (`[teacher.on_policy]`): it continues the beginnings of the
//! data's rows as it is now, and the teacher says what should have come.
//!
//! In: the student, a step's batches, and the step. Out: batches of the same rows whose first
//! `prompt` ids are the data's and whose others the student drew; only the latter are targets,
//! up to the end of a document. Each row is one document to both models.
//!
//! Whether a step is such a one, and what is drawn in it, depends on the seed, the step and the
//! weights alone. Source: generalized knowledge distillation (Agarwal et al., arXiv 2306.13649,
//! algorithm 1), whose λ is `fraction`; as there, nothing is differentiated through the drawing.
//!
//! The rows are drawn in Burn, together, with a cache of keys and values: the student's weights
//! are there, on whatever device it trains, while the edge engine would need them written out at
//! every such step and runs one row at a time.

use std::sync::Mutex;

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use retort_data::{Batch, Tokenizer};
use retort_engine::sampling::{Sampler, Sampling};
use retort_model::{Cache, Decoder};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::losses::Weight;

/// `[teacher.on_policy]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnPolicyConfig {
    /// Of all steps, how many are on the student's own text: between 0 and 1.
    pub fraction: Weight,
    /// Ids of a row that it is given.
    pub prompt: usize,
    /// Ids that it draws.
    pub new_tokens: usize,
    /// At which temperature; 0 takes the likeliest.
    #[serde(default = "one")]
    pub temperature: f32,
    /// It draws of the likeliest ids that together reach this probability; 1 is of all.
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
        if self.fraction.ends().iter().any(|f| *f > 1.0) {
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

/// How many steps from `from` on and before `next` were on the student's text.
#[derive(Default)]
struct Counted {
    from: u64,
    next: u64,
    count: u64,
}

/// Steps on the student's own text.
pub struct OnPolicy {
    config: OnPolicyConfig,
    seed: u64,
    /// Rows of a step, of all ranks.
    rows: u64,
    /// Ids that may be drawn.
    vocabulary: usize,
    /// Ends a document.
    end: u32,
    counted: Mutex<Counted>,
}

impl OnPolicy {
    /// The steps of `config` in a run with `seed`, steps of `rows` rows of `seq_len` ids and `tokenizer`, whose
    /// teacher knows ids below `vocabulary`.
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
            end: tokenizer.eot(),
            counted: Mutex::default(),
        })
    }

    /// Whether the update after `step` of them is on the student's own text.
    pub fn at(&self, step: u64) -> bool {
        // 53 bits: a number below 1.
        let share = (self.random(step, u64::MAX) >> 11) as f64 / (1u64 << 53) as f64;
        share < f64::from(self.config.fraction.at(step))
    }

    /// How many updates from number `from` to `step`, both included, are.
    pub fn until(&self, from: u64, step: u64) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(|e| e.into_inner());
        if counted.from != from || counted.next > step + 1 {
            *counted = Counted {
                from,
                next: from,
                count: 0,
            };
        }
        while counted.next <= step {
            counted.count += u64::from(self.at(counted.next));
            counted.next += 1;
        }
        counted.count
    }

    /// A number that belongs to `step` and `row`.
    fn random(&self, step: u64, row: u64) -> u64 {
        let mut bytes = [0; 24];
        for (i, x) in [self.seed, step, row].into_iter().enumerate() {
            bytes[8 * i..8 * i + 8].copy_from_slice(&x.to_le_bytes());
        }
        xxh3_64(&bytes)
    }

    /// The rows of `batches` as `model` goes on with them in the update after `step` others.
    pub fn batches(&self, model: &Decoder, batches: &[&Batch], step: u64) -> Vec<Batch> {
        let model = model.valid();
        let each = batches.iter().map(|batch| {
            // A row's place in its step, whichever rank has it.
            let first = batch.first_row.unwrap_or_default() % self.rows;
            let seeds = (first..first + batch.rows as u64).map(|row| self.random(step, row));
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
        let drawn = self.continued(model, &prompts, samplers);
        let seq_len = p + n - 1;
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for (prompt, drawn) in prompts.iter().zip(&drawn) {
            let ids = prompt.iter().chain(drawn).copied();
            let fill = self.end as i32;
            inputs.extend(ids.chain(std::iter::repeat(fill)).take(seq_len));
            targets.extend(std::iter::repeat_n(Batch::IGNORE, p - 1));
            let more = std::iter::repeat(Batch::IGNORE);
            targets.extend(drawn.iter().copied().chain(more).take(n));
        }
        Batch {
            rows,
            seq_len,
            inputs,
            targets,
            documents: vec![0; rows * seq_len],
            positions: (0..rows).flat_map(|_| 0..seq_len as i32).collect(),
            first_row: None,
        }
    }

    /// What `model` draws after each of `prompts`, which are of one length: ids up to the end of
    /// a document, that one included.
    fn continued(
        &self,
        model: &Decoder,
        prompts: &[&[i32]],
        mut samplers: Vec<Sampler>,
    ) -> Vec<Vec<i32>> {
        let (rows, device) = (prompts.len(), model.norm.gamma.val().device());
        let mut rows_so_far: Vec<Vec<i32>> = prompts.iter().map(|p| p.to_vec()).collect();
        let mut ended = vec![false; rows];
        let mut cache = Cache::default();
        for _ in 0..self.config.new_tokens {
            if !cache.fits(model.config(), rows_so_far[0].len() - cache.len()) {
                cache = Cache::default();
            }
            let fresh: Vec<i32> = rows_so_far
                .iter()
                .flat_map(|row| &row[cache.len()..])
                .copied()
                .collect();
            let shape = [rows, fresh.len() / rows];
            let ids = Tensor::<2, Int>::from_data(TensorData::new(fresh, shape), &device);
            let hidden = model.hidden_cached(ids, &mut cache);
            let logits = model.logits(hidden.narrow(1, shape[1] - 1, 1));
            let v = logits.dims()[2];
            let logits = logits.into_data().convert::<f32>().try_into_vec::<f32>();
            let logits = logits.expect("numbers just converted");
            for (r, sampler) in samplers.iter_mut().enumerate() {
                let id = match ended[r] {
                    true => self.end,
                    false => sampler.sample(&logits[r * v..r * v + self.vocabulary.min(v)]),
                };
                rows_so_far[r].push(id as i32);
                ended[r] |= id == self.end;
            }
            if ended.iter().all(|e| *e) {
                break;
            }
        }
        let p = self.config.prompt;
        let end = self.end as i32;
        let drawn = rows_so_far.into_iter().map(|row| {
            let drawn = &row[p..];
            let count = drawn.iter().position(|&id| id == end);
            drawn[..count.map_or(drawn.len(), |at| at + 1)].to_vec()
        });
        drawn.collect()
    }
}
