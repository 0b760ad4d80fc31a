//! What a run will take, before it starts: parameters, tokens, memory, arithmetic, hours.
//!
//! In: a recipe and the model's shape. Out: a [`Plan`]. Everything is counted from the shape
//! but [`Measured`], which is one forward and backward pass over made-up ids, timed on this
//! machine.
//!
//! Arithmetic is what the model itself needs, two operations a multiply-add: 6 a token for
//! each weight of a product (2 forward, 2 for the gradient of what goes in, 2 for the weight's
//! own, which frozen weights spare), and 6 · layers · width · sequence for causal attention
//! (Chowdhery et al., arXiv 2204.02311, appendix B, halved by causality). A teacher is not in it.

use std::time::Instant;

use retort_data::{Batch, Row, packed_rows};
use retort_model::{Decoder, Kind, ModelConfig, tensors};
use serde::Serialize;

use crate::device::on_cpu;
use crate::error::Result;
use crate::groups::Rule;
use crate::objective::Objective;
use crate::peak::peak_flops_per_second;
use crate::recipe::{Algorithm, Recipe};
use crate::step::gradients;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// All weights, each counted once.
    pub parameters: u64,
    /// Those outside the embedding and the head.
    pub parameters_without_embeddings: u64,
    /// Those that are trained.
    pub trainable_parameters: u64,
    /// Updates from the start to the end.
    pub steps: u64,
    /// Those still to do.
    pub steps_left: u64,
    /// Tokens of an update, padding not counted out.
    pub tokens_per_step: u64,
    /// Tokens from the start to the end.
    pub tokens: u64,
    /// How often all rows of the data are seen, where the data is packed and so counted.
    pub epochs: Option<f64>,
    /// What must be held, counted from the shape.
    pub memory: Memory,
    /// Floating-point operations a token.
    pub flops_per_token: u64,
    /// The same from the start to the end.
    pub flops: f64,
    /// A pass over one batch, timed.
    pub measured: Option<Measured>,
    /// Hours for the steps left at the measured pace, without evaluations.
    pub hours: Option<f64>,
    /// What these hours cost, in the currency of the price an hour, where one was told.
    pub cost: Option<f64>,
}

/// Bytes, all in f32.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// The weights.
    pub weights_bytes: u64,
    /// Their gradients.
    pub gradients_bytes: u64,
    /// The optimizer's moments.
    pub optimizer_bytes: u64,
    /// The average of the weights.
    pub ema_bytes: u64,
    /// Matrices as they are used, where they are rounded first; with activation checkpointing, of
    /// one layer and the head.
    pub rounded_bytes: u64,
    /// What the backward pass over one batch reads of the forward pass: the output of every
    /// product and norm, of attention and of the gate, and beside a teacher the logits; with
    /// activation checkpointing, of one layer, and the inputs of all. Where operations are not
    /// fused they keep more.
    pub activations_bytes: u64,
    /// All of these.
    pub total_bytes: u64,
}

/// A forward and backward pass over one batch, timed. The update itself is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Seconds of a step's passes.
    pub seconds_per_step: f64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Floating-point operations a second.
    pub flops_per_second: f64,
    /// The most that this processor can do, where it is what computes.
    pub peak_flops_per_second: Option<f64>,
    /// The largest memory the process has held so far, where the system tells it.
    pub peak_resident_bytes: Option<u64>,
}

impl Plan {
    /// Counts the plan of `recipe` with a model of `config` whose parameters follow `rules`,
    /// `steps_done` of it done.
    pub(crate) fn new(
        recipe: &Recipe,
        config: &ModelConfig,
        rules: &[Rule],
        steps_done: u64,
    ) -> Self {
        let t = &recipe.train;
        let batch_tokens = (t.batch_size * recipe.data.seq_len) as u64;
        let tokens_per_step = batch_tokens * t.accumulate as u64;
        let tokens = tokens_per_step.saturating_mul(t.steps);
        // A directory that cannot be read is not the plan's to report: opening the data is.
        let rows = packed_rows(&recipe.data).ok().flatten();
        let taken = (t.batch_size * t.accumulate) as f64 * t.steps as f64;
        let sizes = Sizes::new(config, rules, recipe);
        let flops_per_token = sizes.flops_per_token(config, recipe.data.seq_len as u64);
        let all = config.parameters() + sizes.adapters;
        let held = 4 * sizes.trained;
        let mut memory = Memory {
            weights_bytes: 4 * all,
            gradients_bytes: held,
            optimizer_bytes: 4 * sizes.moments,
            ema_bytes: if t.ema_decay > 0.0 { held } else { 0 },
            rounded_bytes: 4 * sizes.rounded,
            activations_bytes: 4 * batch_tokens * sizes.activations_per_token,
            total_bytes: 0,
        };
        memory.total_bytes = memory.weights_bytes
            + memory.gradients_bytes
            + memory.optimizer_bytes
            + memory.ema_bytes
            + memory.rounded_bytes
            + memory.activations_bytes;
        Self {
            parameters: all,
            parameters_without_embeddings: config.parameters_without_embeddings() + sizes.adapters,
            trainable_parameters: sizes.trained,
            steps: t.steps,
            steps_left: t.steps.saturating_sub(steps_done),
            tokens_per_step,
            tokens,
            epochs: rows
                .filter(|&rows| rows > 0)
                .map(|rows| taken / rows as f64),
            memory,
            flops_per_token,
            flops: flops_per_token as f64 * tokens as f64,
            measured: None,
            hours: None,
            cost: None,
        }
    }

