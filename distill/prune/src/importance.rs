//! Scores of the channels and heads that may be removed.

use retort_format::ModelConfig;

/// Scores, the higher the more important. Layers are those kept, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImportanceScores {
    /// Channels of the residual stream.
    pub hidden: Vec<f64>,
    /// Key/value heads with their query heads, `[layer][head]`.
    pub kv_heads: Vec<Vec<f64>>,
    /// Channels of the feed-forward block, `[layer][channel]`.
    pub mlp: Vec<Vec<f64>>,
}

impl ImportanceScores {
    /// All zero, for `layers` layers of `config`.
    pub(crate) fn zeros(config: &ModelConfig, layers: usize) -> Self {
        Self {
            hidden: vec![0.0; config.hidden_size],
            kv_heads: vec![vec![0.0; config.num_key_value_heads]; layers],
            mlp: vec![vec![0.0; config.inner_size()]; layers],
        }
    }
}

/// The indices of the `n` highest scores, ascending; of equal scores the first.
pub(crate) fn top_indices(scores: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(n);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_indices_ascend_and_the_first_of_equal_scores_are_taken() {
        assert_eq!(top_indices(&[0.5, 2.0, 0.1, 1.0], 2), [1, 3]);
        assert_eq!(top_indices(&[1.0, 1.0, 1.0], 2), [0, 1]);
        assert_eq!(top_indices(&[f64::NAN, 1.0], 2), [0, 1]);
    }
}
