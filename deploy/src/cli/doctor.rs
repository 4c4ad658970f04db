//! `deploy doctor`: which ONNX Runtime there is and what it can run.

use std::process::ExitCode;

use serde_json::json;

use super::args::{DoctorArgs, FactsFormat};
use super::shared::{print, print_json};
use crate::DeployError;
use crate::report::aligned;
use crate::runtime::{Provider, Runtime, load};

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, DeployError> {
    let runtime = match load() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::fail(&error);
            return Ok(ExitCode::from(terminal::EXIT_NO));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (version, library, found_by) = (runtime.version(), runtime.file(), found_by(&runtime));
    let providers = providers(&runtime);
    match args.format {
        FactsFormat::Json => {
            let state = |(name, problem): &(String, Option<String>)| json!({"name": name, "runs": problem.is_none(), "problem": problem});
            print_json(&json!({
                "version": version,
                "library": library.to_string_lossy(),
                "found_by": found_by,
                "threads": threads,
                "tf32": onnxruntime::tf32(),
                "providers": providers.iter().map(state).collect::<Vec<_>>(),
            }))?;
        }
        FactsFormat::Table => {
            let at_least = || format!("{} or newer", onnxruntime::OLDEST);
            let mut lines = vec![
                vec!["ONNX Runtime".to_owned(), version.unwrap_or_else(at_least)],
                vec!["library".into(), library.display().to_string()],
                vec!["found by".into(), found_by.into()],
                vec!["threads".into(), threads.to_string()],
                vec!["TensorFloat-32".into(), if onnxruntime::tf32() { "on" } else { "off" }.into()],
            ];
            for (name, problem) in &providers {
                let problem = problem.as_ref().map(|problem| format!("does not run: {problem}"));
                lines.push(vec![name.clone(), problem.unwrap_or_else(|| "runs".into())]);
            }
            print(&aligned(&lines))?;
        }
    }
    let usable = providers.iter().any(|(_, problem)| problem.is_none());
    Ok(ExitCode::from(if usable { 0 } else { terminal::EXIT_NO }))
}

/// Every provider we know, and why it does not run. Only registering tells: a library that was built with CUDA claims
/// to have it whether or not a driver is there.
pub(crate) fn providers(runtime: &Runtime) -> Vec<(String, Option<String>)> {
    let known = [("cpu", Provider::Cpu), ("cuda", Provider::Cuda(0)), ("tensorrt", Provider::TensorRt(0))];
    let state = |(name, provider): (&str, Provider)| {
        let problem = provider.probe(runtime).err().map(|error| error.to_string().trim().replace('\n', " "));
        (name.to_owned(), problem)
    };
    known.map(state).to_vec()
}

fn found_by(runtime: &Runtime) -> &'static str {
    let variable = std::env::var_os(onnxruntime::VARIABLE).filter(|value| !value.is_empty());
    let program = std::env::current_exe().ok();
    let beside = program.and_then(|path| path.parent().map(|folder| folder.join(onnxruntime::LIBRARY)));
    if variable.is_some() {
        onnxruntime::VARIABLE
    } else if beside.is_some_and(|path| path == runtime.library) {
        "beside the program"
    } else if runtime.library.components().count() > 1 {
        ".cache/onnxruntime"
    } else {
        "the system's library path"
    }
}