    /// Adds what the hours cost on a machine of `price_per_hour`.
    pub fn price(&mut self, price_per_hour: f64) {
        self.cost = self.hours.map(|hours| hours * price_per_hour);
    }

    /// Times a pass of `model` over one batch of made-up ids below `ids`, after one that warms
    /// up.
    ///
    /// # Errors
    /// The objective's.
    pub(crate) fn measure(
        &mut self,
        recipe: &Recipe,
        model: &Decoder,
        objective: &dyn Objective,
        ids: usize,
    ) -> Result<()> {
        let device = model.norm.gamma.val().device();
        let t = &recipe.train;
        let batch = made_up(t.batch_size, recipe.data.seq_len, ids);
        let mut seconds = 0.0;
        for _ in 0..2 {
            let start = Instant::now();
            // What the last step is made of: an objective may begin with something else.
            let now = (&[&batch][..], t.steps.saturating_sub(1));
            let found = gradients(model, objective, now, t, &device)?;
            // A device that cannot finish will say so in the run itself.
            let _ = device.sync();
            drop(found);
            seconds = start.elapsed().as_secs_f64();
        }
        let seconds = seconds * t.accumulate as f64;
        let tokens_per_second = self.tokens_per_step as f64 / seconds;
        self.measured = Some(Measured {
            seconds_per_step: seconds,
            tokens_per_second,
            flops_per_second: tokens_per_second * self.flops_per_token as f64,
            peak_flops_per_second: on_cpu(&device).then(peak_flops_per_second),
            peak_resident_bytes: status("/proc/self/status", "VmHWM:"),
        });
        self.hours = Some(seconds * self.steps_left as f64 / 3600.0);
        Ok(())
    }
}

/// Bytes of memory that the system can still give, where it tells.
pub(crate) fn available_memory() -> Option<u64> {
    status("/proc/meminfo", "MemAvailable:")
}

