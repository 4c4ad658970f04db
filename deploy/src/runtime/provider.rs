//! Execution providers: where a model runs.

use std::fmt;
use std::num::NonZeroUsize;

use ort::ep;
use ort::ep::ArbitrarilyConfigurableExecutionProvider as _;
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::engines::Engines;
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
    /// OpenVINO, on one of Intel's units.
    OpenVino(Unit),
    /// Apple's Core ML.
    CoreMl,
    /// XNNPACK, kernels for small CPUs; operators it lacks run on the CPU provider, in the same memory.
    Xnnpack,
}

/// What OpenVINO runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// The processor.
    #[default]
    Cpu,
    /// The graphics unit.
    Gpu,
    /// The unit for networks.
    Npu,
}

/// Units by name on the command line, and as OpenVINO calls them.
const UNITS: [(&str, &str, Unit); 3] =
    [("cpu", "CPU", Unit::Cpu), ("gpu", "GPU", Unit::Gpu), ("npu", "NPU", Unit::Npu)];

/// What a provider is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Setup {
    /// Threads of one session.
    pub(super) threads: usize,
    /// Whether memory of a run is kept for the next one.
    pub(super) arena: bool,
    /// Where TensorRT keeps what it builds, and for which shapes.
    pub(super) engines: Option<Engines>,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Auto => f.write_str("auto"),
            Provider::Cpu => f.write_str("cpu"),
            Provider::Cuda(device) => write!(f, "cuda:{device}"),
            Provider::TensorRt(device) => write!(f, "tensorrt:{device}"),
            Provider::OpenVino(unit) => {
                let name = UNITS.iter().find(|(_, _, of)| of == unit).map_or("", |(name, _, _)| name);
                write!(f, "openvino:{name}")
            }
            Provider::CoreMl => f.write_str("coreml"),
            Provider::Xnnpack => f.write_str("xnnpack"),
        }
    }
}

impl std::str::FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || {
            format!(
                "`{text}` is no provider; auto, cpu, cuda[:DEVICE], tensorrt[:DEVICE], openvino[:cpu|gpu|npu], coreml \
                 and xnnpack are allowed"
            )
        };
        let (name, of) = match text.split_once(':') {
            None => (text, None),
            Some((name, of)) => (name, Some(of)),
        };
        let device = || of.map_or(Ok(0), |of| of.parse::<u16>().map_err(|_| allowed()));
        match (name, of) {
            ("auto", None) => Ok(Provider::Auto),
            ("cpu", None) => Ok(Provider::Cpu),
            ("cuda", _) => device().map(Provider::Cuda),
            ("tensorrt", _) => device().map(Provider::TensorRt),
            ("openvino", None) => Ok(Provider::OpenVino(Unit::Cpu)),
            ("openvino", Some(of)) => {
                let unit = UNITS.iter().find(|(name, _, _)| *name == of).map(|(_, _, unit)| *unit);
                unit.map(Provider::OpenVino).ok_or_else(allowed)
            }
            ("coreml", None) => Ok(Provider::CoreMl),
            ("xnnpack", None) => Ok(Provider::Xnnpack),
            _ => Err(allowed()),
        }
    }
}

impl Provider {
    /// Every provider, on its first device.
    pub const ALL: [Provider; 6] = [
        Provider::Cpu,
        Provider::Cuda(0),
        Provider::TensorRt(0),
        Provider::OpenVino(Unit::Cpu),
        Provider::CoreMl,
        Provider::Xnnpack,
    ];

