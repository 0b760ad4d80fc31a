//! What a run will take, before it starts: parameters, tokens, memory, arithmetic, hours.
//!
//! In: a recipe and the model's shape ([`Outline`]). Out: a [`Plan`]. Everything is counted from
//! the shape ([`sizes`]) but [`Measured`]: a forward and backward pass over made-up ids, timed on
//! this machine, of as many rows and layers as take it seconds ([`sample`]). What of a step was
//! not run is put at the pace of what was.
//!
//! Arithmetic is what the model itself needs, two operations a multiply-add: 6 a token for
//! each weight of a product (2 forward, 2 for the gradient of what goes in, 2 for the weight's
//! own, which frozen weights spare), and 6 · layers · width · sequence for causal attention
//! (Chowdhery et al., arXiv 2204.02311, appendix B, halved by causality). What a teacher
//! computes is counted by itself ([`Targets`]).

mod outline;
mod sample;
mod sizes;

use retort_data::pretokenized_rows;
use retort_format::ModelConfig;
use serde::Serialize;

use crate::groups::Rule;
use crate::recipe::Recipe;
use sizes::Sizes;

pub use outline::Outline;
pub use sample::Measured;
pub use sizes::forward_flops_per_token;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// All weights, each counted once.
    pub parameters: u64,
    /// Those outside the embedding and the head.
    pub parameters_without_embeddings: u64,
    /// Those that are trained.
    pub trainable_parameters: u64,
    /// Steps and tokens.
    #[serde(flatten)]
    pub tokens: Tokens,
    /// What must be held, counted from the shape.
    pub memory: Memory,
    /// Floating-point operations a token of the model itself.
    pub flops_per_token: u64,
    /// The same from the start to the end.
    pub flops: f64,
    /// What making the targets takes beside the model, where there is a teacher.
    pub targets: Option<Targets>,
    /// A pass, timed.
    pub measured: Option<Measured>,
    /// The pace that was told instead, in floating-point operations a second.
    pub told_flops_per_second: Option<f64>,
    /// Hours for the steps left at that pace, without evaluations.
    pub hours: Option<f64>,
    /// What these hours cost, in the currency of the price an hour, where one was told.
    pub cost: Option<f64>,
    /// What is not in the plan and why, a sentence each with the remedy.
    pub notes: Vec<String>,
}

/// How much a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tokens {
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
}

/// What making the targets takes, beside the model's own passes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Targets {
    /// Floating-point operations a token of the rows.
    pub flops_per_token: u64,
    /// Bytes that must be held for it.
    pub bytes: u64,
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
    /// What makes the targets.
    pub targets_bytes: u64,
    /// All of these.
    pub total_bytes: u64,
}

impl Tokens {
    /// Those of `recipe`, `steps_done` of it done. No file is read but a packed source's index.
    pub fn new(recipe: &Recipe, steps_done: u64) -> Self {
        let t = &recipe.train;
        let tokens_per_step = (t.batch_size * recipe.data.seq_len * t.accumulate) as u64;
        // A directory that cannot be read is not the plan's to report: opening the data is.
        let rows = pretokenized_rows(&recipe.data).ok().flatten();
        let taken = (t.batch_size * t.accumulate) as f64 * t.steps as f64;
        let seen = rows.filter(|&rows| rows > 0);
        Self {
            steps: t.steps,
            steps_left: t.steps.saturating_sub(steps_done),
            tokens_per_step,
            tokens: tokens_per_step.saturating_mul(t.steps),
            epochs: seen.map(|rows| taken / rows as f64),
        }
    }
}

