//! Verifies that the file computes what the module computed: first the rules of the specification, then ONNX Runtime
//! against Burn and, where the two disagree, a search for the node where they start to.

pub(crate) mod closeness;
pub(crate) mod divergence;
mod golden;
pub mod parity;
pub(crate) mod runtime;
mod samples;

use graph::checker;
use graph::encode::{self, DataFile, Encoded};
use graph::run::Runtime;

use crate::error::{Divergence, ExportError};
use crate::model::ExportedModel;

pub use closeness::Tolerance;
pub(crate) use closeness::{Scale, Worst};
pub(crate) use golden::golden_tolerance;
pub(crate) use parity::Comparison;
pub use parity::{BatchParity, OutputParity, Parity, Run, Sampled};
pub(crate) use samples::bounded;
pub use samples::{Element, Seeded, StoredError};

impl ExportedModel {
    /// Checks the graph, encodes it and compares ONNX Runtime with Burn on varied inputs at several sizes of all
    /// dynamic axes, with the default [`Tolerance`].
    ///
    /// # Errors
    /// If a rule of ONNX is broken, ONNX Runtime fails, or an output differs too much.
    pub fn verify(&self, runtime: &Runtime) -> Result<Parity, ExportError> {
        self.verify_encoded(&self.encode(&[])?, runtime, Tolerance::default())
    }

    /// [`Self::verify`] for exactly the bytes that will be written.
    ///
    /// # Errors
    /// As for [`Self::verify`]; also if our own reader refuses the bytes.
    pub fn verify_bytes(&self, bytes: &[u8], runtime: &Runtime, tolerance: Tolerance) -> Result<Parity, ExportError> {
        self.verify_parts(bytes, None, runtime, tolerance).map(|comparison| comparison.parity)
    }

    /// [`Self::verify_bytes`] for a model whose weights may be in a separate file.
    ///
    /// # Errors
    /// As for [`Self::verify_bytes`].
    pub fn verify_encoded(
        &self,
        files: &Encoded,
        runtime: &Runtime,
        tolerance: Tolerance,
    ) -> Result<Parity, ExportError> {
        self.compare(files, runtime, tolerance).map(|comparison| comparison.parity)
    }

    /// [`Self::verify_encoded`] that also returns what is needed to repeat the comparison.
    pub(crate) fn compare(
        &self,
        files: &Encoded,
        runtime: &Runtime,
        tolerance: Tolerance,
    ) -> Result<Comparison, ExportError> {
        self.verify_parts(&files.model, files.data.as_ref(), runtime, tolerance)
    }

    /// Compares the model's values with Burn's node by node, on one input of two rows, and returns the first node that
    /// differs. A failed verification has already done so on the failing input.
    pub fn divergence(&self, files: &Encoded, runtime: &Runtime) -> Divergence {
        let inputs = self.two_rows();
        divergence::from_burn(self, &files.model, files.data.as_ref().map(DataFile::folder), runtime, &inputs)
    }

    fn verify_parts(
        &self,
        bytes: &[u8],
        data: Option<&DataFile>,
        runtime: &Runtime,
        tolerance: Tolerance,
    ) -> Result<Comparison, ExportError> {
        checker::check(self.graph(), self.opset())?;
        encode::parse(bytes, data)?;
        parity::compare(self, bytes, data.map(DataFile::folder), runtime, tolerance)
    }
}
