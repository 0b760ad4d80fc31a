//! Devices by the names users give them, chosen at run time among what was compiled in.

use burn::tensor::Device;

use crate::error::{Error, Result};

/// The names [`device`] accepts. `cpu` is burn-flex, the faster of the two as measured
/// (`experiments/results/`); `ndarray` is burn-ndarray, deprecated upstream; `vulkan`, in a
/// build with that feature, is the GPU that wgpu thinks fastest.
pub const DEVICES: &[&str] = &[
    "cpu",
    "ndarray",
    #[cfg(feature = "vulkan")]
    "vulkan",
];

/// The device called `name`, without autodiff.
///
/// # Errors
/// [`Error::Device`] lists what there is.
pub fn device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::flex()),
        #[expect(
            deprecated,
            reason = "shipped for comparison until upstream removes it"
        )]
        "ndarray" => Ok(Device::ndarray()),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        other => Err(Error::Device {
            name: other.to_owned(),
        }),
    }
}
