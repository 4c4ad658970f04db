//! What runs a model: ONNX Runtime, or rten, which is Rust alone.

use std::fmt;
use std::path::PathBuf;

use ort::value::{Outlet, ValueType};

use super::library::{self, Runtime};
use super::provider::Provider;
use crate::DeployError;

/// What is to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// ONNX Runtime; where it is not installed rten, if this program has it. Which one is told.
    #[default]
    Auto,
    /// ONNX Runtime.
    OnnxRuntime,
    /// rten: slower, on the CPU only, and without a library to install.
    Rten,
}

/// Names on the command line.
const NAMES: [(&str, Wanted); 3] =
    [("auto", Wanted::Auto), ("onnxruntime", Wanted::OnnxRuntime), ("rten", Wanted::Rten)];

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, wanted)| wanted == self).map_or("", |(name, _)| name))
    }
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text).map(|(_, wanted)| *wanted);
        found.ok_or_else(|| format!("`{text}` is no runtime; auto, onnxruntime and rten are allowed"))
    }
}

/// What runs a model.
#[derive(Debug, Clone)]
pub enum Backend {
    /// ONNX Runtime, loaded.
    OnnxRuntime(Runtime),
    /// rten, a part of this program.
    Rten,
}

/// Release of rten, if it is a part of this program.
pub const RTEN: Option<&str> = if cfg!(feature = "rten") { Some("0.27.0") } else { None };

impl Backend {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OnnxRuntime(_) => "ONNX Runtime",
            Self::Rten => "rten",
        }
    }

    /// Its release, where it tells.
    pub fn version(&self) -> Option<String> {
        match self {
            Self::OnnxRuntime(runtime) => runtime.version(),
            Self::Rten => RTEN.map(str::to_owned),
        }
    }

    /// The library, which only ONNX Runtime is.
    pub fn onnxruntime(&self) -> Option<&Runtime> {
        match self {
            Self::OnnxRuntime(runtime) => Some(runtime),
            Self::Rten => None,
        }
    }

    /// The library's file; none for a part of this program.
    pub fn file(&self) -> Option<PathBuf> {
        self.onnxruntime().map(Runtime::file)
    }
}

/// What runs the model, and why `auto` took no ONNX Runtime.
///
/// # Errors
/// If what was asked for is not here, or does not have the `provider`.
pub(super) fn choose(wanted: Wanted, provider: Provider) -> Result<(Backend, Option<String>), DeployError> {
    let on_cpu = matches!(provider, Provider::Auto | Provider::Cpu);
    match wanted {
        Wanted::OnnxRuntime => Ok((Backend::OnnxRuntime(library::load()?), None)),
        Wanted::Rten if RTEN.is_none() => Err(DeployError::NotBuiltIn { what: "--runtime rten", feature: "rten" }),
        Wanted::Rten if on_cpu => Ok((Backend::Rten, None)),
        Wanted::Rten => {
            Err(DeployError::Unused { flag: "--provider", why: format!("rten runs on the CPU, not on `{provider}`") })
        }
        Wanted::Auto => match library::load() {
            Ok(runtime) => Ok((Backend::OnnxRuntime(runtime), None)),
            // A library that was named and does not load is a mistake, which another runtime would hide.
            Err(error @ DeployError::Load { .. })
                if RTEN.is_some()
                    && on_cpu
                    && std::env::var_os(onnxruntime::VARIABLE).is_none_or(|value| value.is_empty()) =>
            {
                let note = format!("ONNX Runtime is not here, rten runs the model: {}", terminal::sentence(&error));
                Ok((Backend::Rten, Some(note)))
            }
            Err(error) => Err(error),
        },
    }
}

/// An input or output as the graph declares it.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) dtype: ValueType,
}

impl Declared {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn dtype(&self) -> &ValueType {
        &self.dtype
    }

    /// As ONNX Runtime tells.
    pub(super) fn of_outlets(outlets: &[Outlet]) -> Vec<Self> {
        outlets.iter().map(|outlet| Self { name: outlet.name().to_owned(), dtype: outlet.dtype().clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_by_name() {
        for (name, wanted) in NAMES {
            assert_eq!((name.parse(), wanted.to_string().as_str()), (Ok(wanted), name));
        }
        assert!("tract".parse::<Wanted>().unwrap_err().contains("are allowed"));
    }

    #[test]
    fn rten_is_only_taken_where_it_can_run() {
        match choose(Wanted::Rten, Provider::Cuda(0)) {
            Err(DeployError::Unused { flag, .. }) => assert_eq!((flag, RTEN.is_some()), ("--provider", true)),
            Err(DeployError::NotBuiltIn { feature, .. }) => assert_eq!((feature, RTEN), ("rten", None)),
            other => panic!("{other:?}"),
        }
    }
}
