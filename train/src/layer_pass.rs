//! One layer's forward pass with the losses that an objective takes of it, for both ways of the backward pass.

use burn::tensor::Tensor;
use retort_model::LayerwiseForward;

use crate::objective::{LayerLosses, LayerSums, Loss};

/// The output `[B, T, D]` of layer `i` for its input `x` `[B, T, D]`; its losses, if any, are added to `sums`.
pub fn layer(
    forward: &LayerwiseForward<'_>,
    i: usize,
    x: Tensor<3>,
    losses: Option<&dyn LayerLosses>,
    sums: &mut LayerSums,
) -> Tensor<3> {
    let Some(losses) = losses else {
        return forward.layer(i, x);
    };
    if losses.needs_attention(i) {
        let [attention, y] = forward.attention_and_layer(i, x);
        losses.add(i, &y, Some(&attention), sums);
        y
    } else {
        let y = forward.layer(i, x);
        losses.add(i, &y, None, sums);
        y
    }
}

/// `loss` of the output and that of the layers' `sums` together.
pub fn with_layers(mut loss: Loss, losses: Option<&dyn LayerLosses>, sums: &LayerSums) -> Loss {
    if let Some(more) = losses.and_then(|losses| losses.weighted(sums)) {
        loss.total = loss.total + more.total;
        loss.parts.extend(more.parts);
    }
    loss
}
