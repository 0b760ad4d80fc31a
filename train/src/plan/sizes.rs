//! What a plan is counted from: weights by what happens to them, and numbers kept of a token.
//!
//! In: a shape, the rules of its parameters and the recipe. Out: counts, not bytes.

use retort_format::{Kind, ModelConfig, tensors};
use serde::Serialize;

use crate::param_groups::ParamGroup;
use crate::recipe::{Algorithm, Recipe};

/// What a teacher takes, beside the model's own passes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TeacherCost {
    /// Floating-point operations a token of the rows.
    pub flops_per_token: u64,
    /// Bytes that it holds.
    pub bytes: u64,
}

/// What the arithmetic and the memory are counted from.
pub(super) struct Sizes {
    /// Weights trained.
    pub(super) trained: u64,
    /// Weights of adapters.
    pub(super) adapters: u64,
    /// Numbers the optimizer keeps.
    pub(super) moments: u64,
    /// Weights of products, adapters and the head included.
    pub(super) products: u64,
    /// Those of them that are trained.
    pub(super) trained_products: u64,
    /// Rounded copies of weights.
    pub(super) rounded: u64,
    /// Numbers kept of a token's forward pass.
    pub(super) activations_per_token: u64,
}

impl Sizes {
    pub(super) fn new(config: &ModelConfig, param_groups: &[ParamGroup], recipe: &Recipe) -> Self {
        let lora = recipe.lora.is_some();
        let d = config.hidden_size as u64;
        let head = config.vocab_size as u64 * d;
        let specs = tensors(config);
        let matrices = || {
            let matrix = |kind| matches!(kind, Kind::Matrix | Kind::Residual);
            specs.iter().filter(move |s| matrix(s.kind))
        };
        let body: u64 = matrices().map(|s| s.elements() as u64).sum();
        let sum = |kept: &dyn Fn(&ParamGroup) -> bool| -> u64 {
            let kept = param_groups.iter().filter(|r| kept(r));
            kept.map(|r| r.elements).sum()
        };
        let adapters = sum(&|r| r.adapter);
        let trained = |r: &ParamGroup| !lora || r.adapter;
        let muon = sum(&|r| trained(r) && r.algorithm == Algorithm::Muon);
        let all_trained = sum(&trained);
        let outputs: u64 = matrices().map(|s| s.shape[0] as u64).sum();
        let residual = matrices().filter(|s| s.kind == Kind::Residual);
        let inputs: u64 = residual.map(|s| s.shape[1] as u64).sum();
        let logits = if recipe.has_teacher() {
            config.vocab_size as u64
        } else {
            0
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
            activations_per_token: if recipe.train.activation_checkpointing {
                (outputs + inputs) / layers + 2 * d + d * (layers + 1) + logits
            } else {
                outputs + inputs + norms + logits
            },
        }
    }

    /// Operations a token of rows of `seq_len`, forward and backward.
    pub(super) fn flops_per_token(&self, config: &ModelConfig, seq_len: u64) -> u64 {
        4 * self.products + 2 * self.trained_products + 6 * attention(config, seq_len)
    }
}

/// Multiply-adds a token of causal attention forward.
fn attention(config: &ModelConfig, seq_len: u64) -> u64 {
    let width = (config.num_attention_heads * config.head_dim) as u64;
    config.num_hidden_layers as u64 * width * seq_len
}

/// Floating-point operations a token of a forward pass alone over rows of `seq_len`, head included.
pub fn forward_flops_per_token(config: &ModelConfig, seq_len: usize) -> u64 {
    let head = (config.vocab_size * config.hidden_size) as u64;
    let body = tensors(config).into_iter();
    let body = body.filter(|s| matches!(s.kind, Kind::Matrix | Kind::Residual));
    let body: u64 = body.map(|s| s.elements() as u64).sum();
    2 * (body + head) + 2 * attention(config, seq_len as u64)
}
