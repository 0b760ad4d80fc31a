//! Parameter groups: how each tensor is updated, by which algorithm, with which decay and which multiple of the learning
//! rate.
//!
//! In: a recipe's `[train]` and the model's parameters by name. Out: one [`ParamGroup`] a tensor. Without
//! `[[train.groups]]` the layers' matrices are the chosen algorithm's and decay, the head decays under AdamW, and the
//! embedding, norms and biases do not decay.

use burn::module::ParamId;
use glob::Pattern;
use retort_format::Kind;
use retort_model::NamedParameters;

use crate::error::{Error, Result};
use crate::recipe::{Algorithm, TrainConfig};

/// How one tensor is updated.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamGroup {
    /// Hugging Face's name.
    pub name: String,
    /// Its parameters.
    pub ids: Vec<ParamId>,
    /// What updates it.
    pub algorithm: Algorithm,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// A multiple of the run's learning rate.
    pub lr_scale: f64,
    /// Number of weights.
    pub elements: u64,
    /// Whether it is of an adapter.
    pub adapter: bool,
}

/// The groups of `config` for a model's parameters, in their order.
///
/// # Errors
/// [`Error::Group`]: a `[[train.groups]]` without patterns, a pattern that is not one, or one that no tensor's name
/// matches.
pub fn param_groups(
    config: &TrainConfig,
    parameters: Vec<NamedParameters>,
) -> Result<Vec<ParamGroup>> {
    let mut groups: Vec<ParamGroup> = parameters
        .into_iter()
        .map(|named| {
            let matrix = matches!(named.kind, Kind::Matrix | Kind::Residual);
            let head = named.kind == Kind::Table && !named.embedding;
            ParamGroup {
                algorithm: if matrix {
                    config.optimizer
                } else {
                    Algorithm::Adamw
                },
                weight_decay: if matrix || head {
                    config.weight_decay
                } else {
                    0.0
                },
                lr_scale: 1.0,
                elements: named.elements as u64,
                adapter: named.adapter,
                name: named.name,
                ids: named.ids,
            }
        })
        .collect();
    for (i, changes) in config.groups.iter().enumerate() {
        let wrong = |reason: String| Error::Group { index: i, reason };
        if changes.parameters.is_empty() {
            return Err(wrong("parameters must name at least one tensor".into()));
        }
        for text in &changes.parameters {
            let pattern = Pattern::new(text).map_err(|e| wrong(format!("\"{text}\": {e}")))?;
            let mut any = false;
            for group in groups.iter_mut().filter(|g| pattern.matches(&g.name)) {
                any = true;
                group.lr_scale = changes.lr_scale;
                if let Some(decay) = changes.weight_decay {
                    group.weight_decay = decay;
                }
            }
            if !any {
                let names = groups.iter().map(|g| g.name.as_str());
                return Err(wrong(format!(
                    "no tensor is called \"{text}\"; there are {}",
                    in_short(names)
                )));
            }
        }
    }
    Ok(groups)
}

/// The names, those of the layers once with the layer's number as `*`.
fn in_short<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut short: Vec<String> = Vec::new();
    for name in names {
        let parts = name.split('.').map(|part| match part.parse::<usize>() {
            Ok(_) => "*",
            Err(_) => part,
        });
        let name = parts.collect::<Vec<_>>().join(".");
        if !short.contains(&name) {
            short.push(name);
        }
    }
    short.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::tests::model;
    use crate::recipe::ParamGroupConfig;

    fn config(groups: Vec<ParamGroupConfig>) -> TrainConfig {
        TrainConfig {
            groups,
            weight_decay: 0.1,
            optimizer: Algorithm::Muon,
            ..TrainConfig::for_tests()
        }
    }

    fn group(pattern: &str, lr_scale: f64, weight_decay: Option<f64>) -> ParamGroupConfig {
        ParamGroupConfig {
            parameters: vec![pattern.to_owned()],
            lr_scale,
            weight_decay,
        }
    }

    #[test]
    fn param_groups_without_config_spare_embedding_and_norms_from_decay() {
        let param_groups = param_groups(&config(Vec::new()), model().named_parameters()).unwrap();
        let of = |name: &str| {
            let group = param_groups.iter().find(|r| r.name == name).unwrap();
            (group.algorithm, group.weight_decay, group.lr_scale)
        };
        use Algorithm::{Adamw, Muon};
        assert_eq!(of("model.embed_tokens.weight"), (Adamw, 0.0, 1.0));
        assert_eq!(of("model.norm.weight"), (Adamw, 0.0, 1.0));
        assert_eq!(of("lm_head.weight"), (Adamw, 0.1, 1.0));
        assert_eq!(of("model.layers.1.mlp.down_proj.weight"), (Muon, 0.1, 1.0));
        let matrices = param_groups.iter().filter(|r| r.algorithm == Muon).count();
        assert_eq!(matrices, 2 * 7);
    }

    #[test]
    fn param_groups_last_matching_config_wins() {
        let groups = vec![
            group("model.layers.*", 0.5, Some(0.0)),
            group("*.1.mlp.*", 0.25, None),
        ];
        let param_groups = param_groups(&config(groups), model().named_parameters()).unwrap();
        let scale = |name: &str| {
            let group = param_groups.iter().find(|r| r.name == name).unwrap();
            (group.lr_scale, group.weight_decay)
        };
        assert_eq!(scale("model.layers.0.mlp.up_proj.weight"), (0.5, 0.0));
        assert_eq!(scale("model.layers.1.mlp.up_proj.weight"), (0.25, 0.0));
        assert_eq!(scale("lm_head.weight"), (1.0, 0.1));
    }

    #[test]
    fn param_groups_pattern_without_match_lists_the_names() {
        let error = param_groups(
            &config(vec![group("*.mpl.*", 1.0, None)]),
            model().named_parameters(),
        )
        .unwrap_err();
        let message = error.to_string();
        for expected in [
            "train.groups[0]",
            "*.mpl.*",
            "model.layers.*.mlp.up_proj.weight",
        ] {
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(message.matches("up_proj").count(), 1, "{message}");
        let none = ParamGroupConfig {
            parameters: Vec::new(),
            lr_scale: 1.0,
            weight_decay: None,
        };
        assert!(param_groups(&config(vec![none]), model().named_parameters()).is_err());
        assert!(
            param_groups(
                &config(vec![group("[", 1.0, None)]),
                model().named_parameters()
            )
            .is_err()
        );
    }
}
