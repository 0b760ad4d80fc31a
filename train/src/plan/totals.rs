//! A plan's totals: parameters, tokens, memory, arithmetic, hours and cost.

use retort_format::ModelConfig;
use serde::Serialize;

use super::memory::Memory;
use super::sizes::{Sizes, TeacherCost};
use super::tokens::Tokens;
use crate::param_groups::ParamGroup;
use crate::recipe::Recipe;

/// What a run will take.
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
    /// What the teacher takes, where there is one.
    #[serde(rename = "targets")]
    pub teacher: Option<TeacherCost>,
    /// A pass, timed.
    pub measured: Option<Measured>,
    /// The pace that was given instead, in floating-point operations a second.
    pub told_flops_per_second: Option<f64>,
    /// Hours for the steps left at that pace, without evaluations.
    pub hours: Option<f64>,
    /// What these hours cost, in the currency of the price an hour, where one was told.
    pub cost: Option<f64>,
    /// What is not in the plan and why, a sentence each with the remedy.
    pub notes: Vec<String>,
}

/// A forward and backward pass, timed. The update itself is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Rows that were in the pass; the recipe's batch may have more.
    pub rows: usize,
    /// The batch's.
    pub rows_of: usize,
    /// Layers that the model had; the recipe's may have more of the same.
    pub layers: usize,
    /// The recipe's model's.
    pub layers_of: usize,
    /// Whether the teacher ran too; one that did not is counted at the pace of the rest.
    #[serde(rename = "targets")]
    pub teacher: bool,
    /// Seconds of a step's passes: measured, and in proportion to the arithmetic that was not.
    pub seconds_per_step: f64,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Floating-point operations a second, the teacher's included.
    pub flops_per_second: f64,
    /// The most that this processor can do, where it is what computes.
    pub peak_flops_per_second: Option<f64>,
    /// The largest memory the process has held so far, where the system tells it.
    pub peak_resident_bytes: Option<u64>,
}

impl Plan {
    /// Counts the plan of `recipe` with a model of `config` whose parameters are in `param_groups`,
    /// and a teacher that takes `teacher`; `steps_done` of its steps are done.
    pub(crate) fn new(
        recipe: &Recipe,
        config: &ModelConfig,
        param_groups: &[ParamGroup],
        teacher: Option<TeacherCost>,
        steps_done: u64,
    ) -> Self {
        let tokens = Tokens::new(recipe, steps_done);
        let sizes = Sizes::new(config, param_groups, recipe);
        let flops_per_token = sizes.flops_per_token(config, recipe.data.seq_len as u64);
        let all = config.parameters() + sizes.adapters;
        let memory = Memory::new(recipe, &sizes, all, teacher);
        Self {
            parameters: all,
            parameters_without_embeddings: config.parameters_without_embeddings() + sizes.adapters,
            trainable_parameters: sizes.trained,
            tokens,
            memory,
            flops_per_token,
            flops: flops_per_token as f64 * tokens.tokens as f64,
            teacher,
            measured: None,
            told_flops_per_second: None,
            hours: None,
            cost: None,
            notes: Vec::new(),
        }
    }

    /// Operations of a step, the teacher's included.
    pub(super) fn flops_per_step(&self) -> f64 {
        let teacher = self.teacher.map_or(0, |teacher| teacher.flops_per_token);
        self.tokens.tokens_per_step as f64 * (self.flops_per_token + teacher) as f64
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
    use super::super::forward_flops_per_token;
    use super::*;
    use crate::optimizer::tests::model;
    use crate::param_groups::param_groups;

    fn recipe(more: &str) -> Recipe {
        let text = format!(
            "[data]\nsource = \"-\"\ntokenizer = \"-\"\nseq_len = 16\n[model]\nhidden_size = 8\n\
             intermediate_size = 12\nnum_hidden_layers = 2\nnum_attention_heads = 2\n\
             [train]\nsteps = 10\nbatch_size = 3\naccumulate = 2\nlr = 1e-3\n{more}"
        );
        Recipe::parse::<crate::NoTeacher>(&text, std::path::Path::new("r.toml"), &[]).unwrap()
    }

    #[test]
    fn plan_counts_parameters_tokens_and_memory_from_the_shape() {
        let model = model();
        let recipe = recipe("ema_decay = 0.9");
        let param_groups = param_groups(&recipe.train, model.named_parameters()).unwrap();
        let plan = Plan::new(&recipe, model.config(), &param_groups, None, 4);
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
    fn plan_counts_one_moment_for_muon() {
        let model = model();
        let recipe = recipe("optimizer = \"muon\"");
        let param_groups = param_groups(&recipe.train, model.named_parameters()).unwrap();
        let plan = Plan::new(&recipe, model.config(), &param_groups, None, 0);
        let matrices = 2 * (256 + 288);
        assert_eq!(
            plan.memory.optimizer_bytes,
            4 * (2 * plan.parameters - matrices)
        );
        assert_eq!(plan.memory.ema_bytes, 0);
    }

    #[test]
    fn plan_counts_the_teacher_beside_the_model() {
        let model = model();
        let recipe = recipe("");
        let param_groups = param_groups(&recipe.train, model.named_parameters()).unwrap();
        let alone = Plan::new(&recipe, model.config(), &param_groups, None, 0);
        let teacher = TeacherCost {
            flops_per_token: 3 * alone.flops_per_token,
            bytes: 1000,
        };
        let mut plan = Plan::new(&recipe, model.config(), &param_groups, Some(teacher), 0);
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
    fn plan_forward_flops_are_a_third_of_a_step() {
        let model = model();
        let recipe = recipe("");
        let param_groups = param_groups(&recipe.train, model.named_parameters()).unwrap();
        let plan = Plan::new(&recipe, model.config(), &param_groups, None, 0);
        let forward = forward_flops_per_token(model.config(), 16);
        assert_eq!(3 * forward, plan.flops_per_token);
    }
}
