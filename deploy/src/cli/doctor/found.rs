//! Libraries and programs of others that a model or its pictures may need: whether they are here, where, which release.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

/// A library or program, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    /// Its name for people.
    pub(super) name: &'static str,
    /// What it is for.
    pub(super) what: &'static str,
    /// The file, links resolved; none if it is not here.
    pub(super) place: Option<PathBuf>,
    /// Who led to it.
    pub(super) found_by: Option<&'static str>,
    /// Its release, as far as it tells.
    pub(super) version: Option<String>,
}

/// Libraries that execution providers load: name, beginning of the file name, what for.
const LIBRARIES: [(&str, &str, &str); 6] = [
    ("CUDA driver", "libcuda.so", "cuda and tensorrt"),
    ("CUDA runtime", "libcudart.so", "cuda and tensorrt"),
    ("cuBLAS", "libcublas.so", "cuda and tensorrt"),
    ("cuDNN", "libcudnn.so", "cuda and tensorrt"),
    ("TensorRT", "libnvinfer.so", "tensorrt"),
    ("OpenVINO", "libopenvino.so", "openvino"),
];

/// What is looked for, in the order the system's loader would: folders of LD_LIBRARY_PATH, the folder of ONNX Runtime,
/// the system's list.
pub(super) fn libraries(runtime: Option<&Path>) -> Vec<Found> {
    let variable = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut places: Vec<(PathBuf, &'static str)> = std::env::split_paths(&variable)
        .filter(|path| path.is_absolute())
        .map(|path| (path, "LD_LIBRARY_PATH"))
        .collect();
    places.extend(runtime.and_then(Path::parent).map(|folder| (folder.to_owned(), "beside ONNX Runtime")));
    let files = places.into_iter().flat_map(|(folder, by)| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
        files.sort();
        files.into_iter().map(move |file| (file, by))
    });
    let mut files: Vec<(PathBuf, &'static str)> = files.collect();
    let list = Command::new("/sbin/ldconfig").arg("-p").output().map(|done| done.stdout).unwrap_or_default();
    files.extend(listed(&String::from_utf8_lossy(&list)).into_iter().map(|file| (file, "the system's library list")));
    let of = |(name, begins, what)| {
        let found = files.iter().find(|(file, _)| is_release(file, begins));
        let place = found.map(|(file, _)| file.canonicalize().unwrap_or_else(|_| file.clone()));
        let version = place.as_deref().and_then(release);
        Found { name, what, place, found_by: found.map(|(_, by)| *by), version }
    };
    LIBRARIES.map(of).to_vec()
}

/// Files of `ldconfig -p`, those of other architectures left out.
fn listed(text: &str) -> Vec<PathBuf> {
    let own = if cfg!(target_arch = "x86_64") { "x86-64" } else { "AArch64" };
    let ours = text.lines().filter(|line| line.contains(own));
    ours.filter_map(|line| line.split_once(" => ")).map(|(_, file)| PathBuf::from(file.trim())).collect()
}

/// Whether a file is `begins`, or a release of it: `libcuda.so.1` and not `libcudart.so.1`.
fn is_release(file: &Path, begins: &str) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(begins).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// `12.4.5` of `libx.so.12.4.5`.
fn release(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let (_, release) = name.split_once(".so.")?;
    Some(release.to_owned())
}

/// The program that reads videos and cameras.
pub(super) fn ffmpeg() -> Found {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let place = std::env::split_paths(&paths).map(|folder| folder.join("ffmpeg")).find(|file| file.is_file());
    let told = place.as_ref().and_then(|file| Command::new(file).arg("-version").output().ok());
    let version = told.and_then(|told| {
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        text.split_whitespace().nth(2).map(str::to_owned)
    });
    Found { name: "ffmpeg", what: "videos and cameras", found_by: place.as_ref().map(|_| "PATH"), place, version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_list_is_read() {
        let text = "2 libs found in cache `/etc/ld.so.cache'\n\
            \tlibcudnn.so.9 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcudnn.so.9\n\
            \tlibcudnn.so.9 (libc6,AArch64) => /lib/aarch64-linux-gnu/libcudnn.so.9\n\
            \tlibfoo.so.1 (libc6) => /lib32/libfoo.so.1\n";
        let listed = listed(text);
        assert_eq!(listed.len(), 1);
        assert!(is_release(&listed[0], "libcudnn.so"));
    }

    #[test]
    fn names_that_begin_alike_are_told_apart() {
        assert!(is_release(Path::new("/a/libcuda.so.1"), "libcuda.so"));
        assert!(is_release(Path::new("/a/libcuda.so"), "libcuda.so"));
        assert!(!is_release(Path::new("/a/libcudart.so.12"), "libcuda.so"));
        assert!(!is_release(Path::new("/a/libnvinfer_plugin.so.10"), "libnvinfer.so"));
        assert_eq!(release(Path::new("/a/libnvinfer.so.10.3.0")).as_deref(), Some("10.3.0"));
        assert_eq!(release(Path::new("/a/libopenvino.so")), None);
    }
}
