//! How each kind of Burn operation is supported: the types of the table that drives the lowering.

use std::fmt;

use serde::Serialize;

/// One kind of operation in Burn's traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OperationKind {
    /// `Base`, `Numeric`, `Bool`, `Int`, `Float`, `Activation`, `Module` or `Other`. `Base` covers tensors of
    /// floats, integers and booleans, `Numeric` those of floats and integers.
    pub group: &'static str,
    /// Burn's name inside the group: `Conv2d`.
    pub name: &'static str,
    /// Whether and how it is exported.
    #[serde(flatten)]
    pub support: Support,
}

/// Whether and how a kind of operation is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "support", rename_all = "lowercase")]
pub enum Support {
    /// Lowered to ONNX nodes.
    Lowered {
        /// Operators it may become, the most characteristic first. `Identity` and the nodes that compute dynamic
        /// sizes are not listed.
        onnx: &'static [&'static str],
        /// First operator set that it can be lowered for.
        since: u32,
        /// Last operator set, if ONNX Runtime lacks later versions of the operators.
        until: Option<u32>,
        /// Where the result may differ from Burn's.
        note: Option<&'static str>,
    },
    /// No ONNX form exists.
    Refused {
        /// Why there is none.
        reason: &'static str,
        /// What to do instead.
        way_out: &'static str,
    },
    /// Used only in training.
    Backward,
    /// Computes nothing; it only marks the lifetime of tensors.
    Bookkeeping,
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

/// A recorded operation, and what it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredOperation {
    /// Burn's name with the tensor's kind: `BaseFloat::Reshape`, `Module::Conv2d`.
    pub operation: String,
    /// Path of the module it belongs to, or of the nearest one before it.
    pub module: String,
    /// The ONNX operators written for it, in order, before optimisation.
    pub onnx: Vec<String>,
}

impl LoweredOperation {
    /// Its kind. Operations on floats, integers and booleans share the groups `Base` and `Numeric`.
    pub fn kind(&self) -> String {
        let (group, name) = self.operation.split_once("::").unwrap_or(("Other", &self.operation));
        let shared = ["Base", "Numeric"].into_iter().find(|shared| group.starts_with(shared));
        format!("{}::{name}", shared.unwrap_or(group))
    }
}
