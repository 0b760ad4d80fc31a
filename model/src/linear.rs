//! A linear layer: `y = x W + b`, with an optional low-rank adapter beside it.
//!
//! In: `[B, T, in]`. Out: `[B, T, out]`. Burn keeps a matrix as `[in, out]`, Hugging Face
//! as `[out, in]`: building and saving transpose. The arithmetic is that of the input's
//! precision: weights held in half precision are widened for an input in f32, a block of
//! columns at a time as they are used; weights in f32 are rounded for one in half precision.

use burn::module::{Module, Param};
use burn::tensor::module::{embedding, linear};
use burn::tensor::{DType, Int, Tensor};

use crate::fake_quantization::Rounding;
use crate::lora::Adapter;
use crate::ops::{fused, linear as linear_operation};

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
    pub(crate) rounding: Rounding,
}

impl Linear {
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.rounding.input(x);
        let (w, bias) = (self.used(), self.bias.as_ref().map(|b| b.val()));
        let y = match bias {
            bias if fused(&w) && fused(&x) => linear_operation(x.clone(), w, bias),
            Some(bias) => product(x.clone(), w) + to(bias, x.dtype()).unsqueeze(),
            None => product(x.clone(), w),
        };
        match &self.adapter {
            Some(adapter) => y + adapter.forward(x),
            None => y,
        }
    }

    /// `added + y`, of one shape, in the precision of `added`.
    pub(crate) fn forward_added(&self, x: Tensor<3>, added: Tensor<3>) -> Tensor<3> {
        match self.plain() {
            Some(w) if fused(&x) => linear_operation(self.rounding.input(x), w, Some(added)),
            _ => {
                let y = to(self.forward(x), added.dtype());
                added + y
            }
        }
    }

    /// The weight `[in, out]` as it is used, without an adapter.
    fn used(&self) -> Tensor<2> {
        self.rounding.weight(self.weight.val())
    }

    /// The weight, if the layer has nothing beside it and the operations of [`ops`](crate::ops)
    /// run on it.
    pub(crate) fn plain(&self) -> Option<Tensor<2>> {
        let alone = self.bias.is_none() && self.adapter.is_none();
        (alone && fused(&self.weight.val())).then(|| self.used())
    }
}

/// Weights widened at once from half precision: 64 MiB in f32.
const WIDENED: usize = 1 << 24;

/// `x` in `dtype`.
pub(crate) fn to<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype {
        return x;
    }
    x.cast(dtype)
}

/// `x` `[B, T, in]` times `weight` `[in, out]`, in the precision of `x`.
pub(crate) fn product(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    if fused(&weight) && fused(&x) {
        return linear_operation(x, weight, None::<Tensor<1>>);
    }
    if weight.dtype() == x.dtype() || x.dtype() != DType::F32 {
        return linear(x.clone(), to(weight, x.dtype()), None);
    }
    let [input, output] = weight.dims();
    let step = (WIDENED / input).max(1);
    let blocks = (0..output).step_by(step).map(|first| {
        let columns = weight.clone().narrow(1, first, step.min(output - first));
        linear(x.clone(), columns.cast(x.dtype()), None)
    });
    Tensor::cat(blocks.collect(), 2)
}

/// Rows `ids` `[B, T]` of `table` `[V, D]`, in f32.
pub(crate) fn lookup(table: &Param<Tensor<2>>, ids: Tensor<2, Int>) -> Tensor<3> {
    let rows = embedding(table.val(), ids);
    if rows.dtype() == DType::F32 {
        return rows;
    }
    rows.cast(DType::F32)
}
