//! A language model's head and a loss over its logits in one operation, a chunk of positions at a
//! time, so that the logits of all positions never exist at once (Hsu et al., Liger Kernel, arXiv
//! 2410.10989). One scalar is differentiated, so the gradients are computed in the forward pass,
//! while a chunk's logits are at hand.
//!
//! In: `x` `[N, D]`, the head `W` `[D, V]` or, tied, the embedding `[V, D]`, and a [`HeadLoss`].
//! Out: the loss's sums over the positions, of which the first is differentiated.

use std::fmt::Debug;
use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, Flex, TensorMetadata};
use burn::tensor::{Int, Shape, Tensor};

use crate::flex::{contiguous, flex_tensor};
use crate::matmul::{Threads, View, append_product, product_into};
use crate::operation::{Apply, Operation};

/// A language model's head.
#[derive(Clone, Debug)]
pub struct LmHead {
    /// `[D, V]`, or the embedding `[V, D]` where `tied`.
    pub weight: Tensor<2>,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// A loss over logits.
pub(crate) trait HeadLoss: Debug + Send + Sync + 'static {
    /// The number of sums.
    const SUMS: usize;

    /// Positions whose logits exist at once, at most; 0 leaves it to the vocabulary.
    fn chunk(&self) -> usize {
        0
    }

    /// The sums over a chunk's positions, the differentiated one first, from its logits `[n, V]`,
    /// row by row. Where `gradient`, the logits become the gradients of the first sum.
    fn sums(&self, targets: Targets<'_>, logits: &mut [f32], gradient: bool) -> Vec<f64>;
}

/// The ids to predict at a chunk's positions, and their weights.
pub(crate) struct Targets<'a> {
    /// The positions among all N.
    pub rows: Range<usize>,
    /// Ids below V, `[n]`.
    pub ids: &'a [usize],
    /// Weights `[n]`; a position of weight 0 has no part in anything.
    pub weights: &'a [f32],
}

/// The sums of `loss` `[K]` for hidden states `x` `[N, D]` under `head`, `targets` `[N]` below V and
/// `weights` `[N]`; all [`fused`](crate::fused).
pub(crate) fn lm_head_loss<L: HeadLoss>(
    loss: L,
    x: Tensor<2>,
    head: LmHead,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> Tensor<1> {
    let ids = targets.into_data();
    let weights = weights.into_data();
    let operation = LmHeadLoss {
        loss,
        tied: head.tied,
        ids: ids.iter::<i64>().map(|id| id as usize).collect(),
        weights: weights.iter::<f32>().collect(),
    };
    let (x, head) = (x.into_dispatch(), head.weight.into_dispatch());
    Tensor::from_dispatch(Dispatch::binary(operation, x, head))
}

#[derive(Debug)]
struct LmHeadLoss<L> {
    loss: L,
    tied: bool,
    ids: Vec<usize>,
    weights: Vec<f32>,
}

impl<L: HeadLoss> Operation<2> for LmHeadLoss<L> {
    /// The gradients of `x` and the head for a loss that counts once, where there is a backward
    /// pass.
    type Saved = Option<[FlexTensor; 2]>;

    fn forward(&self, inputs: [FlexTensor; 2], tracked: bool) -> (FlexTensor, Self::Saved) {
        let [x, head] = contiguous(inputs);
        let (mut dx, mut dhead) = (Vec::new(), Vec::new());
        let gradients = tracked.then_some([&mut dx, &mut dhead]);
        let sums = self.over_chunks(x.storage(), head.storage(), head.shape(), gradients);
        let sums = flex_tensor(
            sums.iter().map(|&x| x as f32).collect(),
            Shape::new([sums.len()]),
        );
        let saved = tracked.then(|| {
            // Without positions they are still empty.
            dx.resize(x.shape().num_elements(), 0.0);
            dhead.resize(head.shape().num_elements(), 0.0);
            [flex_tensor(dx, x.shape()), flex_tensor(dhead, head.shape())]
        });
        (sums, saved)
    }

    fn backward(
        &self,
        saved: Self::Saved,
        dy: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let [dx, dhead] = saved.expect("a tracked forward pass saves its gradients");
        let by = dy.to_contiguous().storage::<f32>()[0];
        let scaled = |x: FlexTensor| match by {
            1.0 => x,
            by => Flex::float_mul_scalar(x, by.into()),
        };
        let [want_x, want_head] = wanted;
        [want_x.then(|| scaled(dx)), want_head.then(|| scaled(dhead))]
    }
}

/// Logits that exist at once: 16 MiB.
const LOGITS: usize = 1 << 22;
/// The least positions in a chunk, however large the vocabulary: fewer make the products slow.
const FEWEST: usize = 256;

/// Positions of N in a chunk, for a vocabulary of V; at most `most`, if that is not 0.
pub(crate) fn chunk(n: usize, v: usize, most: usize) -> usize {
    let chunk = match most {
        0 => (LOGITS / v.max(1)).max(FEWEST),
        most => most,
    };
    chunk.min(n).max(1)
}

/// The gradients to fill, empty before: of `x` `[N, D]` and of the head.
type Gradients<'a> = [&'a mut Vec<f32>; 2];

impl<L: HeadLoss> LmHeadLoss<L> {
    /// The sums of all chunks of `x` `[N, D]` under `head`, whose shape is `[D, V]` or, tied,
    /// `[V, D]`.
    fn over_chunks(
        &self,
        x: &[f32],
        head: &[f32],
        shape: Shape,
        mut gradients: Option<Gradients<'_>>,
    ) -> Vec<f64> {
        let mut total = vec![0.0; L::SUMS];
        let n = self.ids.len();
        let [d, v] = if self.tied {
            [shape[1], shape[0]]
        } else {
            [shape[0], shape[1]]
        };
        if n == 0 || v == 0 {
            return total;
        }
        let mut logits = Vec::new();
        if let Some([dx, _]) = &mut gradients {
            dx.reserve_exact(n * d);
        }
        let weights = if self.tied {
            View::new(head, v, d).t()
        } else {
            View::new(head, d, v)
        };
        let chunk = chunk(n, v, self.loss.chunk());
        for first in (0..n).step_by(chunk) {
            let rows = first..n.min(first + chunk);
            let part = View::new(&x[rows.start * d..], rows.len(), d);
            logits.clear();
            append_product(&mut logits, part, weights, Threads::All);
            let targets = Targets {
                ids: &self.ids[rows.clone()],
                weights: &self.weights[rows.clone()],
                rows: rows.clone(),
            };
            let sums = self.loss.sums(targets, &mut logits, gradients.is_some());
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
            if let Some([dx, dhead]) = &mut gradients {
                let dlogits = View::new(&logits, rows.len(), v);
                append_product(dx, dlogits, weights.t(), Threads::All);
                let (a, b) = if self.tied {
                    (dlogits, part)
                } else {
                    (part, dlogits)
                };
                match first {
                    0 => append_product(dhead, a.t(), b, Threads::All),
                    _ => product_into(dhead, a.t(), b, true, Threads::All),
                }
            }
        }
        total
    }
}
