//! `deploy doctor`: which ONNX Runtime there is and what it can run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::args::{DoctorArgs, FactsFormat};
use super::shared::{print, print_json};
use crate::DeployError;
use crate::report::aligned;
use crate::runtime::{Model, Options, Placement, Provider, Runtime, load};

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
    // A model that cannot be opened anywhere is an error, not a fact about providers.
    let nodes = match &args.model {
        Some(model) => Some(nodes(model, args.contract.as_ref(), &providers)?),
        None => None,
    };
    let of = |name: &str| nodes.as_ref().and_then(|nodes| nodes.get(name));
    match args.format {
        FactsFormat::Json => {
            let state = |(name, problem): &(String, Option<String>)| {
                let mut state = json!({"name": name, "runs": problem.is_none(), "problem": problem});
                match of(name) {
                    Some(Ok(placement)) => state["nodes"] = json!(placement.counts()),
                    Some(Err(problem)) => state["model_problem"] = problem.as_str().into(),
                    None => {}
                }
                state
            };
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
                let nodes = of(name).map(|nodes| match nodes {
                    Ok(placement) => format!("runs; of the model, {placement}"),
                    Err(problem) => format!("runs, but not the model: {problem}"),
                });
                lines.push(vec![name.clone(), problem.or(nodes).unwrap_or_else(|| "runs".into())]);
            }
            print(&aligned(&lines))?;
        }
    }
    let usable = providers.iter().any(|(_, problem)| problem.is_none());
    Ok(ExitCode::from(if usable { 0 } else { terminal::EXIT_NO }))
}

/// Who runs which of the model's nodes with each provider that runs, or why it does not run the model.
fn nodes(
    model: &Path,
    contract: Option<&PathBuf>,
    providers: &[(String, Option<String>)],
) -> Result<BTreeMap<String, Result<Placement, String>>, DeployError> {
    let mut all = BTreeMap::new();
    for (name, provider) in KNOWN.iter().filter(|(name, _)| providers.iter().any(|(of, no)| of == name && no.is_none()))
    {
        let contract = contract.cloned();
        let options = Options { provider: *provider, contract, self_test: false, ..Options::default() };
        let placement = Model::open(model, &options).and_then(|model| match &model.placed {
            Some(placed) => Ok(placed.clone()),
            None => model.placement(),
        });
        let placement = match placement {
            Err(error @ DeployError::Placement { .. }) => Err(error.to_string()),
            other => Ok(other?),
        };
        all.insert((*name).to_owned(), placement);
    }
    Ok(all)
}

/// Providers that we know, by name.
const KNOWN: [(&str, Provider); 3] =
    [("cpu", Provider::Cpu), ("cuda", Provider::Cuda(0)), ("tensorrt", Provider::TensorRt(0))];

/// Every provider we know, and why it does not run. Only registering tells: a library that was built with CUDA claims
/// to have it whether or not a driver is there.
pub(crate) fn providers(runtime: &Runtime) -> Vec<(String, Option<String>)> {
    let state = |(name, provider): (&str, Provider)| {
        let problem = provider.probe(runtime).err().map(|error| error.to_string().trim().replace('\n', " "));
        (name.to_owned(), problem)
    };
    KNOWN.map(state).to_vec()
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
