//! Which devices and tensors the operations with kernels of their own run on.

use burn::tensor::{DType, Device, Tensor};

/// Whether `device` is burn-flex, where the operations have kernels of their own.
pub fn available(device: &Device) -> bool {
    *device == Device::flex()
}

/// Whether the operations' kernels run on `x`: f32 on a device where they are [`available`].
pub fn fused<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && available(&x.device())
}
