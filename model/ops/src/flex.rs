//! From burn-flex's tensors to slices of f32 and back.

use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

use crate::matmul::View;
use crate::uninit;

/// A contiguous tensor of `values`.
pub(crate) fn flex_tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape),
        DType::F32,
    )
}

/// Zeros of a tensor's size.
pub(crate) fn zeros(like: &FlexTensor) -> Vec<f32> {
    uninit::zeros(like.shape().num_elements())
}

/// A tensor of the shape of `like`, zeros at first, that `fill` writes.
pub(crate) fn filled(like: &FlexTensor, fill: impl FnOnce(&mut [f32])) -> FlexTensor {
    let mut values = zeros(like);
    fill(&mut values);
    flex_tensor(values, like.shape())
}

/// Tensors laid out row by row, as [`FlexTensor::storage`] needs them.
pub(crate) fn contiguous<const N: usize>(tensors: [FlexTensor; N]) -> [FlexTensor; N] {
    tensors.map(|x| x.to_contiguous())
}

/// A contiguous tensor as a matrix of the rows of its last dimension.
pub(crate) fn rows(x: &FlexTensor) -> View<'_> {
    let shape = x.shape();
    let width = shape[shape.num_dims() - 1];
    View::new(x.storage(), shape.num_elements() / width.max(1), width)
}

/// The shape of `x` with another last dimension.
pub(crate) fn with_width(x: &FlexTensor, width: usize) -> Shape {
    let mut shape = x.shape();
    let last = shape.num_dims() - 1;
    shape[last] = width;
    shape
}

/// A copy of `x`, repeated as often as it takes to fill `shape`.
pub(crate) fn broadcast(x: &FlexTensor, shape: &Shape) -> Vec<f32> {
    let x: &[f32] = x.storage();
    x.repeat(shape.num_elements() / x.len().max(1))
}
