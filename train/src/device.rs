//! Devices by the names users give them, chosen at run time among what was compiled in.

use burn::tensor::Device;

use crate::error::{Error, Result};

/// The names [`device`] accepts. `cpu` is burn-flex, the faster of the two as measured
/// (`experiments/results/`); `ndarray` is burn-ndarray, deprecated upstream; in builds with the
/// features of their names, `wgpu` is the GPU that wgpu thinks fastest, over whatever the system
/// has, `vulkan` the same over Vulkan, and `cuda` the first NVIDIA GPU.
pub const DEVICES: &[&str] = &[
    "cpu",
    "ndarray",
    #[cfg(feature = "wgpu")]
    "wgpu",
    #[cfg(feature = "vulkan")]
    "vulkan",
    #[cfg(feature = "cuda")]
    "cuda",
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
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(burn::tensor::DeviceIndex::Default)),
        other => Err(Error::Device {
            name: other.to_owned(),
        }),
    }
}

/// Whether it is this machine's processor that computes.
pub(crate) fn on_cpu(device: &Device) -> bool {
    let device = device.clone().inner();
    ["cpu", "ndarray"]
        .into_iter()
        .any(|name| self::device(name).is_ok_and(|cpu| cpu == device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_and_ndarray_devices_are_on_the_cpu() {
        for name in ["cpu", "ndarray"] {
            let device = device(name).unwrap();
            assert!(on_cpu(&device) && on_cpu(&device.autodiff()));
        }
        assert!(
            device("abacus")
                .unwrap_err()
                .to_string()
                .contains("cpu, ndarray")
        );
    }
}
