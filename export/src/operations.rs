//! What becomes of each kind of operation that Burn knows: the table that the lowering is dispatched by.

use std::fmt;

use serde::Serialize;

/// One kind of operation of Burn's recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OperationKind {
    /// `Base`, `Numeric`, `Bool`, `Int`, `Float`, `Activation`, `Module` or `Other`. `Base` is of tensors of floats,
    /// integers and truth values, `Numeric` of floats and integers.
    pub group: &'static str,
    /// Burn's name inside the group: `Conv2d`.
    pub name: &'static str,
    /// What becomes of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "lowercase")]
pub enum Fate {
    /// It becomes ONNX nodes.
    Lowered {
        /// The operators that it may become, the most telling first. `Identity` and the nodes that compute dynamic
        /// sizes are not among them.
        onnx: &'static [&'static str],
        /// First operator set that it is written for.
        since: u32,
        /// Last one, where ONNX Runtime lacks the operators' later versions.
        until: Option<u32>,
        /// Where it does not do what Burn does.
        note: Option<&'static str>,
    },
    /// It has no ONNX form.
    Refused {
        /// Why not.
        reason: &'static str,
        /// What to do instead.
        way_out: &'static str,
    },
    /// It belongs to training.
    Backward,
    /// It computes nothing: recordings keep it for the lifetime of tensors.
    Bookkeeping,
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

/// An operation of a recording, and what it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredOperation {
    /// Burn's name with the tensor's kind: `BaseFloat::Reshape`, `Module::Conv2d`.
    pub operation: String,
    /// Path of the module it belongs to, or of the nearest one before it.
    pub module: String,
    /// The ONNX operators written for it, in order, before any was optimised away.
    pub onnx: Vec<String>,
}

impl LoweredOperation {
    /// Its kind: operations on floats, integers and truth values share the groups `Base` and `Numeric`.
    pub fn kind(&self) -> String {
        let (group, name) = self.operation.split_once("::").unwrap_or(("Other", &self.operation));
        let shared = ["Base", "Numeric"].into_iter().find(|shared| group.starts_with(shared));
        format!("{}::{name}", shared.unwrap_or(group))
    }
}
