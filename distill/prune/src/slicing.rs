//! The rows and columns of the parent's tensors that a student has.
//!
//! In: the indices kept of each [`Axis`]. Out: for each tensor of the student the parent's
//! tensor, its rows and columns, and a factor.
//!
//! Biases and the norms of heads are sliced like the rows they belong to. `head_dim` stays, and
//! with it the rotary pairs within a head.
//!
//! An RMSNorm over D channels of which all but D′ are zero divides by √(Σx²/D + ε); over the
//! D′ alone it would divide by √(Σx²/D′ + ε). The student's gains are the parent's times
//! √(D/D′) and its ε is the parent's times D/D′ (`sizes.rs`), which makes both equal: removing
//! channels that are zero changes nothing.

use retort_format::{Axes, Axis, Kind, ModelConfig, TensorSpec, tensors};

/// The indices of the parent that are kept, all ascending.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptIndices {
    /// Layers.
    pub layers: Vec<usize>,
    /// Channels of the residual stream.
    pub hidden: Vec<usize>,
    /// Key/value heads of each kept layer.
    pub kv_heads: Vec<Vec<usize>>,
    /// Channels of the feed-forward block of each kept layer.
    pub mlp: Vec<Vec<usize>>,
    /// Token ids.
    pub vocabulary: Vec<usize>,
}

/// A tensor of the student as a part of one of the parent's.
pub(crate) struct TensorSlice {
    /// The student's tensor.
    pub student: TensorSpec,
    /// The parent's tensor.
    pub parent: TensorSpec,
    /// Rows of the parent's tensor.
    pub rows: Vec<usize>,
    /// Columns of the parent's tensor; a vector has one.
    pub columns: Vec<usize>,
    /// The factor of its elements.
    pub scale: f32,
}

impl KeptIndices {
    /// The tensors of `student`, each a slice of one of `parent`.
    pub(crate) fn tensor_slices(
        &self,
        parent: &ModelConfig,
        student: &ModelConfig,
    ) -> Vec<TensorSlice> {
        let all = tensors(parent);
        let before = all.iter().take_while(|spec| spec.layer().is_none());
        let kept = self
            .layers
            .iter()
            .flat_map(|&kept| all.iter().filter(move |spec| spec.layer() == Some(kept)));
        let after = all.iter().rev().take_while(|spec| spec.layer().is_none());
        let after: Vec<_> = after.collect();
        let parents = before.chain(kept).chain(after.into_iter().rev());
        tensors(student)
            .into_iter()
            .zip(parents)
            .map(|(ours, theirs)| self.slice(parent, ours, theirs))
            .collect()
    }

    fn slice(&self, config: &ModelConfig, student: TensorSpec, parent: &TensorSpec) -> TensorSlice {
        let layer = student.layer();
        let parts = parent.axes();
        let rows = |part: &Axes| {
            let first = part.rows.start;
            let rows = self.of_axis(config, layer, part.output);
            rows.into_iter().map(move |row| first + row)
        };
        let columns = match parts.first().and_then(|part| part.input) {
            Some(axis) => self.of_axis(config, layer, axis),
            None => vec![0],
        };
        let is_hidden_norm =
            parent.kind == Kind::Norm && parts.iter().all(|part| part.output == Axis::Hidden);
        let scale = if is_hidden_norm {
            (config.hidden_size as f64 / self.hidden.len() as f64).sqrt() as f32
        } else {
            1.0
        };
        TensorSlice {
            rows: parts.iter().flat_map(rows).collect(),
            columns,
            scale,
            student,
            parent: parent.clone(),
        }
    }

    /// The indices kept of `axis` in the student's `layer`.
    fn of_axis(&self, config: &ModelConfig, layer: Option<usize>, axis: Axis) -> Vec<usize> {
        let of_heads = |width: usize| {
            let heads = layer.map_or(&[][..], |layer| &self.kv_heads[layer]);
            let channels = |&head: &usize| head * width..(head + 1) * width;
            heads.iter().flat_map(channels).collect()
        };
        let group = config.num_attention_heads / config.num_key_value_heads;
        match axis {
            Axis::Vocabulary => self.vocabulary.clone(),
            Axis::Hidden => self.hidden.clone(),
            Axis::Queries => of_heads(group * config.head_dim),
            Axis::Keys => of_heads(config.head_dim),
            Axis::Inner => layer.map_or(Vec::new(), |layer| self.mlp[layer].clone()),
            Axis::Head => (0..config.head_dim).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::student_config::{TargetSizes, student_config};

    #[test]
    fn every_slice_has_the_shape_of_the_students_tensor() {
        for kind in ["llama", "qwen", "qwen2", "qwen3"] {
            for tied in [true, false] {
                let mut config = json!({
                    "model_type": kind, "vocab_size": 40, "hidden_size": 24,
                    "intermediate_size": 36, "num_hidden_layers": 4, "num_attention_heads": 6,
                    "head_dim": 4, "tie_word_embeddings": tied,
                });
                if kind != "qwen" {
                    config["num_key_value_heads"] = 3.into();
                }
                if kind == "llama" {
                    config["attention_bias"] = true.into();
                    config["mlp_bias"] = true.into();
                }
                let parent: ModelConfig = serde_json::from_value(config).unwrap();
                let parent = parent.resolve().unwrap();
                let target = TargetSizes {
                    layers: Some(2),
                    hidden: Some(16),
                    heads: Some(4),
                    mlp: Some(5),
                    vocabulary: Some(7),
                    ..TargetSizes::default()
                };
                let student = student_config(&parent, &target).unwrap();
                let heads = student.num_key_value_heads;
                let kept = KeptIndices {
                    layers: vec![1, 3],
                    hidden: (3..19).collect(),
                    kv_heads: vec![(0..heads).collect(), (1..=heads).collect()],
                    mlp: vec![vec![0, 2, 4, 6, 8], vec![1, 3, 5, 7, 9]],
                    vocabulary: (9..16).collect(),
                };
                let slices = kept.tensor_slices(&parent, &student);
                assert_eq!(slices.len(), tensors(&student).len());
                for s in slices {
                    assert_eq!(s.rows.len(), s.student.shape[0], "{}", s.student.name);
                    let columns = s.student.shape.get(1).copied().unwrap_or(1);
                    assert_eq!(s.columns.len(), columns, "{}", s.student.name);
                    assert!(s.rows.iter().all(|&r| r < s.parent.shape[0]));
                    assert_eq!(s.parent.layer(), s.student.layer().map(|l| 2 * l + 1));
                    let renamed = match s.parent.layer() {
                        Some(l) => s
                            .parent
                            .name
                            .replace(&format!(".{l}."), &format!(".{}.", l / 2)),
                        None => s.parent.name.clone(),
                    };
                    assert_eq!(renamed, s.student.name);
                    assert_eq!(
                        s.scale != 1.0,
                        s.student.kind == Kind::Norm && s.rows.len() == 16
                    );
                }
            }
        }
    }
}
