//! The student's config: the sizes that are asked for, the others as in the parent or, for a
//! number of parameters, searched (`parameter_search.rs`).
//!
//! In: the parent's config and [`TargetSizes`]. Out: the student's config, checked.

use retort_format::{Architecture, ModelConfig};

use crate::error::{Error, Result};
use crate::parameter_search::search;
use crate::sizes::{FixedSizes, Sizes};

/// The sizes asked of the student. `None` stays as in the parent or, with `parameters`, is
/// searched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TargetSizes {
    /// Layers.
    pub layers: Option<usize>,
    /// Channels of the residual stream.
    pub hidden: Option<usize>,
    /// Query heads.
    pub heads: Option<usize>,
    /// Key/value heads, each with its query heads.
    pub kv_heads: Option<usize>,
    /// Channels of the feed-forward block.
    pub mlp: Option<usize>,
    /// Tokens of the vocabulary.
    pub vocabulary: Option<usize>,
    /// Parameters in all.
    pub parameters: Option<u64>,
}

/// The config of the student of `parent` that `target` asks for.
///
/// # Errors
/// [`Error::Option`] names the option that asks for what the parent cannot give.
pub(crate) fn student_config(parent: &ModelConfig, target: &TargetSizes) -> Result<ModelConfig> {
    let sizes = Sizes::of(parent);
    check_size("layers", target.layers, sizes.layers)?;
    check_size("hidden", target.hidden, sizes.hidden)?;
    check_size("mlp", target.mlp, sizes.mlp)?;
    check_size("vocab", target.vocabulary, parent.vocab_size)?;
    let fixed = FixedSizes {
        layers: target.layers,
        hidden: target.hidden,
        kv_heads: kv_heads(parent, target)?,
        mlp: target.mlp,
    };
    let fixed = tie_heads_to_width(fixed, parent)?;
    let mut base = parent.clone();
    base.vocab_size = target.vocabulary.unwrap_or(parent.vocab_size);
    let sizes = match target.parameters {
        Some(parameters) => search(&base, &fixed, parameters)?,
        None => Sizes {
            layers: fixed.layers.unwrap_or(sizes.layers),
            hidden: fixed.hidden.unwrap_or(sizes.hidden),
            kv_heads: fixed.kv_heads.unwrap_or(sizes.kv_heads),
            mlp: fixed.mlp.unwrap_or(sizes.mlp),
        },
    };
    Ok(sizes.applied_to(&base).resolve()?)
}

/// Refuses an `asked` size that is 0 or more than the parent's `most`.
fn check_size(option: &'static str, asked: Option<usize>, most: usize) -> Result<()> {
    match asked {
        Some(n) if n == 0 || n > most => {
            let reason = format!("{n} of {most} in the parent: give 1 to {most}");
            Err(Error::option(option, reason))
        }
        _ => Ok(()),
    }
}

