//! A linear layer: `y = x W + b`, with an optional low-rank adapter beside it.
//!
//! In: `[B, T, in]`. Out: `[B, T, out]`. Burn keeps a matrix as `[in, out]`, Hugging Face as
//! `[out, in]`: building and saving transpose. The arithmetic is in the precision of the input (see
//! [`product`]).

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use retort_ops::{self as ops, fused, product};

use crate::adapter::Adapter;
use crate::quantization_config::LinearRounding;

/// See the module.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// What is trained in its place when the weight is frozen.
    pub adapter: Option<Adapter>,
    /// What is rounded before it is used.
    #[module(skip)]
    pub(crate) rounding: LinearRounding,
}

impl Linear {
    /// `y` `[B, T, out]` in the precision of `x` `[B, T, in]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.rounding.input(x);
        let (w, bias) = (self.used_weight(), self.bias.as_ref().map(|b| b.val()));
        let y = match bias {
            bias if fused(&w) && fused(&x) => ops::linear(x.clone(), w, bias),
            Some(bias) => product(x.clone(), w) + bias.cast(x.dtype()).unsqueeze(),
            None => product(x.clone(), w),
        };
        match &self.adapter {
            Some(adapter) => y + adapter.forward(x),
            None => y,
        }
    }

    /// `added + y`, of one shape, in the precision of `added`.
    pub(crate) fn forward_added(&self, x: Tensor<3>, added: Tensor<3>) -> Tensor<3> {
        match self.plain_weight() {
            Some(w) if fused(&x) => ops::linear(self.rounding.input(x), w, Some(added)),
            _ => {
                let y = self.forward(x).cast(added.dtype());
                added + y
            }
        }
    }

    /// The weight `[in, out]` as it is used, without an adapter.
    fn used_weight(&self) -> Tensor<2> {
        self.rounding.weight(self.weight.val())
    }

    /// The weight as it is used, if the layer has neither bias nor adapter and the operations of
    /// [`retort_ops`] run on it.
    pub(crate) fn plain_weight(&self) -> Option<Tensor<2>> {
        let plain = self.bias.is_none() && self.adapter.is_none();
        (plain && fused(&self.weight.val())).then(|| self.used_weight())
    }

    /// The weight `[in, out]` as it is used, with its adapter, if any, added.
    pub(crate) fn merged_weight(&self) -> Tensor<2> {
        let weight = self.used_weight();
        match &self.adapter {
            Some(Adapter { a, b, scale }) => {
                weight.cast(DType::F32) + a.val().matmul(b.val()) * *scale
            }
            None => weight,
        }
    }
}
