//! Lists the files of the page for `serve/routes/page.rs`: a new file of the folder is part of the program.

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let folder = Path::new("src/serve/page");
    println!("cargo::rerun-if-changed={}", folder.display());
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let name = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().replace('\\', "/");
    files.sort_by_key(name);
    let mut text = String::from("static FILES: &[(&str, &[u8])] = &[\n");
    for path in &files {
        let whole = path.canonicalize()?;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    ({:?}, include_bytes!({:?})),", name(path), whole);
    }
    text += "];\n";
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    std::fs::write(out.join("page.rs"), text)
}
