//! Where a network computes: the CPU, or a GPU that was compiled in (cargo features `cuda` and `wgpu`) and is there.
//! What is asked for by name is taken or refused, never replaced.
//!
//! ```
//! use train::device::{DeviceName, self};
//!
//! let device = device::open("cpu".parse()?)?;
//! assert_eq!(device::name(&device), "cpu");
//! assert!("gpu".parse::<DeviceName>().is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::tensor::DeviceType;

/// A device as `--device` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceName {
    /// The CPU.
    #[default]
    Cpu,
    /// The first GPU that was compiled in and is there, else the CPU.
    Auto,
    /// A GPU of NVIDIA's, by number.
    Cuda(usize),
    /// The default GPU of Vulkan, Metal or DirectX.
    Wgpu,
}

/// Why a device cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a name.
    #[error("unknown device `{found}`; known: cpu, auto, cuda, cuda:0 and so on, wgpu")]
    Unknown {
        /// As typed.
        found: String,
    },
    /// A back end that this program was built without.
    #[error(
        "device `{device}` is not compiled in; build with it: `cargo run --release -p train --features {feature} -- …`"
    )]
    NotCompiled {
        /// What was asked for.
        device: DeviceName,
        /// The feature of the train crate.
        feature: &'static str,
    },
    /// The back end found no device of this number.
    #[error(
        "there is no device `{device}` here: {} of its kind found",
        if *found == 0 { "none".to_owned() } else { found.to_string() }
    )]
    Absent {
        /// What was asked for.
        device: DeviceName,
        /// Devices of that kind.
        found: usize,
    },
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { found: name.to_owned() };
        match name {
            "cpu" => Ok(Self::Cpu),
            "auto" => Ok(Self::Auto),
            "wgpu" => Ok(Self::Wgpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let index = name.strip_prefix("cuda:").ok_or_else(unknown)?;
                index.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

/// The device, without autodiff.
///
/// # Errors
/// If it is not compiled in or not there.
pub fn open(name: DeviceName) -> Result<Device, DeviceError> {
    match name {
        DeviceName::Cpu => Ok(Device::flex()),
        DeviceName::Auto => {
            Ok(open(DeviceName::Cuda(0)).or_else(|_| open(DeviceName::Wgpu)).unwrap_or_else(|_| Device::flex()))
        }
        DeviceName::Cuda(index) => cuda(index),
        DeviceName::Wgpu => wgpu(),
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    let found = Device::enumerate(DeviceType::Cuda).into_vec().len();
    let absent = DeviceError::Absent { device: DeviceName::Cuda(index), found };
    if index < found { Ok(Device::cuda(index)) } else { Err(absent) }
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiled { device: DeviceName::Cuda(index), feature: "cuda" })
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Result<Device, DeviceError> {
    let found = Device::enumerate(DeviceType::Wgpu).into_vec().len();
    let absent = DeviceError::Absent { device: DeviceName::Wgpu, found };
    if found > 0 { Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)) } else { Err(absent) }
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiled { device: DeviceName::Wgpu, feature: "wgpu" })
}

pub use kernels::is_cpu;

/// What a device is called, for people and `run.json`: the name that `--device` takes.
pub fn name(device: &Device) -> String {
    let device = plain(device);
    let there = |name| Some((name, open(name).ok()?));
    let mut all = [DeviceName::Cpu, DeviceName::Wgpu].into_iter().filter_map(there);
    let found = all.find(|(_, one)| *one == device).or_else(|| {
        let mut all = (0..).map(DeviceName::Cuda).map_while(there);
        all.find(|(_, one)| *one == device)
    });
    // Opened by somebody else, as Burn knows more devices than we offer.
    found.map_or_else(|| format!("{device:?}"), |(name, _)| name.to_string())
}

fn plain(device: &Device) -> Device {
    if device.is_autodiff() { device.clone().without_autodiff() } else { device.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (name, device) in [
            ("cpu", DeviceName::Cpu),
            ("auto", DeviceName::Auto),
            ("cuda:0", DeviceName::Cuda(0)),
            ("cuda:7", DeviceName::Cuda(7)),
            ("wgpu", DeviceName::Wgpu),
        ] {
            assert_eq!(name.parse(), Ok(device));
            assert_eq!(device.to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        for name in ["", "CPU", "cuda:", "cuda:-1", "cuda0", "gpu"] {
            let error = name.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.contains(&format!("unknown device `{name}`")), "{error}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        let device = open(DeviceName::Cpu).unwrap();
        assert!(is_cpu(&device) && is_cpu(&device.autodiff()));
        assert!(open(DeviceName::Auto).is_ok());
    }

    /// Where a back end is compiled in, this is a question for the machine.
    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_compiled_in_says_how_to_get_it() {
        let error = open(DeviceName::Cuda(0)).unwrap_err().to_string();
        assert!(error.contains("device `cuda:0` is not compiled in") && error.contains("--features cuda"), "{error}");
    }
}
