//! `[train]`: how the weights are updated, when the run is evaluated, and what is kept of it.

use retort_format::Precision;
use serde::{Deserialize, Serialize};

use retort_comm::DilocoConfig;

/// `[train]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Updates of the weights.
    pub steps: u64,
    /// What products are computed in: `float32`, or on a GPU `bfloat16`. Weights, gradients and
    /// sums are float32 in either.
    #[serde(default)]
    pub precision: Precision,
    /// Sequences in one forward pass.
    pub batch_size: usize,
    /// Forward passes whose gradients make one update.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// How the learning rate falls after the warm-up.
    #[serde(default)]
    pub schedule: Schedule,
    /// The last learning rate as a fraction of the peak.
    #[serde(default = "default_min_lr")]
    pub min_lr_ratio: f64,
    /// Updates of linear warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The share of all updates, at the end, in which `wsd` lets the learning rate fall.
    #[serde(default = "default_decay_fraction")]
    pub decay_fraction: f64,
    /// What updates the layers' matrices; all else is AdamW's.
    #[serde(default)]
    pub optimizer: Algorithm,
    /// Decoupled weight decay, on matrices other than the embedding.
    #[serde(default = "default_decay")]
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    /// AdamW's epsilon.
    #[serde(default = "default_epsilon")]
    pub epsilon: f64,
    /// Muon's momentum.
    #[serde(default = "default_momentum")]
    pub momentum: f64,
    /// Largest norm of all gradients together; 0 for no clipping.
    #[serde(default = "default_clip")]
    pub grad_clip: f64,
    /// How far the average of the weights lags behind them, such as 0.999: it is evaluated beside
    /// them and saved in each checkpoint's `ema/`. 0 for none.
    #[serde(default)]
    pub ema_decay: f64,
    /// A batch whose loss is more than so many times the running mean is passed over; 0 for
    /// none.
    #[serde(default)]
    pub spike_factor: f64,
    /// The run ends when so many batches in a row were passed over, as spikes or because their
    /// loss or gradient was no number.
    #[serde(default = "default_max_skipped")]
    pub max_skipped: u64,
    /// Keeps attention within a document; positions start again in each. Without it a row is read
    /// as one text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub document_attention: bool,
    /// Keeps of the forward pass only what goes into each layer, and runs a layer again when its
    /// gradient is due: a fraction of the memory for a third more arithmetic.
    #[serde(default)]
    pub activation_checkpointing: bool,
    /// Steps between evaluations; 0 for only at the end.
    #[serde(default)]
    pub eval_every: u64,
    /// Steps between checkpoints; 0 for only at the end.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// Checkpoints kept; older ones are removed.
    #[serde(default = "default_keep")]
    pub keep_checkpoints: usize,
    /// Whether the checkpoint with the lowest validation loss is kept as well.
    #[serde(default = "yes")]
    pub keep_best: bool,
    /// Steps between samples; 0 for none.
    #[serde(default)]
    pub sample_every: u64,
    /// What the samples begin with.
    #[serde(default = "default_prompts")]
    pub sample_prompts: Vec<String>,
    /// Tokens of a sample, at most.
    #[serde(default = "default_sample_tokens")]
    pub sample_tokens: usize,
    /// 0 takes the likeliest token each time.
    #[serde(default)]
    pub sample_temperature: f64,
    /// Parameters that are treated otherwise. Of several groups that a parameter is in, the
    /// last counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParamGroupConfig>,
    /// Ranks that train apart and synchronize every few steps, instead of at every step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diloco: Option<DilocoConfig>,
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Along half a cosine.
    #[default]
    Cosine,
    /// Along a line.
    Linear,
    /// Not at all, until the last `decay_fraction` of the run, then along a line
    /// (warm-up, stable, decay).
    Wsd,
}

/// What turns gradients into updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// AdamW.
    #[default]
    Adamw,
    /// Muon, its updates scaled to the size of AdamW's: learning rate and weight decay mean
    /// the same.
    Muon,
}

/// `[[train.groups]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamGroupConfig {
    /// Patterns over the tensors' names in a Hugging Face checkpoint, such as
    /// `model.layers.0.*` or `*.mlp.*`.
    pub parameters: Vec<String>,
    /// The learning rate as a multiple of the run's.
    #[serde(default = "default_scale")]
    pub lr_scale: f64,
    /// In place of the run's weight decay, also on what that spares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> usize {
    1
}
fn default_min_lr() -> f64 {
    0.1
}
fn default_decay_fraction() -> f64 {
    0.2
}
fn default_decay() -> f64 {
    0.1
}
fn default_beta1() -> f64 {
    0.9
}
fn default_beta2() -> f64 {
    0.95
}
fn default_epsilon() -> f64 {
    1e-8
}
fn default_momentum() -> f64 {
    0.95
}
fn default_clip() -> f64 {
    1.0
}
fn default_keep() -> usize {
    2
}
fn default_max_skipped() -> u64 {
    10
}
fn yes() -> bool {
    true
}
fn default_prompts() -> Vec<String> {
    vec![String::new()]
}
fn default_sample_tokens() -> usize {
    64
}
fn default_scale() -> f64 {
    1.0
}

#[cfg(test)]
impl TrainConfig {
    pub(crate) fn for_tests() -> Self {
        toml::from_str("steps = 10\nbatch_size = 2\nlr = 1e-3").expect("three required keys")
    }
}