/// The number of kB that `key` has in a file of `/proc`, in bytes.
fn status(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// What the arithmetic and the memory are counted from.
struct Sizes {
    /// Weights trained.
    trained: u64,
    /// Weights of adapters.
    adapters: u64,
    /// Numbers the optimizer keeps.
    moments: u64,
    /// Weights of products, adapters and the head included.
    products: u64,
    /// Those of them that are trained.
    trained_products: u64,
    /// Rounded copies of weights.
    rounded: u64,
    /// Numbers kept of a token's forward pass.
    activations_per_token: u64,
}

impl Sizes {
    fn new(config: &ModelConfig, rules: &[Rule], recipe: &Recipe) -> Self {
        let lora = recipe.lora.is_some();
        let d = config.hidden_size as u64;
        let head = config.vocab_size as u64 * d;
        let specs = tensors(config);
        let matrices = || {
            let matrix = |kind| matches!(kind, Kind::Matrix | Kind::Residual);
            specs.iter().filter(move |s| matrix(s.kind))
        };
        let body: u64 = matrices().map(|s| s.elements() as u64).sum();
        let sum = |kept: &dyn Fn(&Rule) -> bool| -> u64 {
            let kept = rules.iter().filter(|r| kept(r));
            kept.map(|r| r.elements).sum()
        };
        let adapters = sum(&|r| r.adapter);
        let trained = |r: &Rule| !lora || r.adapter;
        let muon = sum(&|r| trained(r) && r.algorithm == Algorithm::Muon);
        let all_trained = sum(&trained);
        let outputs: u64 = matrices().map(|s| s.shape[0] as u64).sum();
        let residual = matrices().filter(|s| s.kind == Kind::Residual);
        let inputs: u64 = residual.map(|s| s.shape[1] as u64).sum();
        let logits = match recipe.teacher {
            Some(_) => config.vocab_size as u64,
            None => 0,
        };
        let layers = config.num_hidden_layers as u64;
        let norms = 2 * d * (layers + 1);
        Self {
            trained: all_trained,
            adapters,
            moments: 2 * all_trained - muon,
            products: body + head + adapters,
            trained_products: if lora { adapters } else { body + head },
            rounded: match (recipe.quantize, recipe.train.activation_checkpointing) {
                (None, _) => 0,
                (Some(_), true) => body / layers.max(1) + head,
                (Some(_), false) => body + head,
            },
            activations_per_token: match recipe.train.activation_checkpointing {
                true => (outputs + inputs) / layers + 2 * d + d * (layers + 1) + logits,
                false => outputs + inputs + norms + logits,
            },
        }
    }

    fn flops_per_token(&self, config: &ModelConfig, seq_len: u64) -> u64 {
        let width = (config.num_attention_heads * config.head_dim) as u64;
        let attention = 6 * config.num_hidden_layers as u64 * width * seq_len;
        4 * self.products + 2 * self.trained_products + attention
    }
}

/// A batch of full rows with ids all over the vocabulary.
fn made_up(rows: usize, seq_len: usize, ids: usize) -> Batch {
    let ids = ids.max(1) as u64;
    let rows: Vec<Row> = (0..rows as u64)
        .map(|row| Row {
            // Knuth's multiplicative hashing.
            ids: (0..=seq_len as u64)
                .map(|i| ((row * seq_len as u64 + i).wrapping_mul(2_654_435_761) % ids) as u32)
                .collect(),
            starts: vec![0],
        })
        .collect();
    Batch::new(&rows, seq_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::rules;
    use crate::objective::CrossEntropy;
    use crate::optimizer::tests::model;

    fn recipe(more: &str) -> Recipe {
        let text = format!(
            "[data]\nsource = \"-\"\ntokenizer = \"-\"\nseq_len = 16\n[model]\nhidden_size = 8\n\
             intermediate_size = 12\nnum_hidden_layers = 2\nnum_attention_heads = 2\n\
             [train]\nsteps = 10\nbatch_size = 3\naccumulate = 2\nlr = 1e-3\n{more}"
        );
        Recipe::parse(&text, std::path::Path::new("r.toml"), &[]).unwrap()
    }

    #[test]
    fn the_counts_are_those_of_the_shape() {
        let model = model();
        let recipe = recipe("ema_decay = 0.9");
        let rules = rules(&recipe.train, model.named_parameters()).unwrap();
        let plan = Plan::new(&recipe, model.config(), &rules, 4);
        // Two tables of 20 × 8; per layer 4 · 8² and 3 · 8 · 12, two norms; a norm.
        let (tables, matrices, norms) = (2 * 160, 2 * (256 + 288), 2 * 16 + 8);
        assert_eq!(plan.parameters, tables + matrices + norms);
        assert_eq!(plan.parameters_without_embeddings, matrices + norms);
        assert_eq!(plan.trainable_parameters, plan.parameters);
        assert_eq!((plan.steps, plan.steps_left), (10, 6));
        assert_eq!((plan.tokens_per_step, plan.tokens), (96, 960));
        assert_eq!(plan.epochs, None);
        let attention = 6 * 2 * 8 * 16;
        assert_eq!(plan.flops_per_token, 6 * (matrices + 160) + attention);
        let m = plan.memory;
        assert_eq!(m.weights_bytes, 4 * plan.parameters);
        assert_eq!(m.optimizer_bytes, 2 * m.weights_bytes);
        assert_eq!(m.ema_bytes, m.weights_bytes);
        // Per layer 4 · 8 + 2 · 12 + 8 out, 8 + 12 into the residual; 6 norms.
        let a_token = 2 * (4 * 8 + 2 * 12 + 8 + 8 + 12) + 6 * 8;
        assert_eq!(m.activations_bytes, 4 * 48 * a_token);
    }

    #[test]
    fn muon_keeps_one_moment() {
        let model = model();
        let recipe = recipe("optimizer = \"muon\"");
        let rules = rules(&recipe.train, model.named_parameters()).unwrap();
        let plan = Plan::new(&recipe, model.config(), &rules, 0);
        let matrices = 2 * (256 + 288);
        assert_eq!(
            plan.memory.optimizer_bytes,
            4 * (2 * plan.parameters - matrices)
        );
        assert_eq!(plan.memory.ema_bytes, 0);
    }

    #[test]
    fn a_pass_is_timed_and_leaves_the_model_alone() {
        let model = model();
        let recipe = recipe("");
        let rules = rules(&recipe.train, model.named_parameters()).unwrap();
        let mut plan = Plan::new(&recipe, model.config(), &rules, 0);
        plan.measure(&recipe, &model, &CrossEntropy, 20).unwrap();
        let measured = plan.measured.unwrap();
        assert!(measured.seconds_per_step > 0.0);
        let hours = measured.seconds_per_step * 10.0 / 3600.0;
        assert!((plan.hours.unwrap() - hours).abs() < 1e-12);
        assert_eq!(plan.cost, None);
        plan.price(2.5);
        assert!((plan.cost.unwrap() - 2.5 * hours).abs() < 1e-12);
    }
}
