//! The shape of a student: what was asked for, the rest as in the parent or, for a number of
//! parameters, chosen (`budget.rs`).
//!
//! In: the parent's config and a [`Target`]. Out: the student's config, checked.

use retort_format::{Architecture, ModelConfig};

use super::budget::search;
use super::error::{Error, Result};

/// What is asked of the student; `None` stays as in the parent or, with `parameters`, is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Target {
    /// Layers.
    pub layers: Option<usize>,
    /// Width of the residual stream.
    pub hidden: Option<usize>,
    /// Query heads.
    pub heads: Option<usize>,
    /// Key/value heads, each with its query heads.
    pub kv_heads: Option<usize>,
    /// Channels within the feed-forward block.
    pub inner: Option<usize>,
    /// Tokens.
    pub vocabulary: Option<usize>,
    /// Parameters in all.
    pub parameters: Option<u64>,
}

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sizes {
    pub layers: usize,
    pub hidden: usize,
    /// Key/value heads.
    pub groups: usize,
    pub inner: usize,
}

/// The config of the student of `parent` that `target` asks for.
///
/// # Errors
/// [`Error::Option`] names the option that cannot be.
pub fn student(parent: &ModelConfig, target: &Target) -> Result<ModelConfig> {
    let sizes = Sizes {
        layers: parent.num_hidden_layers,
        hidden: parent.hidden_size,
        groups: parent.num_key_value_heads,
        inner: parent.inner_size(),
    };
    within("layers", target.layers, sizes.layers)?;
    within("hidden", target.hidden, sizes.hidden)?;
    within("mlp", target.inner, sizes.inner)?;
    let vocabulary = within("vocab", target.vocabulary, parent.vocab_size)?;
    let fixed = Fixed {
        layers: target.layers,
        hidden: target.hidden,
        groups: groups(parent, target)?,
        inner: target.inner,
    };
    let fixed = fixed.with_whole_heads(parent)?;
    let mut base = parent.clone();
    base.vocab_size = vocabulary.unwrap_or(parent.vocab_size);
    let chosen = match target.parameters {
        Some(parameters) => search(&base, sizes, &fixed, parameters)?,
        None => Sizes {
            layers: fixed.layers.unwrap_or(sizes.layers),
            hidden: fixed.hidden.unwrap_or(sizes.hidden),
            groups: fixed.groups.unwrap_or(sizes.groups),
            inner: fixed.inner.unwrap_or(sizes.inner),
        },
    };
    Ok(shaped(&base, chosen).resolve()?)
}

/// `asked`, if it is from 1 to what there is.
fn within(option: &'static str, asked: Option<usize>, most: usize) -> Result<Option<usize>> {
    match asked {
        Some(n) if n == 0 || n > most => {
            let reason = format!("{n} of {most} in the parent: give 1 to {most}");
            Err(Error::option(option, reason))
        }
        asked => Ok(asked),
    }
}

/// The key/value heads asked for, by their own number or that of the query heads.
fn groups(parent: &ModelConfig, target: &Target) -> Result<Option<usize>> {
    let group = parent.num_attention_heads / parent.num_key_value_heads;
    within("heads", target.heads, parent.num_attention_heads)?;
    within("kv-heads", target.kv_heads, parent.num_key_value_heads)?;
    match (target.heads, target.kv_heads) {
        (Some(heads), _) if !heads.is_multiple_of(group) => Err(Error::option(
            "heads",
            format!("{heads} is not whole groups: {group} query heads share a key head"),
        )),
        (Some(heads), Some(kv)) if heads / group != kv => Err(Error::option(
            "kv-heads",
            format!("{kv} have {} query heads, not {heads}", kv * group),
        )),
        (Some(heads), _) => Ok(Some(heads / group)),
        (None, kv) => Ok(kv),
    }
}

/// Sizes that are not to be chosen.
pub(super) struct Fixed {
    pub layers: Option<usize>,
    pub hidden: Option<usize>,
    pub groups: Option<usize>,
    pub inner: Option<usize>,
}

impl Fixed {
    /// The first Qwen's heads are together as wide as the model: of the two, one decides.
    fn with_whole_heads(mut self, parent: &ModelConfig) -> Result<Self> {
        if parent.model_type != Architecture::Qwen {
            return Ok(self);
        }
        let head = parent.head_dim;
        match (self.hidden, self.groups) {
            (Some(hidden), _) if !hidden.is_multiple_of(head) => {
                let reason = format!("must be a multiple of {head}, this model's width of a head");
                return Err(Error::option("hidden", reason));
            }
            (Some(hidden), Some(groups)) if groups * head != hidden => {
                let reason = format!(
                    "{groups} are {} wide together, not {hidden}: this model must have both alike",
                    groups * head
                );
                return Err(Error::option("heads", reason));
            }
            (hidden, groups) => {
                self.groups = groups.or(hidden.map(|n| n / head));
                self.hidden = hidden.or(groups.map(|n| n * head));
            }
        }
        Ok(self)
    }
}

