//! `certificate.json`: what was compared before a bundle was written, and enough of it to compare again on another
//! machine, without the network or its checkpoint. Nothing in it changes from one export to the next of the same
//! weights.

use std::collections::BTreeMap;
use std::path::Path;

use contract::ModelContract;
use graph::encode::{DataFile, Encoded};
use graph::run::Runtime;
use onnx::ModelProto;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::facts::PrecisionFacts;
use crate::error::{CertificateProblem, ExportError};
use crate::model::ExportedModel;
use crate::verify::{Comparison, Parity, Run};

/// Layout of this structure; a reader refuses any other.
pub const VERSION: u32 = 2;

/// Name of the file in the bundle.
pub const FILE: &str = contract::BESIDE[2];

/// Largest certificate in bytes. That of a network with two inputs and 20 runs has 200 kB.
pub const LARGEST: u64 = 8 << 20;

/// What is certified of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Layout of this structure, [`VERSION`].
    pub version: u32,
    /// Name of the model.
    pub name: String,
    /// The model file.
    pub model: ModelFacts,
    /// Where the weights come from.
    pub checkpoint: CheckpointFacts,
    /// What computed both sides of the comparison.
    pub tools: Tools,
    /// ONNX Runtime against Burn.
    pub parity: Parity,
    /// Every run of the comparison: the inputs by their names, and values that Burn gave.
    pub runs: Vec<Run>,
    /// Metrics of the training at the checkpoint's epoch.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Of a model in a smaller number format: what it was measured to cost. It has no runs against Burn then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<PrecisionFacts>,
}

/// What is in a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// SHA-256 of `model.onnx`.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The weights beside it, if there are any.
    #[serde(default)]
    pub data: Option<DataFacts>,
    /// SHA-256 of all constants with their names, types and shapes, wherever they are.
    pub weights_sha256: String,
    /// ONNX operator set.
    pub opset: i64,
    /// Version of ONNX's file format.
    pub ir_version: i64,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of constants.
    pub initialisers: usize,
    /// Whether the graph was simplified.
    pub optimised: bool,
}

/// A file with weights beside a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Its name in the bundle.
    pub file: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The checkpoint behind a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointFacts {
    /// SHA-256 of the checkpoint file; empty if there was none.
    pub sha256: String,
}

/// Versions of what took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// Vitrine.
    pub vitrine: String,
    /// Burn.
    pub burn: String,
    /// The ONNX Runtime library; empty if it does not tell.
    pub onnx_runtime: String,
    /// Where ONNX Runtime computed.
    pub provider: String,
    /// Processor and system: `x86_64-linux`.
    pub platform: String,
}

impl Certificate {
    pub(crate) fn new(
        model: &ExportedModel,
        contract: &ModelContract,
        files: &Encoded,
        comparison: &Comparison,
        runtime: &Runtime,
    ) -> Result<Self, ExportError> {
        let proto = files.parse()?;
        let folder = files.data.as_ref().map(DataFile::folder).unwrap_or(Path::new(""));
        let path = folder.join(super::MODEL);
        let weights =
            weights_sha256(&proto, &path).map_err(|source| ExportError::Read { path: folder.to_owned(), source })?;
        let data = files.data.as_ref().map(|data| DataFacts {
            file: data.name.clone(),
            sha256: data.sha256.clone(),
            bytes: data.bytes,
        });
        let finite = |(_, value): &(&String, &f64)| value.is_finite();
        Ok(Self {
            version: VERSION,
            name: model.name().into(),
            model: ModelFacts::new(&files.model, &proto, data, weights, model.optimised()),
            checkpoint: CheckpointFacts { sha256: contract.exporter.checkpoint_sha256.clone() },
            tools: Tools {
                vitrine: env!("CARGO_PKG_VERSION").into(),
                burn: crate::BURN_VERSION.into(),
                onnx_runtime: runtime.version().unwrap_or_default(),
                provider: "cpu".into(),
                platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            },
            parity: comparison.parity.clone(),
            runs: comparison.runs.clone(),
            // JSON has no other numbers.
            metrics: contract
                .training
                .metrics
                .iter()
                .filter(finite)
                .map(|(name, value)| (name.clone(), *value))
                .collect(),
            precision: None,
        })
    }

    /// The file's content.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a certificate is plain data") + "\n"
    }

    /// Reads a certificate; keys that are not known are skipped.
    ///
    /// # Errors
    /// [`ExportError::Certificate`] if it is of another version or malformed; `path` is for the message.
    pub fn from_json(text: &str, path: &Path) -> Result<Self, ExportError> {
        let refuse = |problem: CertificateProblem| ExportError::Certificate { path: path.to_owned(), problem };
        let malformed = |error| refuse(CertificateProblem::Malformed(error));
        let value: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(found) => return Err(refuse(CertificateProblem::Version { found, read: VERSION })),
            None => return Err(refuse(CertificateProblem::NoVersion)),
        }
        serde_json::from_value(value).map_err(malformed)
    }
}

impl ModelFacts {
    pub(crate) fn new(
        bytes: &[u8],
        proto: &ModelProto,
        data: Option<DataFacts>,
        weights_sha256: String,
        optimised: bool,
    ) -> Self {
        let standard = proto.opset_import.iter().find(|set| set.domain.is_empty());
        Self {
            sha256: sha256(bytes),
            bytes: bytes.len() as u64,
            data,
            weights_sha256,
            opset: standard.map_or(0, |set| set.version),
            ir_version: proto.ir_version,
            nodes: proto.graph.as_ref().map_or(0, |graph| graph.node.len()),
            initialisers: proto.graph.as_ref().map_or(0, |graph| graph.initializer.len()),
            optimised,
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Hash of the constants of the checked model at `path`: names, types, shapes and values in the order of the file.
pub(crate) fn weights_sha256(model: &ModelProto, path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
        hash.update(format!("{} {} {:?}\n", tensor.name, tensor.data_type, tensor.dims));
        onnx::tensor_bytes(path, tensor, |piece| hash.update(piece))?;
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_refused() {
        let refused = |text: &str| match Certificate::from_json(text, Path::new(FILE)) {
            Err(ExportError::Certificate { path, problem }) if path == Path::new(FILE) => problem,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refused("{\"version\": 1}"), CertificateProblem::Version { found: 1, read: VERSION }));
        assert!(matches!(refused("{}"), CertificateProblem::NoVersion));
        assert!(matches!(refused("{\"version\": 2}"), CertificateProblem::Malformed(error) if error.is_data()));
        assert!(matches!(refused("["), CertificateProblem::Malformed(error) if error.is_eof()));
        let text = Certificate::from_json("{\"version\": 1}", Path::new(FILE)).unwrap_err().to_string();
        assert_eq!(text, "the certificate `certificate.json` is refused: it has version 1, this program reads 2");
    }
}