/// The key/value heads asked for, by their own number or that of the query heads.
fn kv_heads(parent: &ModelConfig, target: &TargetSizes) -> Result<Option<usize>> {
    let group = parent.num_attention_heads / parent.num_key_value_heads;
    check_size("heads", target.heads, parent.num_attention_heads)?;
    check_size("kv-heads", target.kv_heads, parent.num_key_value_heads)?;
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

/// In the first Qwen all heads together are as wide as the model: either of the two sizes fixes
/// the other.
fn tie_heads_to_width(mut fixed: FixedSizes, parent: &ModelConfig) -> Result<FixedSizes> {
    if parent.model_type != Architecture::Qwen {
        return Ok(fixed);
    }
    let head = parent.head_dim;
    match (fixed.hidden, fixed.kv_heads) {
        (Some(hidden), _) if !hidden.is_multiple_of(head) => {
            let reason = format!("must be a multiple of {head}, this model's width of a head");
            Err(Error::option("hidden", reason))
        }
        (Some(hidden), Some(heads)) if heads * head != hidden => {
            let reason = format!(
                "{heads} are {} wide together, not {hidden}: this model must have both alike",
                heads * head
            );
            Err(Error::option("heads", reason))
        }
        (hidden, heads) => {
            fixed.kv_heads = heads.or(hidden.map(|n| n / head));
            fixed.hidden = hidden.or(heads.map(|n| n * head));
            Ok(fixed)
        }
    }
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
    fn sizes_not_asked_for_stay_as_in_the_parent() {
        let target = TargetSizes {
            layers: Some(10),
            heads: Some(6),
            ..TargetSizes::default()
        };
        let c = student_config(&smollm2(), &target).unwrap();
        assert_eq!((c.num_hidden_layers, c.hidden_size), (10, 576));
        assert_eq!((c.num_attention_heads, c.num_key_value_heads), (6, 2));
        assert_eq!((c.head_dim, c.intermediate_size), (64, 1536));
        assert_eq!(c.rms_norm_eps, smollm2().rms_norm_eps);
        let same = student_config(&smollm2(), &TargetSizes::default()).unwrap();
        assert_eq!(same, smollm2());
    }

    #[test]
    fn qwen_heads_and_width_fix_each_other() {
        for target in [
            TargetSizes {
                hidden: Some(2048),
                mlp: Some(5504),
                ..TargetSizes::default()
            },
            TargetSizes {
                heads: Some(16),
                mlp: Some(5504),
                ..TargetSizes::default()
            },
        ] {
            let c = student_config(&qwen(), &target).unwrap();
            assert_eq!((c.hidden_size, c.num_attention_heads), (2048, 16));
            assert_eq!((c.intermediate_size, c.inner_size()), (11008, 5504));
        }
    }

    #[test]
    fn parameter_count_is_met_from_below_in_the_parents_proportions() {
        for (parent, wanted) in [
            (smollm2(), 35_000_000),
            (smollm2(), 90_000_000),
            (qwen(), 1_800_000_000),
        ] {
            let target = TargetSizes {
                parameters: Some(wanted),
                ..TargetSizes::default()
            };
            let c = student_config(&parent, &target).unwrap();
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
    fn fixed_sizes_are_kept_by_the_parameter_search() {
        let target = TargetSizes {
            parameters: Some(40_000_000),
            hidden: Some(384),
            vocabulary: Some(16384),
            ..TargetSizes::default()
        };
        let c = student_config(&smollm2(), &target).unwrap();
        assert_eq!((c.hidden_size, c.vocab_size), (384, 16384));
        assert!(
            (0.96..=1.0).contains(&(c.parameters() as f64 / 4e7)),
            "{c:?}"
        );
    }

    #[test]
    fn impossible_size_is_an_error_naming_the_option() {
        let t = TargetSizes::default();
        for (parent, target, option) in [
            (
                smollm2(),
                TargetSizes {
                    layers: Some(31),
                    ..t
                },
                "--layers",
            ),
            (
                smollm2(),
                TargetSizes {
                    layers: Some(0),
                    ..t
                },
                "--layers",
            ),
            (
                smollm2(),
                TargetSizes {
                    hidden: Some(577),
                    ..t
                },
                "--hidden",
            ),
            (
                smollm2(),
                TargetSizes {
                    heads: Some(4),
                    ..t
                },
                "--heads",
            ),
            (
                smollm2(),
                TargetSizes {
                    kv_heads: Some(4),
                    ..t
                },
                "--kv-heads",
            ),
            (
                smollm2(),
                TargetSizes {
                    heads: Some(6),
                    kv_heads: Some(1),
                    ..t
                },
                "--kv-heads",
            ),
            (
                smollm2(),
                TargetSizes {
                    mlp: Some(2000),
                    ..t
                },
                "--mlp",
            ),
            (
                smollm2(),
                TargetSizes {
                    vocabulary: Some(50_000),
                    ..t
                },
                "--vocab",
            ),
            (
                smollm2(),
                TargetSizes {
                    parameters: Some(10),
                    ..t
                },
                "--params",
            ),
            (
                smollm2(),
                TargetSizes {
                    parameters: Some(1 << 40),
                    ..t
                },
                "--params",
            ),
            (
                qwen(),
                TargetSizes {
                    hidden: Some(1000),
                    ..t
                },
                "--hidden",
            ),
            (
                qwen(),
                TargetSizes {
                    hidden: Some(2048),
                    heads: Some(8),
                    ..t
                },
                "--heads",
            ),
        ] {
            let message = student_config(&parent, &target).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{option}:")), "{message}");
            assert_eq!(message.lines().count(), 1);
        }
    }
}
