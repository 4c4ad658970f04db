//! Where ONNX Runtime is found, and that it tells nobody. It is loaded at run time, so that one binary serves CPU, CUDA
//! and TensorRT.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

mod environment;

pub use environment::VARIABLES;

/// Environment variable that names the library file.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// What to type when it is missing or too old, in a program of ours.
const INSTALL: &str = "ci/onnxruntime cpu";

/// Oldest release that has the interface we compile against.
pub const OLDEST: &str = "1.31";

/// File name of the library on this system.
pub const LIBRARY: &str = if cfg!(windows) {
    "onnxruntime.dll"
} else if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// Why no library could be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The variable is set, but there is no such file. Falling back to another library would hide the mistake.
    #[error("{VARIABLE} names `{}`, which is not a file", path.display())]
    Variable {
        /// Value of the variable.
        path: PathBuf,
    },
    /// Without /proc a program does not know where it lies, and what is beside it is not found.
    #[error("cannot tell where this program lies, to look for ONNX Runtime beside it; name the library in {VARIABLE}")]
    Executable {
        /// The cause.
        source: std::io::Error,
    },
}

/// What a program brings along into which ours is loaded as a library.
#[derive(Debug, Clone)]
pub struct Host {
    /// The ONNX Runtime library that belongs to it, if it has one. Code that it runs anyhow when it is asked to, so
    /// nobody is trusted who was not before.
    pub library: Option<PathBuf>,
    /// What to type there when it is missing or too old.
    pub install: &'static str,
}

static HOST: Mutex<Option<Host>> = Mutex::new(None);

/// Makes it known; it counts from the next search on.
pub fn set_host(host: Host) {
    *HOST.lock().unwrap_or_else(PoisonError::into_inner) = Some(host);
}

fn host() -> Option<Host> {
    HOST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What to type when the library is missing or too old.
pub fn install() -> &'static str {
    host().map_or(INSTALL, |host| host.install)
}

/// The ONNX Runtime library: `ORT_DYLIB_PATH`; that of the [`Host`]; beside the executable;
/// `.cache/onnxruntime/current` in the executable's folder or one above it; else the bare file name, for the system's
/// own library path. The working folder counts nowhere: whoever can write to a folder could run code in every program
/// that is started there (CWE-426). For the same reason a folder that everybody may write to counts neither, nor what
/// belongs to others than root and the owner of the executable, who decides what runs anyhow.
///
/// # Errors
/// If `ORT_DYLIB_PATH` names no file; without it, if the system does not tell where the executable is.
pub fn locate() -> Result<PathBuf, RuntimeError> {
    let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    search(variable, host().and_then(|host| host.library), std::env::current_exe())
}

fn search(
    variable: Option<PathBuf>,
    hosts: Option<PathBuf>,
    executable: std::io::Result<PathBuf>,
) -> Result<PathBuf, RuntimeError> {
    if let Some(path) = variable {
        return if path.is_file() { Ok(path) } else { Err(RuntimeError::Variable { path }) };
    }
    if let Some(path) = hosts {
        return Ok(path);
    }
    // `ort` asks for it too before it loads a bare file name, and panics if there is none.
    let executable = executable.map_err(|source| RuntimeError::Executable { source })?;
    let beside = executable.parent();
    let installed = |folder: &Path| (folder.to_owned(), Path::new(".cache/onnxruntime/current").join(LIBRARY));
    let above = beside.into_iter().flat_map(Path::ancestors).map(installed);
    let own = beside.map(|folder| (folder.to_owned(), PathBuf::from(LIBRARY)));
    let trusted = |(folder, inside): &(PathBuf, PathBuf)| {
        folder.join(inside).is_file() && is_trusted(folder, inside, &executable)
    };
    let found = own.into_iter().chain(above).find(trusted).map(|(folder, inside)| folder.join(inside));
    Ok(found.unwrap_or_else(|| PathBuf::from(LIBRARY)))
}

/// Whether nobody but root and the owner of `executable` could have put `inside` into `folder`: the folder, each step
/// of the way, and what links lead to belong to one of them, and not everybody may write there.
#[cfg(unix)]
fn is_trusted(folder: &Path, inside: &Path, executable: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const ROOT: u32 = 0;
    const BY_ALL: u32 = 0o002;
    let Ok(owner) = executable.metadata().map(|facts| facts.uid()) else { return false };
    let safe = |path: &Path| {
        // Of a link the link itself too: whoever owns it says where it leads.
        let link = path.symlink_metadata().is_ok_and(|facts| [ROOT, owner].contains(&facts.uid()));
        let target =
            path.metadata().is_ok_and(|facts| [ROOT, owner].contains(&facts.uid()) && facts.mode() & BY_ALL == 0);
        link && target
    };
    let steps = inside.components().scan(folder.to_owned(), |path, step| {
        path.push(step);
        Some(path.clone())
    });
    let file = folder.join(inside).canonicalize();
    let behind = file.as_deref().into_iter().flat_map(|file| std::iter::once(file).chain(file.parent()));
    safe(folder) && steps.into_iter().all(|path| safe(&path)) && file.is_ok() && behind.into_iter().all(safe)
}

