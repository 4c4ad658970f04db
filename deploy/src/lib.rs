//! Runs Vitrine's ONNX models: pictures to embeddings, embeddings to ranked matches.
//!
//! The modules follow the path of the data: the [`runtime`] opens a model by the contract it carries and tests it,
//! [`pictures`] lists what can be embedded, [`embed`] turns it into unit-length rows, a [`gallery`] keeps them on disk
//! and finds the nearest ones, [`search`] turns them into ranked matches, and a [`report`] shows them. ONNX Runtime
//! does the arithmetic; there is no Burn here and no Python.
//!
//! ```no_run
//! use deploy::{embed, gallery::Gallery, pictures, runtime, search};
//!
//! # fn main() -> Result<(), deploy::DeployError> {
//! let model = runtime::Model::open("models-onnx/LMBN_n".as_ref(), &runtime::Options::default())?;
//! let options = embed::Options::default();
//! let probes = embed::collect(&model, &pictures::list(&["probe.jpg".into()], None)?.pictures, &options)?;
//! let gallery = embed::collect(&model, &pictures::list(&["people/".into()], None)?.pictures, &options)?;
//! let (probes, gallery) = (probes.embeddings, Gallery::of(gallery.embeddings));
//! let ask = search::Ask { k: 10, ..search::Ask::default() };
//! let found = search::rank(&probes, &gallery, &ask, false, |_| ())?;
//! for found in &found.matches[0] {
//!     println!("{:.3} {}", found.similarity, gallery.templates(&[found.row])?[0].path.display());
//! }
//! # Ok(())
//! # }
//! ```

pub mod adopt;
pub mod bench;
pub mod cli;
pub mod embed;
mod error;
pub mod explain;
pub mod frontalize;
pub mod gallery;
pub mod generate;
pub mod identify;
pub mod identity;
pub mod manifest;
pub mod migrate;
pub mod pictures;
pub mod poses;
pub mod quality;
pub mod report;
pub mod runtime;
pub mod search;
#[cfg(feature = "serve")]
pub mod serve;
pub mod stale;
pub mod time;
pub mod trained;
pub mod twins;
pub mod verify;
pub mod video;

pub use error::DeployError;