    /// The part of its name that says which one it is, without a device.
    pub fn kind(self) -> &'static str {
        match self {
            Provider::Auto => "auto",
            Provider::Cpu => "cpu",
            Provider::Cuda(_) => "cuda",
            Provider::TensorRt(_) => "tensorrt",
            Provider::OpenVino(_) => "openvino",
            Provider::CoreMl => "coreml",
            Provider::Xnnpack => "xnnpack",
        }
    }

    /// What to do where it does not run.
    pub fn advice(self) -> &'static str {
        match self {
            Provider::Auto | Provider::Cpu => "install ONNX Runtime with `ci/onnxruntime cpu`",
            Provider::Cuda(_) | Provider::TensorRt(_) => "install the GPU build with `ci/onnxruntime gpu`",
            Provider::OpenVino(_) => {
                "take the library of the Python package onnxruntime-openvino and name it in ORT_DYLIB_PATH"
            }
            Provider::CoreMl => "it is part of the builds for macOS, which `ci/onnxruntime cpu` installs there",
            Provider::Xnnpack => "build ONNX Runtime with --use_xnnpack and name the library in ORT_DYLIB_PATH",
        }
    }

    /// That it does not run with this library.
    pub(super) fn refused(self, runtime: &Runtime, source: ort::Error) -> DeployError {
        let library = runtime.library.clone();
        DeployError::Provider { provider: self.to_string(), advice: self.advice(), library, source }
    }

    /// Adds the provider to a session under construction; an error if it does not register.
    pub(super) fn register(self, builder: SessionBuilder, setup: &Setup) -> Result<SessionBuilder, ort::Error> {
        let cuda = |device: u16| {
            // TensorFloat-32 would change embeddings in the third digit, and with them the gallery.
            ep::CUDA::default().with_device_id(device.into()).with_tf32(false).build().error_on_failure()
        };
        let threads = NonZeroUsize::new(setup.threads).unwrap_or(NonZeroUsize::MIN);
        // Without the arena every run asks the system for its memory again: an eighth of the time.
        let cpu = ep::CPU::default().with_arena_allocator(setup.arena).build().error_on_failure();
        let providers = match self {
            Provider::Auto | Provider::Cpu => vec![cpu],
            Provider::Cuda(device) => vec![cuda(device)],
            Provider::TensorRt(device) => {
                let mut tensorrt = ep::TensorRT::default().with_device_id(device.into());
                for (key, value) in setup.engines.iter().flat_map(Engines::options) {
                    tensorrt = tensorrt.with_arbitrary_config(key, value);
                }
                vec![tensorrt.build().error_on_failure(), cuda(device)]
            }
            Provider::OpenVino(unit) => {
                let name = UNITS.iter().find(|(_, _, of)| *of == unit).map_or("CPU", |(_, name, _)| name);
                let openvino = ep::OpenVINO::default().with_device_type(name).with_num_threads(threads.get());
                // Graphics units would compute in float16 unless told otherwise.
                let precision = if unit == Unit::Cpu { "FP32" } else { "ACCURACY" };
                vec![openvino.with_precision(precision).build().error_on_failure()]
            }
            Provider::CoreMl => vec![ep::CoreML::default().build().error_on_failure()],
            Provider::Xnnpack => {
                vec![ep::XNNPACK::default().with_intra_op_num_threads(threads).build().error_on_failure(), cpu]
            }
        };
        Ok(builder.with_execution_providers(providers)?)
    }

    /// Whether the provider really registers with the loaded library; the error says why not.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn probe(self, runtime: &Runtime) -> Result<(), ort::Error> {
        self.register(Session::builder(&runtime.environment)?, &Setup { threads: 1, ..Setup::default() }).map(drop)
    }
}

/// The provider to run on, and why `auto` did not take a faster one.
pub(super) fn choose(asked: Provider, runtime: &Runtime) -> Result<(Provider, Option<String>), DeployError> {
    use ep::ExecutionProvider;
    let refused = |source| asked.refused(runtime, source);
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
        for provider in Provider::ALL {
            assert_eq!(provider.to_string().parse(), Ok(provider));
            assert!(provider.to_string().starts_with(provider.kind()));
        }
        assert_eq!("openvino:npu".parse(), Ok(Provider::OpenVino(Unit::Npu)));
        for text in ["", "gpu", "cpu:1", "cuda:x", "cuda:-1", "openvino:1", "coreml:0", "xnnpack:"] {
            assert!(text.parse::<Provider>().unwrap_err().contains("are allowed"), "{text}");
        }
    }
}
