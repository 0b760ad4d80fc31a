//! How each parameter is updated: by which algorithm, with which decay and which multiple
//! of the learning rate.
//!
//! In: a recipe's `[train]` and the model's parameters by name. Out: one [`Rule`] a tensor.
//! Without groups the layers' matrices are the chosen algorithm's and decay, the head
//! decays under AdamW, and the embedding, norms and biases do not decay.

use burn::module::ParamId;
use glob::Pattern;
use retort_format::Kind;
use retort_model::NamedParameters;

use crate::error::{Error, Result};
use crate::recipe::{Algorithm, TrainConfig};

/// What happens to one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
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
    /// Its weights.
    pub elements: u64,
    /// Whether it is of an adapter.
    pub adapter: bool,
}

/// The rules of `config` for a model's parameters, in their order.
///
/// # Errors
/// [`Error::Group`]: a group without patterns, a pattern that is not one, or one that no
/// tensor's name matches.
pub fn rules(config: &TrainConfig, parameters: Vec<NamedParameters>) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = parameters
        .into_iter()
        .map(|named| {
            let matrix = matches!(named.kind, Kind::Matrix | Kind::Residual);
            let head = named.kind == Kind::Table && !named.embedding;
            Rule {
                algorithm: match matrix {
                    true => config.optimizer,
                    false => Algorithm::Adamw,
                },
                weight_decay: match matrix || head {
                    true => config.weight_decay,
                    false => 0.0,
                },
                lr_scale: 1.0,
                elements: named.elements as u64,
                adapter: named.adapter,
                name: named.name,
                ids: named.ids,
            }
        })
        .collect();
    for (i, group) in config.groups.iter().enumerate() {
        let wrong = |reason: String| Error::Group { index: i, reason };
        if group.parameters.is_empty() {
            return Err(wrong("parameters must name at least one tensor".into()));
        }
        for text in &group.parameters {
            let pattern = Pattern::new(text).map_err(|e| wrong(format!("\"{text}\": {e}")))?;
            let before = rules.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
            let mut any = false;
            for rule in rules.iter_mut().filter(|r| pattern.matches(&r.name)) {
                any = true;
                rule.lr_scale = group.lr_scale;
                if let Some(decay) = group.weight_decay {
                    rule.weight_decay = decay;
                }
            }
            if !any {
                return Err(wrong(format!(
                    "no tensor is called \"{text}\"; there are {}",
                    in_short(&before)
                )));
            }
        }
    }
    Ok(rules)
}

/// The names, those of the layers once with the layer's number as `*`.
fn in_short(names: &[String]) -> String {
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
    use crate::recipe::Group;

    fn config(groups: Vec<Group>) -> TrainConfig {
        TrainConfig {
            groups,
            weight_decay: 0.1,
            optimizer: Algorithm::Muon,
            ..TrainConfig::for_tests()
        }
    }

    fn group(pattern: &str, lr_scale: f64, weight_decay: Option<f64>) -> Group {
        Group {
            parameters: vec![pattern.to_owned()],
            lr_scale,
            weight_decay,
        }
    }

    #[test]
    fn the_embedding_and_norms_do_not_decay_and_matrices_are_the_algorithms() {
        let rules = rules(&config(Vec::new()), model().named_parameters()).unwrap();
        let of = |name: &str| {
            let rule = rules.iter().find(|r| r.name == name).unwrap();
            (rule.algorithm, rule.weight_decay, rule.lr_scale)
        };
        use Algorithm::{Adamw, Muon};
        assert_eq!(of("model.embed_tokens.weight"), (Adamw, 0.0, 1.0));
        assert_eq!(of("model.norm.weight"), (Adamw, 0.0, 1.0));
        assert_eq!(of("lm_head.weight"), (Adamw, 0.1, 1.0));
        assert_eq!(of("model.layers.1.mlp.down_proj.weight"), (Muon, 0.1, 1.0));
        let matrices = rules.iter().filter(|r| r.algorithm == Muon).count();
        assert_eq!(matrices, 2 * 7);
    }

    #[test]
    fn the_last_group_that_a_tensor_is_in_counts() {
        let groups = vec![
            group("model.layers.*", 0.5, Some(0.0)),
            group("*.1.mlp.*", 0.25, None),
        ];
        let rules = rules(&config(groups), model().named_parameters()).unwrap();
        let scale = |name: &str| {
            let rule = rules.iter().find(|r| r.name == name).unwrap();
            (rule.lr_scale, rule.weight_decay)
        };
        assert_eq!(scale("model.layers.0.mlp.up_proj.weight"), (0.5, 0.0));
        assert_eq!(scale("model.layers.1.mlp.up_proj.weight"), (0.25, 0.0));
        assert_eq!(scale("lm_head.weight"), (1.0, 0.1));
    }

    #[test]
    fn a_pattern_that_matches_nothing_lists_what_there_is() {
        let error = rules(
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
        let none = Group {
            parameters: Vec::new(),
            lr_scale: 1.0,
            weight_decay: None,
        };
        assert!(rules(&config(vec![none]), model().named_parameters()).is_err());
        assert!(
            rules(
                &config(vec![group("[", 1.0, None)]),
                model().named_parameters()
            )
            .is_err()
        );
    }
}
