//! The decoder's head: logits of a hidden output, and the losses over them.

use burn::tensor::{DType, Int, Tensor};
use retort_format::ParamKey;
use retort_ops::{
    self as ops, DistillationLoss, LmHead, LossWeights, TeacherLogits, distillation_loss, product,
};

use crate::decoder::Decoder;
use crate::quantization_config::{FakeQuantization, LinearRounding};
use crate::tensor_data::dtype;

impl Decoder {
    /// Logits `[B, T, V]` of a [`hidden`](Self::hidden) output (or a part of its positions).
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let hidden = hidden.cast(dtype(self.compute));
        let logits = match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => product(self.head_input(hidden), self.table().transpose()),
        };
        logits.cast(DType::F32)
    }

    /// Logits `[N, V]` of the positions `at` `[N]` of a hidden output, counted through
    /// `[B, T]` row by row: the head runs on those alone.
    pub fn logits_at(&self, hidden: Tensor<3>, at: Tensor<1, Int>) -> Tensor<2> {
        let [b, t, d] = hidden.dims();
        let chosen = hidden.reshape([b * t, d]).select(0, at);
        self.logits(chosen.unsqueeze()).squeeze_dim(0)
    }

    /// `Σ weight · −log softmax(logits)[target]` in nats, `[1]`, over the positions of a
    /// hidden output `[B, T, D]`, with `targets` and `weights` `[B, T]`. The logits of all
    /// positions do not exist at once where the device can do without.
    pub fn cross_entropy(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        weights: Tensor<2>,
    ) -> Tensor<1> {
        let [b, t, d] = hidden.dims();
        let n = b * t;
        let (targets, weights) = (targets.reshape([n]), weights.reshape([n]));
        let head = self.head();
        if self.fused(&hidden.device()) && head.weight.dtype() == DType::F32 {
            let hidden = self.head_input(hidden.reshape([n, d]));
            return ops::linear_cross_entropy(hidden, head, targets, weights);
        }
        let logits = self.logits(hidden);
        let v = logits.dims()[2];
        ops::cross_entropy(logits.reshape([n, v]), targets, weights)
    }

    /// The loss against the text and a `teacher` over the positions of a hidden output
    /// `[B, T, D]`, with `targets` and `weights` `[B, T]`: see [`LossWeights`]. No more than a
    /// chunk's logits exist at once. The head's products are in f32, whatever the model computes
    /// in.
    ///
    /// # Panics
    /// Sparse teacher logits name an id that the model does not have.
    pub fn distillation(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        weights: Tensor<2>,
        teacher: TeacherLogits,
        loss_weights: LossWeights,
    ) -> DistillationLoss {
        let [b, t, d] = hidden.dims();
        let n = b * t;
        let hidden = self.head_input(hidden.reshape([n, d]));
        let (targets, weights) = (targets.reshape([n]), weights.reshape([n]));
        distillation_loss(hidden, self.head(), targets, weights, teacher, loss_weights)
    }

    fn head(&self) -> LmHead {
        match &self.lm_head {
            Some(head) => LmHead {
                weight: head.merged_weight(),
                tied: false,
            },
            None => LmHead {
                weight: self.table(),
                tied: true,
            },
        }
    }

    /// The embedding `[V, D]`, as it is used.
    pub(crate) fn table(&self) -> Tensor<2> {
        let table = self.embed_tokens.weight.val();
        match self.quantization {
            Some(_) => FakeQuantization::table(table),
            None => table,
        }
    }

    /// The input of the head for `hidden`.
    fn head_input<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        let rounding = self
            .quantization
            .map_or(LinearRounding::default(), |q| q.of(ParamKey::Head));
        rounding.input(hidden)
    }
}
