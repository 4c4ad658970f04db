//! Templates and who they are: durable enrolment, removal that can be proved, exact search. No model, no picture and no
//! network: rows of unit length in, ids and similarities out.
//!
//! Catalogue and segments (what is stored) `->` scan (which rows are nearest) `->` store (a folder that processes
//! share) `->` [`Engine`] and [`Snapshot`] (what programs use). [`Memory`] is the same without a file and in the
//! plainest way: what every other engine is compared with. With the feature `milvus` there is `milvus::Milvus`, a
//! gallery in a cluster.
//!
//! ```
//! use gallery::{Ask, Engine, Model, NewTemplate, Rows, Selection, Snapshot, Store};
//!
//! let folder = tempfile::tempdir()?;
//! let model = Model { contract_id: "0123456789abcdef".into(), dim: 2, ..Model::default() };
//! let gallery = Store::create(folder.path(), &model)?;
//! let named = |name: &str| NewTemplate { subject: Some(name.into()), ..NewTemplate::default() };
//! gallery.enrol(&[named("anna"), named("bob")], Rows::new(&[0.6, 0.8, 0.8, -0.6], 2, 2)?)?;
//!
//! let now = gallery.snapshot()?;
//! let hits = now.search(Rows::new(&[1.0, 0.0], 1, 2)?, &Ask::nearest(1))?;
//! let found = &now.templates(&[hits[0][0].id])?[0];
//! assert_eq!((found.about.subject.as_deref(), hits[0][0].similarity), (Some("bob"), 0.8));
//!
//! gallery.remove(&Selection::Subject("bob".into()))?;
//! assert!(gallery::traces(folder.path(), &[0.8, -0.6])?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod catalogue;
mod engine;
mod error;
mod id;
mod memory;
#[cfg(feature = "milvus")]
pub mod milvus;
mod remote;
mod scan;
mod segment;
mod store;
mod template;
mod turn;
mod vault;

pub use catalogue::{Found, LogEntry, Match, Person, PersonTemplate, Ranges, Verdict};
pub use engine::{Ability, Ask, Columns, Engine, Filter, Hit, Info, Lack, Model, Selection, Snapshot};
pub use error::GalleryError;
pub use id::TemplateId;
pub use memory::Memory;
pub use metrics::Rows;
pub use remote::{Remote, address};
pub use scan::{Near, nearer_rows, nearest_rows};
pub use segment::{Disk, System};
#[cfg(feature = "ann")]
pub use store::Approximate;
pub use store::{
    Changes, Compacted, HeldMemory, Index, Indexes, Layout, Migrated, Migration, Opening, Problem, Store, Trace, traces,
};
pub use template::{MAX_CAMERA, MAX_DIM, MAX_TAGS, NewTemplate, Template};
pub use vault::KeyFile;

// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
