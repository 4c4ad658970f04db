//! `deploy doctor`: what the machine has, what runs on it, what does not, and what to do.

mod found;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use self::found::Found;
use super::args::{DoctorArgs, FactsFormat};
use super::shared::{print, print_json};
use crate::DeployError;
use crate::report::aligned;
use crate::runtime::{self, Gpu, Machine, Model, Options, Placement, Provider, RTEN, Runtime, Tuning};

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, DeployError> {
    let (runtime, problem) = match runtime::load() {
        Ok(runtime) => (Some(runtime), None),
        Err(error) => (None, Some(terminal::sentence(&error))),
    };
    let providers = runtime.as_ref().map(providers).unwrap_or_default();
    // A model that cannot be opened anywhere is an error, not a fact about providers.
    let nodes = match &args.model {
        Some(model) if runtime.is_some() => nodes(model, args.contract.as_ref(), &providers)?,
        _ => BTreeMap::new(),
    };
    let mut found = found::libraries(runtime.as_ref().map(Runtime::file).as_deref());
    found.push(found::ffmpeg());
    let state = Findings { machine: Machine::read(), gpus: runtime::gpus(), runtime, problem, providers, nodes, found };
    match args.format {
        FactsFormat::Json => print_json(&state.json())?,
        FactsFormat::Table => print(&state.table())?,
    }
    if let Some(problem) = &state.problem {
        terminal::tell!("error: {problem}");
    }
    let usable = RTEN.is_some() || state.providers.iter().any(|state| state.problem.is_none());
    Ok(ExitCode::from(if usable { 0 } else { terminal::EXIT_NO }))
}

/// Everything that is told.
struct Findings {
    machine: Machine,
    gpus: Result<Vec<Gpu>, String>,
    runtime: Option<Runtime>,
    /// Why ONNX Runtime is not loaded.
    problem: Option<String>,
    providers: Vec<State>,
    /// By provider, of a model that was named.
    nodes: BTreeMap<&'static str, Result<Placement, String>>,
    found: Vec<Found>,
}

impl Findings {
    fn json(&self) -> serde_json::Value {
        let Self { machine, gpus, runtime, .. } = self;
        let gpu =
            |gpu: &Gpu| json!({"name": gpu.name, "driver": gpu.driver, "memory": gpu.memory, "compute": gpu.compute});
        let provider = |State { provider, problem }: &State| {
            let name = provider.kind();
            let mut state = json!({"name": name, "runs": problem.is_none(), "problem": problem});
            match self.nodes.get(name) {
                Some(Ok(placement)) => state["nodes"] = json!(placement.counts()),
                Some(Err(problem)) => state["model_problem"] = problem.as_str().into(),
                None => {}
            }
            state
        };
        let here: serde_json::Map<_, _> =
            machine.instructions.iter().map(|set| (set.name.to_owned(), set.here.into())).collect();
        let tuned = Tuning::default().on(machine);
        json!({
            "version": runtime.as_ref().and_then(Runtime::version),
            "library": runtime.as_ref().map(|runtime| runtime.file().to_string_lossy().into_owned()),
            "found_by": runtime.as_ref().map(found_by),
            "problem": self.problem,
            "rten": RTEN,
            "threads": machine.cores,
            "tf32": onnxruntime::tf32(),
            "machine": {
                "architecture": std::env::consts::ARCH,
                "processor": machine.processor,
                "cores": machine.cores,
                "core_limit": machine.limits.cores,
                "memory_bytes": machine.memory,
                "memory_limit_bytes": machine.limits.memory,
                "instructions": here,
            },
            "defaults": {
                "spinning": tuned.spinning,
                "arena": tuned.arena,
                "optimisation": tuned.optimisation.to_string(),
            },
            "gpus": gpus.as_ref().map(|gpus| gpus.iter().map(gpu).collect::<Vec<_>>()).unwrap_or_default(),
            "gpu_problem": gpus.as_ref().err(),
            "providers": self.providers.iter().map(provider).collect::<Vec<_>>(),
            "libraries": self.found,
            "advice": self.advice(),
        })
    }

