//! Graphs of operator sets that ONNX Runtime runs no more, or only in part, with what can be done about them.

use std::path::Path;

use onnx::{ModelProto, NodeProto};

use crate::DeployError;

/// The oldest of ONNX's own operator sets of which every library runs all operators.
const OLDEST_SET: i64 = 7;

/// The error of a model that does not open: of one of an older operator set, one that says so.
pub(super) fn too_old(path: &Path, model: &ModelProto, error: DeployError) -> DeployError {
    let set = model.opset_import.iter().find(|import| ["", "ai.onnx"].contains(&import.domain.as_str()));
    match (set, error) {
        (Some(set), DeployError::Runtime { source, .. }) if set.version < OLDEST_SET => {
            DeployError::TooOld { path: path.to_owned(), found: set.version, oldest: OLDEST_SET, source }
        }
        (_, error) => error,
    }
}

/// Fails if a batch norm has one scale for each channel, and says that it has one for each value (`spatial` is 0),
/// which converters of operator sets below 9 wrote. Such a model opens and fails at the first picture.
///
/// # Errors
/// [`DeployError::Spatial`].
pub(super) fn spatial(path: &Path, model: &ModelProto) -> Result<(), DeployError> {
    let Some(graph) = &model.graph else { return Ok(()) };
    let is_vector =
        |name: &String| graph.initializer.iter().any(|tensor| tensor.name == *name && tensor.dims.len() == 1);
    let contradicts = |node: &&NodeProto| {
        node.op_type == "BatchNormalization"
            && node
                .attribute
                .iter()
                .any(|attribute| attribute.name == "spatial" && attribute.i.unwrap_or_default() == 0)
            && node.input.get(1).is_some_and(is_vector)
    };
    match graph.node.iter().find(contradicts) {
        Some(node) => {
            let output = node.output.first().cloned().unwrap_or_default();
            Err(DeployError::Spatial { path: path.to_owned(), output })
        }
        None => Ok(()),
    }
}