impl Plan {
    /// Counts the plan of `recipe` with a model of `config` whose parameters follow `rules`,
    /// and targets that take `targets`; `steps_done` of it done.
    pub(crate) fn new(
        recipe: &Recipe,
        config: &ModelConfig,
        rules: &[Rule],
        targets: Option<Targets>,
        steps_done: u64,
    ) -> Self {
        let t = &recipe.train;
        let batch_tokens = (t.batch_size * recipe.data.seq_len) as u64;
        let tokens = Tokens::new(recipe, steps_done);
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
            targets_bytes: targets.map_or(0, |targets| targets.bytes),
            total_bytes: 0,
        };
        memory.total_bytes = memory.weights_bytes
            + memory.gradients_bytes
            + memory.optimizer_bytes
            + memory.ema_bytes
            + memory.rounded_bytes
            + memory.activations_bytes
            + memory.targets_bytes;
        Self {
            parameters: all,
            parameters_without_embeddings: config.parameters_without_embeddings() + sizes.adapters,
            trainable_parameters: sizes.trained,
            tokens,
            memory,
            flops_per_token,
            flops: flops_per_token as f64 * tokens.tokens as f64,
            targets,
            measured: None,
            told_flops_per_second: None,
            hours: None,
            cost: None,
            notes: Vec::new(),
        }
    }

    /// Operations of a step, those for the targets included.
    fn flops_per_step(&self) -> f64 {
        let targets = self.targets.map_or(0, |targets| targets.flops_per_token);
        self.tokens.tokens_per_step as f64 * (self.flops_per_token + targets) as f64
    }

    /// Adds the hours of a device that reaches `flops_per_second`.
    pub fn at(&mut self, flops_per_second: f64) {
        let steps = self.tokens.steps_left as f64;
        self.told_flops_per_second = Some(flops_per_second);
        self.hours = Some(steps * self.flops_per_step() / flops_per_second / 3600.0);
    }

    /// Adds what the hours cost on a machine of `price_per_hour`.
    pub fn price(&mut self, price_per_hour: f64) {
        self.cost = self.hours.map(|hours| hours * price_per_hour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::rules;
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
        let plan = Plan::new(&recipe, model.config(), &rules, None, 4);
        // Two tables of 20 × 8; per layer 4 · 8² and 3 · 8 · 12, two norms; a norm.
        let (tables, matrices, norms) = (2 * 160, 2 * (256 + 288), 2 * 16 + 8);
        assert_eq!(plan.parameters, tables + matrices + norms);
        assert_eq!(plan.parameters_without_embeddings, matrices + norms);
        assert_eq!(plan.trainable_parameters, plan.parameters);
        assert_eq!((plan.tokens.steps, plan.tokens.steps_left), (10, 6));
        assert_eq!((plan.tokens.tokens_per_step, plan.tokens.tokens), (96, 960));
        assert_eq!(plan.tokens.epochs, None);
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
        let plan = Plan::new(&recipe, model.config(), &rules, None, 0);
        let matrices = 2 * (256 + 288);
        assert_eq!(
            plan.memory.optimizer_bytes,
            4 * (2 * plan.parameters - matrices)
        );
        assert_eq!(plan.memory.ema_bytes, 0);
    }

    #[test]
    fn targets_are_counted_beside_the_model() {
        let model = model();
        let recipe = recipe("");
        let rules = rules(&recipe.train, model.named_parameters()).unwrap();
        let alone = Plan::new(&recipe, model.config(), &rules, None, 0);
        let targets = Targets {
            flops_per_token: 3 * alone.flops_per_token,
            bytes: 1000,
        };
        let mut plan = Plan::new(&recipe, model.config(), &rules, Some(targets), 0);
        assert_eq!(plan.flops, alone.flops);
        assert_eq!(plan.memory.total_bytes, alone.memory.total_bytes + 1000);
        // Four times the operations, of 10 steps of 96 tokens.
        plan.at(1e9);
        let hours = 4.0 * alone.flops_per_token as f64 * 960.0 / 1e9 / 3600.0;
        assert!((plan.hours.unwrap() / hours - 1.0).abs() < 1e-12);
        assert_eq!(plan.cost, None);
        plan.price(2.5);
        assert!((plan.cost.unwrap() / (2.5 * hours) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_forward_pass_is_a_third_of_both() {
        let model = model();
        let recipe = recipe("");
        let rules = rules(&recipe.train, model.named_parameters()).unwrap();
        let plan = Plan::new(&recipe, model.config(), &rules, None, 0);
        let forward = forward_flops_per_token(model.config(), 16);
        assert_eq!(3 * forward, plan.flops_per_token);
    }
}
