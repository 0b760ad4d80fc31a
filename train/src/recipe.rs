//! The recipe: all of a run in one TOML file. Unknown keys are errors; `--set
//! table.key=value` overrides; the resolved form is written into the run directory.

use std::path::{Path, PathBuf};

use retort_data::DataConfig;
use retort_model::{LoraConfig, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A run, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seeds initialisation; the order of the data has `data.seed`.
    #[serde(default)]
    pub seed: u64,
    /// Where text comes from and how it is cut.
    pub data: DataConfig,
    /// The model, new or continued.
    pub model: ModelSection,
    /// Low-rank adapters: they alone are trained, and a checkpoint has them merged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// How it is trained.
    pub train: TrainConfig,
    /// The teacher, for `retort distill`, which gives the table its meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<toml::Table>,
}

/// `[model]`: either a new shape, or `from = "DIRECTORY"` to continue a checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModelSection {
    /// Start from the weights of a Hugging Face directory.
    From(FromCheckpoint),
    /// Start at random.
    New(ModelConfig),
}

/// `[model] from = …`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromCheckpoint {
    /// A Hugging Face directory.
    pub from: PathBuf,
}

/// `[train]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Updates of the weights.
    pub steps: u64,
    /// Sequences in one forward pass.
    pub batch_size: usize,
    /// Forward passes whose gradients make one update.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// The last learning rate as a fraction of the peak.
    #[serde(default = "default_min_lr")]
    pub min_lr_ratio: f64,
    /// Updates of linear warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
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
    /// Largest norm of all gradients together; 0 for no clipping.
    #[serde(default = "default_clip")]
    pub grad_clip: f64,
    /// Keeps attention within a document; positions start again in each. Without it a row is read
    /// as one text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub document_attention: bool,
    /// Steps between evaluations; 0 for only at the end.
    #[serde(default)]
    pub eval_every: u64,
    /// Steps between checkpoints; 0 for only at the end.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// Checkpoints kept; older ones are removed.
    #[serde(default = "default_keep")]
    pub keep_checkpoints: usize,
}

fn one() -> usize {
    1
}
fn default_min_lr() -> f64 {
    0.1
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
fn default_clip() -> f64 {
    1.0
}
fn default_keep() -> usize {
    2
}

impl Recipe {
    /// The adapters to train, and the directory of the weights they are beside.
    pub(crate) fn adapters(&self) -> Option<(&LoraConfig, &Path)> {
        match (&self.lora, &self.model) {
            (Some(lora), ModelSection::From(section)) => Some((lora, &section.from)),
            _ => None,
        }
    }

    /// Reads `path`, applies `overrides` (`table.key=value`, the value in TOML or a bare
    /// word) and checks every number. Relative paths inside stay relative to the working
    /// directory.
    ///
    /// # Errors
    /// Names the file, the key and what to do.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text, path, overrides)
    }

    /// The same from TOML text; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Self> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            let line = e
                .span()
                .map_or(1, |at| text[..at.start].lines().count().max(1));
            Error::invalid(path, format!("line {line}: {}", e.message()))
        })?;
        for argument in overrides {
            apply_override(&mut table, argument)?;
        }
        // Table by table, so that an error says which one it is about.
        let from = table
            .get("model")
            .is_some_and(|model| model.get("from").is_some());
        check::<DataConfig>(&table, "data", path)?;
        if from {
            check::<FromCheckpoint>(&table, "model", path)?;
        } else {
            check::<ModelConfig>(&table, "model", path)?;
        }
        check::<TrainConfig>(&table, "train", path)?;
        let recipe: Self = table
            .try_into()
            .map_err(|e: toml::de::Error| Error::invalid(path, one_line(&e)))?;
        recipe
            .train
            .check()
            .map_err(|(key, reason)| Error::invalid(path, format!("train.{key}: {reason}")))?;
        if recipe.lora.is_some() && matches!(recipe.model, ModelSection::New(_)) {
            return Err(Error::invalid(
                path,
                "[lora] adapts trained weights: name them with [model] from = \"DIRECTORY\"",
            ));
        }
        Ok(recipe)
    }

    /// The recipe as TOML, with every default filled in.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe has only string keys")
    }
}

/// Whether the table called `name` is a `T`.
fn check<T: serde::de::DeserializeOwned>(
    table: &toml::Table,
    name: &str,
    path: &Path,
) -> Result<()> {
    let value = table
        .get(name)
        .cloned()
        .ok_or_else(|| Error::invalid(path, format!("has no [{name}]")))?;
    let outcome: std::result::Result<T, toml::de::Error> = value.try_into();
    outcome
        .map(drop)
        .map_err(|e| Error::invalid(path, format!("[{name}] {}", one_line(&e))))
}

