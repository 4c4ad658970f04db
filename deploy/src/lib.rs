//! Runs Vitrine's ONNX models: pictures to embeddings, embeddings to ranked matches.
//!
//! The modules follow the path of the data: the [`runtime`] opens a model by the contract it carries and tests it,
//! [`pictures`] lists what can be embedded, [`embed`] turns it into unit-length rows, a [`gallery`] keeps rows on disk,
//! an [`index`] finds the nearest ones, [`search`] turns them into ranked matches, and a [`report`] shows them. ONNX
//! Runtime does the arithmetic; there is no Burn here and no Python.
//!
//! ```no_run
//! use deploy::{embed, pictures, runtime, search};
//!
//! # fn main() -> Result<(), deploy::DeployError> {
//! let model = runtime::Model::open("models-onnx/LMBN_n".as_ref(), &runtime::Options::default())?;
//! let options = embed::Options::default();
//! let probes = embed::collect(&model, &pictures::list(&["probe.jpg".into()], None)?.pictures, &options)?;
//! let gallery = embed::collect(&model, &pictures::list(&["people/".into()], None)?.pictures, &options)?;
//! let (probes, gallery) = (probes.embeddings, gallery.embeddings);
//! let ask = search::Ask { k: 10, min_similarity: None, rerank: None, counted_only: false };
//! let found = search::rank(&probes, &gallery, &search::Labels::of(&probes, &gallery), &ask, None, |_| ())?;
//! for found in &found.matches[0] {
//!     println!("{:.3} {}", found.similarity, gallery.templates[found.row].path.display());
//! }
//! # Ok(())
//! # }
//! ```

pub mod cli;
pub mod embed;
mod error;
pub mod explain;
pub mod frontalize;
pub mod gallery;
pub mod generate;
pub mod identity;
pub mod index;
pub mod pictures;
pub mod poses;
pub mod report;
pub mod runtime;
pub mod search;
pub mod stale;
pub mod trained;
pub mod twins;
pub mod verify;

pub use error::DeployError;
