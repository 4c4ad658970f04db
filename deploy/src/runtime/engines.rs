//! What TensorRT builds for a model, kept between runs.
//!
//! Building takes minutes. What comes out belongs to one GPU, one release of TensorRT, one model and one range of
//! shapes, so each combination has a folder of its own, and a model or driver that changed never meets an older engine.
//! The folder is the user's alone: TensorRT trusts the files in it.

use std::path::{Path, PathBuf};

use contract::InputSpec;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::machine::Gpu;
use crate::DeployError;

/// Rows of the smallest, the usual and the largest batch that an engine is built for. Larger batches run in portions.
pub(super) const ROWS: [usize; 3] = [1, 16, 64];

/// Where engines of a model are kept, and for which shapes they are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Engines {
    /// Of this model, GPU, release and range of shapes.
    pub(super) folder: PathBuf,
    /// Shapes of all inputs in batches of [`ROWS`], as TensorRT's options want them; none if the graph fixes its batch.
    profile: Option<[String; 3]>,
}

/// The folder that engines are kept in unless another is named: `vitrine/tensorrt` in the user's cache.
pub(super) fn usual_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("vitrine/tensorrt"))
}

/// What an engine belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    /// The GPU; none where it cannot be asked.
    pub(super) gpu: Option<&'a Gpu>,
    /// TensorRT's library: its file name carries the release.
    pub(super) tensorrt: &'a str,
    /// SHA-256 of the model.
    pub(super) sha256: &'a str,
}

impl Engines {
    /// Engines in a folder below `root`.
    pub(super) fn new(root: &Path, owner: Owner<'_>, inputs: &[InputSpec]) -> Self {
        let profile = profile(inputs);
        let key = key(owner, profile.as_ref()).to_string();
        let name = &hex::encode(Sha256::digest(key))[..32];
        Self { folder: root.join(name), profile }
    }

    /// Makes the folder, with a note on what it is for.
    ///
    /// # Errors
    /// [`DeployError::Write`].
    pub(super) fn prepare(&self, owner: Owner<'_>) -> Result<(), DeployError> {
        let unwritten = |source| DeployError::Write { path: self.folder.clone(), source };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.folder).map_err(unwritten)?;
        let text = format!("{:#}\n", key(owner, self.profile.as_ref()));
        std::fs::write(self.folder.join("about.json"), text).map_err(unwritten)
    }

    /// Whether an engine has been built before.
    pub(super) fn built(&self) -> bool {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.path().extension().is_some_and(|end| end == "engine"))
    }

    /// TensorRT's options in ONNX Runtime.
    pub(super) fn options(&self) -> Vec<(&'static str, String)> {
        let folder = self.folder.to_string_lossy().into_owned();
        let mut options = vec![
            ("trt_engine_cache_enable", "1".to_owned()),
            ("trt_engine_cache_path", folder.clone()),
            ("trt_timing_cache_enable", "1".to_owned()),
            ("trt_timing_cache_path", folder),
        ];
        if let Some([least, usual, most]) = &self.profile {
            options.push(("trt_profile_min_shapes", least.clone()));
            options.push(("trt_profile_opt_shapes", usual.clone()));
            options.push(("trt_profile_max_shapes", most.clone()));
        }
        options
    }

    /// Rows that a run may have at most.
    pub(super) fn most_rows(&self) -> Option<usize> {
        self.profile.as_ref().map(|_| ROWS[2])
    }
}

/// All that an engine belongs to, in a fixed order.
fn key(Owner { gpu, tensorrt, sha256 }: Owner<'_>, profile: Option<&[String; 3]>) -> serde_json::Value {
    let gpu = gpu.map(|Gpu { name, driver, compute, .. }| json!({"name": name, "driver": driver, "compute": compute}));
    json!({"format": 1, "gpu": gpu, "tensorrt": tensorrt, "model": sha256, "shapes": profile})
}

