//! Execution providers: where a model runs.

use std::fmt;

use ort::ep;
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::library::Runtime;
use crate::DeployError;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// CUDA where it really runs, else the CPU; the model says which.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, by device number.
    Cuda(u16),
    /// TensorRT, by device number; operators it lacks run on CUDA.
    TensorRt(u16),
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Auto => f.write_str("auto"),
            Provider::Cpu => f.write_str("cpu"),
            Provider::Cuda(device) => write!(f, "cuda:{device}"),
            Provider::TensorRt(device) => write!(f, "tensorrt:{device}"),
        }
    }
}

impl std::str::FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || format!("`{text}` is no provider; auto, cpu, cuda[:DEVICE] and tensorrt[:DEVICE] are allowed");
        let (name, device) = match text.split_once(':') {
            None => (text, None),
            Some((name, device)) => (name, Some(device.parse::<u16>().map_err(|_| allowed())?)),
        };
        match (name, device) {
            ("auto", None) => Ok(Provider::Auto),
            ("cpu", None) => Ok(Provider::Cpu),
            ("cuda", device) => Ok(Provider::Cuda(device.unwrap_or(0))),
            ("tensorrt", device) => Ok(Provider::TensorRt(device.unwrap_or(0))),
            _ => Err(allowed()),
        }
    }
}

impl Provider {
    /// Adds the provider to a session under construction; an error if it does not register.
    pub(super) fn register(self, builder: SessionBuilder) -> Result<SessionBuilder, ort::Error> {
        let cuda = |device: u16| {
            // TensorFloat-32 would change embeddings in the third digit, and with them the gallery.
            ep::CUDA::default().with_device_id(device.into()).with_tf32(false).build().error_on_failure()
        };
        let providers = match self {
            // Without the arena every run asks the system for its memory again: an eighth of the time.
            Provider::Auto | Provider::Cpu => {
                vec![ep::CPU::default().with_arena_allocator(true).build().error_on_failure()]
            }
            Provider::Cuda(device) => vec![cuda(device)],
            Provider::TensorRt(device) => {
                let tensorrt = ep::TensorRT::default().with_device_id(device.into()).build().error_on_failure();
                vec![tensorrt, cuda(device)]
            }
        };
        Ok(builder.with_execution_providers(providers)?)
    }

    /// Whether the provider really registers with the loaded library; the error says why not.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn probe(self, runtime: &Runtime) -> Result<(), ort::Error> {
        self.register(Session::builder(&runtime.environment)?).map(drop)
    }
}

/// The provider to run on, and why `auto` did not take a faster one.
pub(super) fn choose(asked: Provider, runtime: &Runtime) -> Result<(Provider, Option<String>), DeployError> {
    use ep::ExecutionProvider;
    let refused =
        |source| DeployError::Provider { provider: asked.to_string(), library: runtime.library.clone(), source };
    match asked {
        Provider::Auto => {
            if !matches!(ep::CUDA::is_available(), Ok(true)) {
                return Ok((Provider::Cpu, None));
            }
            // Compiled in does not mean that its driver and libraries are here.
            match Provider::Cuda(0).probe(runtime) {
                Ok(()) => Ok((Provider::Cuda(0), None)),
                Err(error) => Ok((Provider::Cpu, Some(format!("cuda does not run here: {error}")))),
            }
        }
        provider => provider.probe(runtime).map(|()| (provider, None)).map_err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_by_name() {
        let good = [("auto", Provider::Auto), ("cpu", Provider::Cpu), ("cuda", Provider::Cuda(0))];
        for (text, provider) in good.into_iter().chain([("tensorrt:2", Provider::TensorRt(2))]) {
            assert_eq!(text.parse(), Ok(provider));
        }
        for text in ["", "gpu", "cpu:1", "cuda:x", "cuda:-1"] {
            assert!(text.parse::<Provider>().unwrap_err().contains("are allowed"), "{text}");
        }
    }
}
