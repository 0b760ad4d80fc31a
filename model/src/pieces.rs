//! A forward pass in pieces, so that a backward pass can be made a layer at a time and keep
//! the activations of one layer only (Chen et al., arXiv 1604.06174).
//!
//! In: token ids `[B, T]`. Out: what goes into the first layer, out of each, and out of the
//! last norm, each `[B, T, D]`; in this order they are what [`Decoder::hidden`] computes.

use burn::tensor::{Int, Tensor};

use crate::attention::Pass;
use crate::decoder::{Block, Decoder, Sight};
use crate::documents::Documents;
use crate::ops::rms_norm;

/// See the module.
pub struct Pieces<'a> {
    model: &'a Decoder,
    ids: Tensor<2, Int>,
    pass: Pass,
}

impl Decoder {
    /// The pieces of a pass over `ids`, each row one document or the `documents` packed into
    /// it. They build a graph if the model and the ids are on a device with autodiff.
    ///
    /// # Panics
    /// `documents` has other dimensions than `ids`.
    pub fn pieces(&self, ids: Tensor<2, Int>, documents: Option<&Documents>) -> Pieces<'_> {
        let sight = match documents {
            Some(documents) => {
                assert_eq!(documents.dims(), ids.dims(), "documents of these ids");
                Sight::Packed(documents)
            }
            None => Sight::Causal,
        };
        Pieces {
            model: self,
            pass: self.pass(&ids, sight),
            ids,
        }
    }
}

impl Pieces<'_> {
    /// What goes into the first layer.
    pub fn embedded(&self) -> Tensor<3> {
        self.model.embed(self.ids.clone())
    }

    /// Layer `i`, and what the layers share.
    pub(crate) fn parts(&self, i: usize) -> (&Block, &Pass) {
        (&self.model.layers[i], &self.pass)
    }

    /// What comes out of layer `i` if `x` goes in.
    pub fn layer(&self, i: usize, x: Tensor<3>) -> Tensor<3> {
        self.model.layer(i, x, &self.pass, None)
    }

    /// What the last layer's output `x` is to the head.
    pub fn normed(&self, x: Tensor<3>) -> Tensor<3> {
        rms_norm(&self.model.norm, x)
    }
}
