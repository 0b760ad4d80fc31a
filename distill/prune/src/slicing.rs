//! Which rows and columns of each of the parent's tensors a student has.
//!
//! In: what is kept of each [`Axis`]. Out: for each tensor of the student the parent's
//! tensor, its rows and columns, and a factor.
//!
//! Biases and the norms of heads are cut like the rows they belong to; `head_dim` stays, and
//! so the rotary pairs within a head.
//!
//! An RMSNorm over D channels, all but D′ of which are zero, divides by √(Σx²/D + ε); over the
//! D′ alone it would divide by √(Σx²/D′ + ε). The student's gains are the parent's times
//! √(D/D′) and its ε the parent's times D/D′ (`shape.rs`), with which both are equal: to leave
//! out channels that are zero changes nothing.

use retort_format::{Axes, Axis, Kind, ModelConfig, TensorSpec, tensors};

/// What is kept of the parent, all indices ascending.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cut {
    /// Layers.
    pub layers: Vec<usize>,
    /// Channels of the residual stream.
    pub hidden: Vec<usize>,
    /// Key/value heads of each kept layer.
    pub groups: Vec<Vec<usize>>,
    /// Channels of the feed-forward block of each kept layer.
    pub inner: Vec<Vec<usize>>,
    /// Token ids.
    pub vocabulary: Vec<usize>,
}

/// A tensor of the student.
pub(super) struct Piece {
    /// As the student has it.
    pub student: TensorSpec,
    /// The parent's that it is cut from.
    pub parent: TensorSpec,
    /// Rows of the parent's tensor.
    pub rows: Vec<usize>,
    /// Columns; one of a vector.
    pub columns: Vec<usize>,
    /// What its elements are multiplied by.
    pub scale: f32,
}

impl Cut {
    /// The tensors of `student`, cut from those of `parent`.
    pub(super) fn pieces(&self, parent: &ModelConfig, student: &ModelConfig) -> Vec<Piece> {
        let all = tensors(parent);
        let first = all.iter().take_while(|spec| spec.layer().is_none());
        let kept = self
            .layers
            .iter()
            .flat_map(|&kept| all.iter().filter(move |spec| spec.layer() == Some(kept)));
        let last = all.iter().rev().take_while(|spec| spec.layer().is_none());
        let last: Vec<_> = last.collect();
        let parents = first.chain(kept).chain(last.into_iter().rev());
        tensors(student)
            .into_iter()
            .zip(parents)
            .map(|(ours, theirs)| self.piece(parent, ours, theirs))
            .collect()
    }

    fn piece(&self, config: &ModelConfig, student: TensorSpec, parent: &TensorSpec) -> Piece {
        let layer = student.layer();
        let parts = parent.axes();
        let rows = |part: &Axes| {
            let first = part.rows.start;
            let rows = self.indices(config, layer, part.output);
            rows.into_iter().map(move |row| first + row)
        };
        let columns = match parts.first().and_then(|part| part.input) {
            Some(dimension) => self.indices(config, layer, dimension),
            None => vec![0],
        };
        let over_hidden =
            parent.kind == Kind::Norm && parts.iter().all(|part| part.output == Axis::Hidden);
        let scale = match over_hidden {
            true => (config.hidden_size as f64 / self.hidden.len() as f64).sqrt() as f32,
            false => 1.0,
        };
        Piece {
            rows: parts.iter().flat_map(rows).collect(),
            columns,
            scale,
            student,
            parent: parent.clone(),
        }
    }

    /// What is kept of `dimension` in the student's `layer`.
    fn indices(&self, config: &ModelConfig, layer: Option<usize>, dimension: Axis) -> Vec<usize> {
        let of_groups = |width: usize| {
            let groups = layer.map_or(&[][..], |layer| &self.groups[layer]);
            let channels = |&group: &usize| group * width..(group + 1) * width;
            groups.iter().flat_map(channels).collect()
        };
        let group = config.num_attention_heads / config.num_key_value_heads;
        match dimension {
            Axis::Vocabulary => self.vocabulary.clone(),
            Axis::Hidden => self.hidden.clone(),
            Axis::Queries => of_groups(group * config.head_dim),
            Axis::Keys => of_groups(config.head_dim),
            Axis::Inner => layer.map_or(Vec::new(), |layer| self.inner[layer].clone()),
            Axis::Head => (0..config.head_dim).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prune::shape::{Target, student};

    #[test]
    fn every_piece_has_the_students_shape() {
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
                let target = Target {
                    layers: Some(2),
                    hidden: Some(16),
                    heads: Some(4),
                    inner: Some(5),
                    vocabulary: Some(7),
                    ..Target::default()
                };
                let student = student(&parent, &target).unwrap();
                let groups = student.num_key_value_heads;
                let cut = Cut {
                    layers: vec![1, 3],
                    hidden: (3..19).collect(),
                    groups: vec![(0..groups).collect(), (1..=groups).collect()],
                    inner: vec![vec![0, 2, 4, 6, 8], vec![1, 3, 5, 7, 9]],
                    vocabulary: (9..16).collect(),
                };
                let pieces = cut.pieces(&parent, &student);
                assert_eq!(pieces.len(), tensors(&student).len());
                for p in pieces {
                    assert_eq!(p.rows.len(), p.student.shape[0], "{}", p.student.name);
                    let columns = p.student.shape.get(1).copied().unwrap_or(1);
                    assert_eq!(p.columns.len(), columns, "{}", p.student.name);
                    assert!(p.rows.iter().all(|&r| r < p.parent.shape[0]));
                    assert_eq!(p.parent.layer(), p.student.layer().map(|l| 2 * l + 1));
                    let renamed = match p.parent.layer() {
                        Some(l) => p
                            .parent
                            .name
                            .replace(&format!(".{l}."), &format!(".{}.", l / 2)),
                        None => p.parent.name.clone(),
                    };
                    assert_eq!(renamed, p.student.name);
                    assert_eq!(
                        p.scale != 1.0,
                        p.student.kind == Kind::Norm && p.rows.len() == 16
                    );
                }
            }
        }
    }
}