/// `image:1x3x256x128,vein:1x3x256x128` for each number of rows.
fn profile(inputs: &[InputSpec]) -> Option<[String; 3]> {
    let fixed = |input: &InputSpec| matches!(input.shape.first(), Some(contract::Axis::Size(_)) | None);
    if inputs.is_empty() || inputs.iter().any(fixed) {
        return None;
    }
    Some(ROWS.map(|rows| {
        let shape = |input: &InputSpec| {
            let size = |axis: &contract::Axis| if let contract::Axis::Size(size) = axis { Some(*size) } else { None };
            let sizes = std::iter::once(rows).chain(input.shape.iter().skip(1).filter_map(size));
            format!("{}:{}", input.name, sizes.map(|size| size.to_string()).collect::<Vec<_>>().join("x"))
        };
        inputs.iter().map(shape).collect::<Vec<_>>().join(",")
    }))
}

#[cfg(test)]
mod tests {
    use contract::{Axis, PictureSpec};

    use super::*;

    fn input(batch: Axis, name: &str) -> InputSpec {
        InputSpec::picture(name, batch, PictureSpec::imagenet([256, 128]))
    }

    fn open() -> Axis {
        Axis::Symbol("batch".into())
    }

    #[test]
    fn every_part_of_the_key_has_a_folder_of_its_own() {
        let gpu = |name: &str, driver: &str| Gpu {
            name: name.into(),
            driver: driver.into(),
            memory: "8 GiB".into(),
            compute: "8.7".into(),
        };
        let (one, other, newer) = (gpu("Orin", "540"), gpu("H200", "540"), gpu("Orin", "570"));
        let owner = Owner { gpu: Some(&one), tensorrt: "libnvinfer.so.10.3.0", sha256: "ab" };
        let inputs = [input(open(), "image")];
        let folder = |owner: Owner<'_>, inputs: &[InputSpec]| Engines::new(Path::new("/cache"), owner, inputs).folder;
        let folders = [
            folder(owner, &inputs),
            folder(Owner { gpu: Some(&other), ..owner }, &inputs),
            folder(Owner { gpu: Some(&newer), ..owner }, &inputs),
            folder(Owner { gpu: None, ..owner }, &inputs),
            folder(Owner { tensorrt: "libnvinfer.so.10.9.0", ..owner }, &inputs),
            folder(Owner { sha256: "cd", ..owner }, &inputs),
            folder(owner, &[input(open(), "picture")]),
            folder(owner, &[input(Axis::Size(1), "image")]),
        ];
        let different: std::collections::BTreeSet<_> = folders.iter().collect();
        assert_eq!(different.len(), folders.len());
        assert_eq!(folder(owner, &inputs), folders[0]);
        assert!(folders.iter().all(|folder| folder.starts_with("/cache")));
    }

    #[test]
    fn shapes_of_all_inputs_are_told_unless_the_batch_is_fixed() {
        let owner = Owner { gpu: None, tensorrt: "", sha256: "" };
        let engines = Engines::new(Path::new("/cache"), owner, &[input(open(), "palm"), input(open(), "vein")]);
        let options: std::collections::BTreeMap<_, _> = engines.options().into_iter().collect();
        assert_eq!(options["trt_profile_min_shapes"], "palm:1x3x256x128,vein:1x3x256x128");
        assert_eq!(options["trt_profile_max_shapes"], "palm:64x3x256x128,vein:64x3x256x128");
        assert_eq!((options["trt_engine_cache_enable"].as_str(), engines.most_rows()), ("1", Some(64)));
        assert_eq!(Path::new(&options["trt_engine_cache_path"]), engines.folder);
        let fixed = Engines::new(Path::new("/cache"), owner, &[input(Axis::Size(1), "palm")]);
        assert_eq!((fixed.most_rows(), fixed.options().len()), (None, 4));
    }

    #[test]
    fn a_folder_is_the_users_alone_and_says_what_it_is_for() {
        let root = tempfile::tempdir().unwrap();
        let owner = Owner { gpu: None, tensorrt: "libnvinfer.so.10.3.0", sha256: "ab" };
        let engines = Engines::new(&root.path().join("a/b"), owner, &[input(open(), "palm")]);
        assert!(!engines.built());
        engines.prepare(owner).unwrap();
        engines.prepare(owner).unwrap();
        let about = std::fs::read_to_string(engines.folder.join("about.json")).unwrap();
        assert!(about.contains("libnvinfer.so.10.3.0") && about.contains("palm:1x3x256x128"), "{about}");
        assert!(!engines.built());
        std::fs::write(engines.folder.join("graph_sm87.engine"), "").unwrap();
        assert!(engines.built());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(engines.folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