/// The message with the key it is about, without the picture of the text.
fn one_line(error: &toml::de::Error) -> String {
    error
        .to_string()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn apply_override(table: &mut toml::Table, argument: &str) -> Result<()> {
    let bad = |reason: &str| Error::Set {
        argument: argument.to_owned(),
        reason: reason.to_owned(),
    };
    let (key, value) = argument
        .split_once('=')
        .ok_or_else(|| bad("write it as table.key=value, such as train.lr=3e-4"))?;
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut at = table;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(bad("the key has an empty part"));
        }
        if parts.peek().is_none() {
            at.insert(part.to_owned(), value);
            return Ok(());
        }
        at = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| bad("the key goes through something that is not a table"))?;
    }
    Err(bad("the key is empty"))
}

impl TrainConfig {
    fn check(&self) -> std::result::Result<(), (&'static str, &'static str)> {
        let unit = 0.0..1.0;
        for (wrong, key, reason) in [
            (self.steps == 0, "steps", "must be at least 1"),
            (
                self.batch_size == 0 || self.batch_size > 1 << 20,
                "batch_size",
                "must be between 1 and 1048576",
            ),
            (
                self.accumulate == 0 || self.accumulate > 1 << 20,
                "accumulate",
                "must be between 1 and 1048576",
            ),
            (
                !(self.lr.is_finite() && self.lr > 0.0),
                "lr",
                "must be above 0",
            ),
            (
                !(0.0..=1.0).contains(&self.min_lr_ratio),
                "min_lr_ratio",
                "must be between 0 and 1",
            ),
            (
                self.warmup_steps > self.steps,
                "warmup_steps",
                "must not be more than train.steps",
            ),
            (
                !(self.weight_decay.is_finite() && self.weight_decay >= 0.0),
                "weight_decay",
                "must be 0 or more",
            ),
            (!unit.contains(&self.beta1), "beta1", "must be in [0, 1)"),
            (!unit.contains(&self.beta2), "beta2", "must be in [0, 1)"),
            (
                !(self.epsilon > 0.0 && self.epsilon < 1.0),
                "epsilon",
                "must be between 0 and 1",
            ),
            (
                !(self.grad_clip.is_finite() && self.grad_clip >= 0.0),
                "grad_clip",
                "must be 0 (no clipping) or more",
            ),
            (
                self.keep_checkpoints == 0,
                "keep_checkpoints",
                "must be at least 1",
            ),
        ] {
            if wrong {
                return Err((key, reason));
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        toml::from_str("steps = 10\nbatch_size = 2\nlr = 1e-3").expect("three required keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[data]
source = "shards"
tokenizer = "tok"
seq_len = 32
[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
[train]
steps = 10
batch_size = 2
lr = 1e-3
"#;

    fn load(text: &str, overrides: &[&str]) -> Result<Recipe> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        Recipe::load(&path, &overrides)
    }

    #[test]
    fn resolved_recipe_round_trips() {
        let recipe = load(TEXT, &["train.lr=3e-4", "data.source=other", "seed=7"]).unwrap();
        assert_eq!(recipe.train.lr, 3e-4);
        assert_eq!(recipe.data.source, "other");
        assert_eq!(recipe.seed, 7);
        let again = load(&recipe.to_toml(), &[]).unwrap();
        assert_eq!(again.to_toml(), recipe.to_toml());
    }

    #[test]
    fn unknown_keys_are_named() {
        for (key, text) in [
            (
                "learning_rate",
                TEXT.replace("lr = ", "learning_rate = 1\nlr = "),
            ),
            (
                "hiden",
                TEXT.replace("hidden_size", "hiden = 1\nhidden_size"),
            ),
            ("shards", TEXT.replace("seq_len", "shards = 1\nseq_len")),
            ("sed", format!("sed = 1\n{TEXT}")),
        ] {
            let message = load(&text, &[]).unwrap_err().to_string();
            assert!(message.contains(key), "{key}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }

    #[test]
    fn bad_numbers_and_overrides_are_named() {
        for (argument, expect) in [
            ("train.steps=0", "train.steps"),
            ("train.lr=nan", "train.lr"),
            ("train.warmup_steps=11", "train.warmup_steps"),
            ("train.lr", "table.key=value"),
            ("train.lr.x=1", "not a table"),
            ("model.hidden_size=\"a\"", "[model]"),
        ] {
            let message = load(TEXT, &[argument]).unwrap_err().to_string();
            assert!(message.contains(expect), "{argument}: {message}");
        }
    }
}
