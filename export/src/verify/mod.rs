//! Does the file compute what the module computed? The specification's rules first, then ONNX Runtime against Burn;
//! where the two disagree, the node at which they begin to.

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
pub use samples::{Element, Seeded};

impl ExportedModel {
    /// Checks the graph, encodes it and compares ONNX Runtime with Burn on varied inputs at several sizes of all
    /// dynamic axes, with the default [`Tolerance`].
    ///
    /// # Errors
    /// If a rule of ONNX is broken, ONNX Runtime fails, or an output is too far off.
    pub fn verify(&self, runtime: &Runtime) -> Result<Parity, ExportError> {
        self.verify_encoded(&self.encode(&[])?, runtime, Tolerance::default())
    }

    /// [`Self::verify`] for the very bytes that are going to be written.
    ///
    /// # Errors
    /// As there; also if our own reader refuses them.
    pub fn verify_bytes(&self, bytes: &[u8], runtime: &Runtime, tolerance: Tolerance) -> Result<Parity, ExportError> {
        self.verify_parts(bytes, None, runtime, tolerance).map(|comparison| comparison.parity)
    }

    /// [`Self::verify_bytes`] for a model whose weights may be in a file of their own.
    ///
    /// # Errors
    /// As there.
    pub fn verify_encoded(
        &self,
        files: &Encoded,
        runtime: &Runtime,
        tolerance: Tolerance,
    ) -> Result<Parity, ExportError> {
        self.compare(files, runtime, tolerance).map(|comparison| comparison.parity)
    }

    /// [`Self::verify_encoded`] with what is needed to repeat it.
    pub(crate) fn compare(
        &self,
        files: &Encoded,
        runtime: &Runtime,
        tolerance: Tolerance,
    ) -> Result<Comparison, ExportError> {
        self.verify_parts(&files.model, files.data.as_ref(), runtime, tolerance)
    }

    /// Compares the model's values with Burn's node by node, on one input of two rows, and gives the first node that
    /// differs. A failed verification has done so on the input it failed on.
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