    fn table(&self) -> String {
        let Self { machine, gpus, runtime, .. } = self;
        let mut lines: Vec<Vec<String>> = Vec::new();
        let mut line = |name: &str, value: String| lines.push(vec![name.to_owned(), value]);
        line("processor", machine.processor.clone().unwrap_or_else(|| std::env::consts::ARCH.to_owned()));
        let limit = machine.limits.cores.map(|cores| format!(", of which a control group grants {cores:.2}"));
        line("threads", format!("{}{}", machine.cores, limit.unwrap_or_default()));
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
        let limit = machine.limits.memory.map(|bytes| format!(", of which a control group grants {}", gib(bytes)));
        let memory = machine.memory.map_or_else(|| "unknown".to_owned(), gib);
        line("memory", memory + &limit.unwrap_or_default());
        for set in &machine.instructions {
            line(set.name, format!("{} ({})", if set.here { "yes" } else { "no" }, set.what));
        }
        match gpus {
            Ok(gpus) => gpus.iter().for_each(|gpu| {
                let Gpu { name, driver, memory, compute } = gpu;
                line("GPU", format!("{name}, {memory}, compute capability {compute}, driver {driver}"));
            }),
            Err(problem) => line("GPU", format!("none: {problem}")),
        }
        match runtime {
            Some(runtime) => {
                let at_least = || format!("{} or newer", onnxruntime::OLDEST);
                line("ONNX Runtime", runtime.version().unwrap_or_else(at_least));
                line("library", runtime.file().display().to_string());
                line("found by", found_by(runtime).to_owned());
            }
            None => line("ONNX Runtime", "does not load".to_owned()),
        }
        let without = "not a part of this program; build it with `--features rten`";
        line("rten", RTEN.map_or_else(|| without.to_owned(), |version| format!("{version}, a part of this program")));
        line("TensorFloat-32", if onnxruntime::tf32() { "on" } else { "off" }.to_owned());
        line("unless told", Tuning::default().on(machine).to_string());
        for State { provider, problem } in &self.providers {
            let problem = problem.as_ref().map(|problem| format!("does not run: {problem}"));
            let nodes = self.nodes.get(provider.kind()).map(|nodes| match nodes {
                Ok(placement) => format!("runs; of the model, {placement}"),
                Err(problem) => format!("runs, but not the model: {problem}"),
            });
            line(provider.kind(), problem.or(nodes).unwrap_or_else(|| "runs".into()));
        }
        for Found { name, what, place, found_by, version } in &self.found {
            let version = version.as_ref().map(|version| format!("{version} ")).unwrap_or_default();
            let here = place
                .as_ref()
                .map(|place| format!("{version}at {}, found by {}", place.display(), found_by.unwrap_or_default()));
            line(name, here.unwrap_or_else(|| format!("not found; for {what}")));
        }
        let mut advice = self.advice();
        if advice.is_empty() {
            advice.push("nothing: all that this machine has is used".to_owned());
        }
        advice.into_iter().for_each(|sentence| line("to do", sentence));
        aligned(&lines)
    }

