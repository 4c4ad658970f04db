//! Galleries that a server keeps, named by an address in place of a folder.

use std::path::Path;

use crate::{Engine, GalleryError, Model};

/// An open gallery that a server keeps.
pub struct Remote {
    /// The gallery.
    pub engine: Box<dyn Engine>,
    /// Whose embeddings it holds.
    pub model: Model,
}

/// The address, if this is one and no folder: `milvus://host:port/gallery`.
pub fn address(at: &Path) -> Option<&str> {
    let text = at.to_str()?;
    let scheme = text.split_once("://")?.0;
    let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+';
    (!scheme.is_empty() && scheme.bytes().all(named)).then_some(text)
}

impl Remote {
    /// Opens a gallery. Who is asking comes from the environment; see `milvus::Access`.
    ///
    /// # Errors
    /// If there is none, or the server cannot be reached; all addresses if the program has no engine that keeps
    /// galleries elsewhere.
    #[cfg(feature = "milvus")]
    pub fn open(address: &str) -> Result<Self, GalleryError> {
        use crate::milvus::{Access, Address, Milvus};
        Ok(Self::of(Milvus::open(&Address::parse(address)?, &Access::from_environment()?)?))
    }

    /// Opens a gallery, or makes one for embeddings of `model` where there is none.
    ///
    /// # Errors
    /// As [`Remote::open`].
    #[cfg(feature = "milvus")]
    pub fn open_or_create(address: &str, model: &Model) -> Result<Self, GalleryError> {
        use crate::milvus::{Access, Address, Milvus};
        Ok(Self::of(Milvus::open_or_create(&Address::parse(address)?, &Access::from_environment()?, model)?))
    }

    #[cfg(feature = "milvus")]
    fn of(milvus: crate::milvus::Milvus) -> Self {
        let model = milvus.model().clone();
        Self { engine: Box::new(milvus), model }
    }

    /// Opens a gallery, in programs that can.
    ///
    /// # Errors
    /// Always: this program cannot.
    #[cfg(not(feature = "milvus"))]
    pub fn open(_address: &str) -> Result<Self, GalleryError> {
        Err(WITHOUT)
    }

    /// Opens or makes a gallery, in programs that can.
    ///
    /// # Errors
    /// Always: this program cannot.
    #[cfg(not(feature = "milvus"))]
    pub fn open_or_create(_address: &str, _model: &Model) -> Result<Self, GalleryError> {
        Err(WITHOUT)
    }
}

#[cfg(not(feature = "milvus"))]
const WITHOUT: GalleryError = GalleryError::Unsupported {
    what: "be kept by a server",
    why: "this program was built without the feature `milvus`; build it with `cargo build --release -p deploy \
          --features milvus`, or give a folder",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_folders() {
        for (at, is) in [
            ("milvus://host/name", true),
            ("milvus+tls://host", true),
            ("http://host", true),
            ("gallery", false),
            ("/a/b", false),
            ("://a", false),
            ("a/b://c", false),
            ("", false),
        ] {
            assert_eq!(address(Path::new(at)).is_some(), is, "{at}");
        }
        let model = Model { dim: 2, ..Model::default() };
        // Whatever the program was built with, this is no address of a gallery.
        assert!(Remote::open("http://host").is_err() && Remote::open_or_create("http://host", &model).is_err());
    }
}