/// Elsewhere the rights of folders are not looked at.
#[cfg(not(unix))]
fn is_trusted(_: &Path, _: &Path, _: &Path) -> bool {
    true
}

/// The file behind the loaded library `path`, links resolved, where the system tells; a bare name was looked up by it.
pub fn loaded(path: &Path) -> PathBuf {
    if let Ok(file) = path.canonicalize() {
        return file;
    }
    mapped("libonnxruntime.").unwrap_or_else(|| path.to_owned())
}

/// The loaded library whose file name begins with `name`, links resolved, where the system tells.
pub fn mapped(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut mapped = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    let named = |path: &&Path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    mapped.find(named).map(Path::to_path_buf)
}

/// Release of the loaded library `path`, from the version its symbols carry or its file name; none where neither tells.
pub fn version(path: &Path) -> Option<String> {
    let file = loaded(path);
    symbol_version(&std::fs::read(&file).ok()?).or_else(|| {
        let name = file.file_name()?.to_str()?;
        let version = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        version.starts_with("1.").then(|| version.trim_end_matches(".dylib").to_owned())
    })
}

/// `1.31.1` of the symbol version `VERS_1.31.1`, which builds for Linux define.
fn symbol_version(library: &[u8]) -> Option<String> {
    const MARKER: &[u8] = b"VERS_1.";
    let at = library.windows(MARKER.len()).position(|window| window == MARKER)?;
    let version = library[at + 5..].iter().take(16).take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    Some(version.map(|byte| char::from(*byte)).collect())
}

/// Whether NVIDIA's libraries may compute in TensorFloat-32, which changes embeddings in the third digit: never, unless
/// something changed the environment after the program started.
pub fn tf32() -> bool {
    std::env::var(environment::TF32).as_deref() != Ok("0")
}

/// The sentence for a library that cannot be loaded.
pub fn advice(path: &Path) -> String {
    format!(
        "cannot use ONNX Runtime at `{}`; {OLDEST} or newer is needed: run `{}`, or set {VARIABLE} to the library file",
        path.display(),
        install()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_symbols() {
        assert_eq!(symbol_version(b"..\0VERS_1.31.1\0OrtGetApiBase").as_deref(), Some("1.31.1"));
        assert_eq!(symbol_version(b"GLIBC_2.17"), None);
    }

    #[test]
    fn the_order_is_variable_host_executable_cache_system() {
        let root = tempfile::tempdir().unwrap();
        let touch = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let executable = touch("target/release/deploy");
        let find = |variable| search(variable, None, Ok(executable.clone()));
        assert_eq!(find(None).unwrap(), Path::new(LIBRARY));
        let cached = touch(&format!(".cache/onnxruntime/current/{LIBRARY}"));
        assert_eq!(find(None).unwrap(), cached);
        let own = touch(&format!("target/release/{LIBRARY}"));
        assert_eq!(find(None).unwrap(), own);
        let (named, hosts) = (touch("elsewhere/lib.so"), touch("packages/lib.so"));
        assert_eq!(search(None, Some(hosts.clone()), Ok(executable.clone())).unwrap(), hosts);
        assert_eq!(search(Some(named.clone()), Some(hosts), Ok(executable.clone())).unwrap(), named);
        let error = find(Some(root.path().join("missing.so"))).unwrap_err();
        assert!(error.to_string().contains("missing.so"), "{error}");
        let unknown = || Err(std::io::Error::other("no /proc/self/exe available"));
        assert_eq!(search(Some(own.clone()), None, unknown()).unwrap(), own);
        assert!(matches!(search(None, None, unknown()), Err(RuntimeError::Executable { .. })));
    }

    /// What others could have put there is not run: the next place is looked at.
    #[cfg(unix)]
    #[test]
    fn folders_that_everybody_may_write_to_are_passed_over() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let library = |folder: &str| at(folder).join(".cache/onnxruntime/current").join(LIBRARY);
        for folder in ["shared", ""] {
            std::fs::create_dir_all(library(folder).parent().unwrap()).unwrap();
            std::fs::write(library(folder), "").unwrap();
        }
        std::fs::create_dir_all(at("shared/target")).unwrap();
        std::fs::write(at("shared/target/deploy"), "").unwrap();
        let find = || search(None, None, Ok(at("shared/target/deploy"))).unwrap();
        assert_eq!(find(), library("shared"));
        let opened = ["shared", "shared/.cache", "shared/.cache/onnxruntime", "shared/.cache/onnxruntime/current"];
        let library_file = library("shared");
        for path in opened.map(at).iter().chain([&library_file]) {
            let mode = path.metadata().unwrap().permissions().mode();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
            assert_eq!(find(), library(""), "{}", path.display());
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        // A link of ours into a folder of everybody's.
        std::fs::create_dir(at("open")).unwrap();
        std::fs::rename(library("shared"), at("open/library")).unwrap();
        std::os::unix::fs::symlink(at("open/library"), library("shared")).unwrap();
        assert_eq!(find(), library("shared"));
        std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(find(), library(""));
        // Beside the executable too.
        std::fs::write(at("shared/target").join(LIBRARY), "").unwrap();
        assert_eq!(find(), at("shared/target").join(LIBRARY));
        std::fs::set_permissions(at("shared/target"), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(find(), library(""));
    }
}