/// `base` with other sizes.
pub(super) fn shaped(base: &ModelConfig, sizes: Sizes) -> ModelConfig {
    let group = base.num_attention_heads / base.num_key_value_heads;
    let mut config = base.clone();
    config.num_hidden_layers = sizes.layers;
    config.hidden_size = sizes.hidden;
    config.num_key_value_heads = sizes.groups;
    config.num_attention_heads = sizes.groups * group;
    config.intermediate_size = sizes.inner * (base.intermediate_size / base.inner_size());
    // With fewer channels to take the mean over, see `cut.rs`.
    config.rms_norm_eps *= base.hidden_size as f64 / sizes.hidden as f64;
    config
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn smollm2() -> ModelConfig {
        let v = json!({
            "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        });
        let config: ModelConfig = serde_json::from_value(v).unwrap();
        config.resolve().unwrap()
    }

    fn qwen() -> ModelConfig {
        let v = json!({
            "model_type": "qwen", "vocab_size": 151936, "hidden_size": 4096,
            "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
            "tie_word_embeddings": false,
        });
        let config: ModelConfig = serde_json::from_value(v).unwrap();
        config.resolve().unwrap()
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let target = Target {
            layers: Some(10),
            heads: Some(6),
            ..Target::default()
        };
        let c = student(&smollm2(), &target).unwrap();
        assert_eq!((c.num_hidden_layers, c.hidden_size), (10, 576));
        assert_eq!((c.num_attention_heads, c.num_key_value_heads), (6, 2));
        assert_eq!((c.head_dim, c.intermediate_size), (64, 1536));
        assert_eq!(c.rms_norm_eps, smollm2().rms_norm_eps);
        let same = student(&smollm2(), &Target::default()).unwrap();
        assert_eq!(same, smollm2());
    }

    #[test]
    fn the_first_qwens_heads_follow_its_width() {
        for target in [
            Target {
                hidden: Some(2048),
                inner: Some(5504),
                ..Target::default()
            },
            Target {
                heads: Some(16),
                inner: Some(5504),
                ..Target::default()
            },
        ] {
            let c = student(&qwen(), &target).unwrap();
            assert_eq!((c.hidden_size, c.num_attention_heads), (2048, 16));
            assert_eq!((c.intermediate_size, c.inner_size()), (11008, 5504));
        }
    }

    #[test]
    fn a_number_of_parameters_is_met_from_below_in_the_parents_proportions() {
        for (parent, wanted) in [
            (smollm2(), 35_000_000),
            (smollm2(), 90_000_000),
            (qwen(), 1_800_000_000),
        ] {
            let target = Target {
                parameters: Some(wanted),
                ..Target::default()
            };
            let c = student(&parent, &target).unwrap();
            let share = c.parameters() as f64 / wanted as f64;
            assert!((0.96..=1.0).contains(&share), "{share}");
            let (deep, wide) = (
                c.num_hidden_layers as f64 / parent.num_hidden_layers as f64,
                c.hidden_size as f64 / parent.hidden_size as f64,
            );
            assert!((deep / wide).ln().abs() < 0.25, "{deep} {wide}");
            assert!(c.hidden_size.is_multiple_of(32) && c.inner_size().is_multiple_of(32));
        }
    }

    #[test]
    fn what_is_fixed_is_not_chosen() {
        let target = Target {
            parameters: Some(40_000_000),
            hidden: Some(384),
            vocabulary: Some(16384),
            ..Target::default()
        };
        let c = student(&smollm2(), &target).unwrap();
        assert_eq!((c.hidden_size, c.vocab_size), (384, 16384));
        assert!(
            (0.96..=1.0).contains(&(c.parameters() as f64 / 4e7)),
            "{c:?}"
        );
    }

    #[test]
    fn what_cannot_be_names_the_option() {
        let t = Target::default();
        for (parent, target, option) in [
            (
                smollm2(),
                Target {
                    layers: Some(31),
                    ..t
                },
                "--layers",
            ),
            (
                smollm2(),
                Target {
                    layers: Some(0),
                    ..t
                },
                "--layers",
            ),
            (
                smollm2(),
                Target {
                    hidden: Some(577),
                    ..t
                },
                "--hidden",
            ),
            (
                smollm2(),
                Target {
                    heads: Some(4),
                    ..t
                },
                "--heads",
            ),
            (
                smollm2(),
                Target {
                    kv_heads: Some(4),
                    ..t
                },
                "--kv-heads",
            ),
            (
                smollm2(),
                Target {
                    heads: Some(6),
                    kv_heads: Some(1),
                    ..t
                },
                "--kv-heads",
            ),
            (
                smollm2(),
                Target {
                    inner: Some(2000),
                    ..t
                },
                "--mlp",
            ),
            (
                smollm2(),
                Target {
                    vocabulary: Some(50_000),
                    ..t
                },
                "--vocab",
            ),
            (
                smollm2(),
                Target {
                    parameters: Some(10),
                    ..t
                },
                "--params",
            ),
            (
                smollm2(),
                Target {
                    parameters: Some(1 << 40),
                    ..t
                },
                "--params",
            ),
            (
                qwen(),
                Target {
                    hidden: Some(1000),
                    ..t
                },
                "--hidden",
            ),
            (
                qwen(),
                Target {
                    hidden: Some(2048),
                    heads: Some(8),
                    ..t
                },
                "--heads",
            ),
        ] {
            let message = student(&parent, &target).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{option}:")), "{message}");
            assert_eq!(message.lines().count(), 1);
        }
    }
}