    /// What would make more of this machine.
    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if self.runtime.is_none() {
            advice.push(format!(
                "install ONNX Runtime: `{}`, or name it in {}",
                onnxruntime::install(),
                onnxruntime::VARIABLE
            ));
        }
        let has_gpu = self.gpus.as_ref().is_ok_and(|gpus| !gpus.is_empty());
        for State { provider, problem } in &self.providers {
            let Some(problem) = problem else { continue };
            if let Some(library) = missing_library(problem) {
                advice.push(format!(
                    "`{}` lacks {library}: install it, or name its folder in LD_LIBRARY_PATH",
                    provider.kind()
                ));
            } else if *provider == Provider::Cpu || (has_gpu && matches!(provider, Provider::Cuda(_))) {
                advice.push(format!("`{}` does not run: {}", provider.kind(), provider.advice()));
            }
        }
        if onnxruntime::tf32() {
            advice.push(
                "set NVIDIA_TF32_OVERRIDE=0: embeddings made with TensorFloat-32 differ in the third digit".to_owned(),
            );
        }
        let Machine { cores, limits, instructions, .. } = &self.machine;
        if let Some(limit) = limits.cores.filter(|limit| *limit < *cores as f64) {
            let whole = limit.floor().max(1.0);
            advice.push(format!("processor time is limited to {limit:.2} cores: `--threads {whole}` is steadier"));
        }
        if !Tuning::default().on(&self.machine).arena {
            advice.push("memory is short: `--threads 1 --batch-size 1` takes least".to_owned());
        }
        let lacks = |name: &str| instructions.iter().any(|set| set.name == name && !set.here);
        if lacks("AVX2") {
            advice.push("without AVX2 networks take several times as long; no setting helps".to_owned());
        }
        if lacks("VNNI") || lacks("dotprod") {
            advice.push("int8 gains little on this processor: measure with `deploy bench` before using it".to_owned());
        }
        advice
    }
}

/// The library that a provider's libraries want and the loader does not find.
fn missing_library(problem: &str) -> Option<&str> {
    let (before, _) = problem.split_once(": cannot open shared object file")?;
    before.rsplit(|letter: char| letter.is_whitespace() || letter == ':').next().filter(|name| name.contains(".so"))
}

/// Who runs which of the model's nodes with each provider that runs, or why it does not run the model.
fn nodes(
    model: &Path,
    contract: Option<&PathBuf>,
    providers: &[State],
) -> Result<BTreeMap<&'static str, Result<Placement, String>>, DeployError> {
    let mut all = BTreeMap::new();
    for State { provider, .. } in providers.iter().filter(|state| state.problem.is_none()) {
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
        all.insert(provider.kind(), placement);
    }
    Ok(all)
}

/// A provider, and why it does not run.
pub(crate) struct State {
    pub(crate) provider: Provider,
    pub(crate) problem: Option<String>,
}

/// Every provider we know. Only registering tells: a library that was built with CUDA claims to have it whether or not
/// a driver is there.
pub(crate) fn providers(runtime: &Runtime) -> Vec<State> {
    let state = |provider: Provider| {
        let problem = provider.probe(runtime).err().map(|error| error.to_string().trim().replace('\n', " "));
        State { provider, problem }
    };
    Provider::ALL.map(state).into()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Instruction, Limits};

    fn findings(limits: Limits, gpu: bool, problem: &str) -> Findings {
        let vnni = Instruction { name: "VNNI", here: false, what: "" };
        let gpus = vec![Gpu { name: "a".into(), driver: "b".into(), memory: "c".into(), compute: "d".into() }];
        Findings {
            machine: Machine { processor: None, cores: 4, limits, memory: Some(8 << 30), instructions: vec![vnni] },
            gpus: if gpu { Ok(gpus) } else { Err("none".into()) },
            runtime: None,
            problem: None,
            providers: vec![State { provider: Provider::Cuda(0), problem: Some(problem.into()) }],
            nodes: BTreeMap::new(),
            found: Vec::new(),
        }
    }

    #[test]
    fn advice_fits_the_machine() {
        let missing = "Failed to load library /a/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: \
                       cannot open shared object file: No such file or directory";
        assert_eq!(missing_library(missing), Some("libcublasLt.so.13"));
        assert_eq!(missing_library("not enabled in this build"), None);
        let small = Limits { cores: Some(1.5), memory: Some(512 << 20) };
        let told = findings(small, true, missing).advice().join("\n");
        for part in ["ci/onnxruntime cpu", "`cuda` lacks libcublasLt.so.13", "--threads 1 ", "1.50 cores", "int8"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let told = findings(Limits::default(), true, "not enabled").advice().join("\n");
        assert!(told.contains("ci/onnxruntime gpu") && !told.contains("cores") && !told.contains("memory"), "{told}");
        // Without a GPU there is nothing to install for one.
        let told = findings(Limits::default(), false, "not enabled").advice().join("\n");
        assert!(!told.contains("gpu"), "{told}");
    }
}
