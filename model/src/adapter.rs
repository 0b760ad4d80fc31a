//! A low-rank adapter (Hu et al., arXiv 2106.09685): `(x A) B · alpha / rank`.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use retort_ops::product;

/// The low-rank pair beside a frozen weight.
#[derive(Module, Debug)]
pub struct Adapter {
    /// `[in, rank]`.
    pub a: Param<Tensor<2>>,
    /// `[rank, out]`.
    pub b: Param<Tensor<2>>,
    /// `alpha / rank`.
    pub scale: f64,
}

impl Adapter {
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        product(product(x, self.a.val()), self.b.val()) * self.scale
    }
}
