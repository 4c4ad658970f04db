//! How fast a model runs here, and how fast this machine could run it at best.

mod picture;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::DeployError;
use crate::runtime::{Model, Peak, Work, peak_memory};

pub use picture::picture;

/// Runs before any is timed.
const WARM_UP: usize = 3;

/// Fewest runs that are timed, however long they take.
const FEWEST: usize = 10;

/// One combination of model, provider, threads and batch, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The model file.
    pub model: String,
    /// What it is called in its contract.
    pub architecture: String,
    /// The type its weights are stored in, by its contract.
    pub precision: String,
    /// What runs it.
    pub runtime: String,
    /// The execution provider that really ran.
    pub provider: String,
    /// Threads of a run.
    pub threads: usize,
    /// Pictures of a run, or rows.
    pub batch: usize,
    /// Milliseconds from the start of the command to the end of the first run: library loaded, model opened, its golden
    /// vectors compared.
    pub first_ms: f64,
    /// Runs that were timed.
    pub runs: usize,
    /// Milliseconds that half of the runs took at most.
    pub p50_ms: f64,
    /// That 95 of 100 runs took at most.
    pub p95_ms: f64,
    /// That 99 of 100 runs took at most.
    pub p99_ms: f64,
    /// Pictures in all runs by the time of all runs.
    pub pictures_per_second: f64,
    /// Most memory in bytes that the process held, with program, library and model; on the machine, not on a GPU.
    pub peak_memory_bytes: Option<u64>,
    /// Billions of multiplications with additions in a run; none in rten.
    pub multiply_adds_g: Option<f64>,
    /// What the machine can do with ONNX Runtime, measured after the runs; none in rten.
    pub machine: Option<Machine>,
    /// Least milliseconds that a run can take on such a machine; none if a type in the model was not measured.
    pub least_ms: Option<f64>,
    /// The share of [`Self::p50_ms`] that is [`Self::least_ms`]: 1 is a run that could not be faster.
    pub roofline: Option<f64>,
}

/// What a machine can do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Billions of multiplications with additions of float32 in a matrix product, per second.
    pub float32_g: f64,
    /// Of float16.
    pub float16_g: Option<f64>,
    /// Of eight bits.
    pub int8_g: Option<f64>,
    /// Gigabytes of memory read or written per second.
    pub memory_gb: f64,
}

/// Measures a model that a command `started` to open for about `time`. `counted` tells what a run computes, and is
/// asked after the runs.
///
/// # Errors
/// As [`Model::run`].
pub fn measure(
    model: &Model,
    batch: usize,
    time: Duration,
    started: Instant,
    counted: impl FnOnce() -> Result<Option<Work>, DeployError>,
) -> Result<Measured, DeployError> {
    let row = |input: &contract::InputSpec| input.row().map_or(0, |row| row.into_iter().product::<usize>());
    let inputs = model.contract.input.iter().map(|input| contract::fill::fill("input.bench", &[batch, row(input)]));
    let inputs: Vec<Vec<f32>> = inputs.collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let output = model.contract.embedding.as_ref().map(|embedding| embedding.output.as_str());
    model.run(&inputs, batch, output)?;
    let first_ms = 1e3 * started.elapsed().as_secs_f64();
    for _ in 1..WARM_UP {
        model.run(&inputs, batch, output)?;
    }
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < FEWEST || begun.elapsed() < time {
        let started = Instant::now();
        model.run(&inputs, batch, output)?;
        times.push(started.elapsed().as_secs_f64());
    }
    let all: f64 = times.iter().sum();
    // Before the machine is measured, which takes memory of its own.
    let peak_memory_bytes = peak_memory();
    let work = counted()?;
    let peak = work.as_ref().map(|work| Peak::measure(model, work, time)).transpose()?.flatten();
    let moved = model.graph.file_bytes as f64 + inputs.iter().map(|input| size_of_val(*input) as f64).sum::<f64>();
    let least = peak.zip(work).and_then(|(peak, work)| peak.least(&work, moved));
    times.sort_by(f64::total_cmp);
    let p50 = at(&times, 0.5);
    let giga = |rate: f64| rate / 1e9;
    Ok(Measured {
        model: model.path.display().to_string(),
        architecture: model.contract.architecture.clone(),
        precision: model.contract.precision.clone(),
        runtime: format!("{} {}", model.runtime.name(), model.runtime.version().unwrap_or_default()).trim().to_owned(),
        provider: model.runs_on(),
        threads: model.threads,
        batch,
        first_ms,
        runs: times.len(),
        p50_ms: 1e3 * p50,
        p95_ms: 1e3 * at(&times, 0.95),
        p99_ms: 1e3 * at(&times, 0.99),
        pictures_per_second: (batch * times.len()) as f64 / all,
        peak_memory_bytes,
        multiply_adds_g: work.map(|work| giga(work.total())),
        machine: peak.map(|peak| Machine {
            float32_g: giga(peak.float),
            float16_g: peak.half.map(giga),
            int8_g: peak.int8.map(giga),
            memory_gb: giga(peak.bandwidth),
        }),
        least_ms: least.map(|seconds| 1e3 * seconds),
        roofline: least.map(|seconds| seconds / p50),
    })
}

/// The smallest of sorted `times` that this share of them does not exceed.
fn at(times: &[f64], share: f64) -> f64 {
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

/// A line for each measurement, for people.
pub fn table(rows: &[Measured]) -> String {
    let head =
        ["model", "precision", "provider", "threads", "batch", "first ms", "p50 ms", "p95 ms", "p99 ms", "pictures/s"];
    let head = head.into_iter().chain(["peak MiB", "GMAC", "least ms", "roofline"]).map(str::to_owned).collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    for row in rows {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        lines.push(vec![
            name(row),
            row.precision.clone(),
            row.provider.clone(),
            row.threads.to_string(),
            row.batch.to_string(),
            format!("{:.0}", row.first_ms),
            format!("{:.2}", row.p50_ms),
            format!("{:.2}", row.p95_ms),
            format!("{:.2}", row.p99_ms),
            format!("{:.1}", row.pictures_per_second),
            or_dash(row.peak_memory_bytes.map(|bytes| (bytes >> 20).to_string())),
            or_dash(row.multiply_adds_g.map(|count| format!("{count:.3}"))),
            or_dash(row.least_ms.map(|least| format!("{least:.2}"))),
            or_dash(row.roofline.map(|share| format!("{:.0} %", 100.0 * share))),
        ]);
    }
    let mut text = crate::report::aligned(&lines);
    if let Some(best) = rows.iter().filter_map(|row| row.machine).reduce(Machine::better) {
        let of = |name: &str, rate: Option<f64>| rate.map(|rate| format!("{rate:.1} GMAC/s of {name}"));
        let rates = [of("float32", Some(best.float32_g)), of("float16", best.float16_g), of("int8", best.int8_g)];
        let rates: Vec<String> = rates.into_iter().flatten().collect();
        text += &format!(
            "\nThis machine reached {} in matrix products and {:.1} GB/s of memory.\nThe least time is that of the \
             products alone at this rate, or of reading weights and inputs once; the roofline is its share of p50.\n",
            rates.join(", "),
            best.memory_gb
        );
    }
    text
}

/// The name of a model in tables: its file, or its bundle's folder.
fn name(row: &Measured) -> String {
    let path = std::path::Path::new(&row.model);
    let file = path.file_name().unwrap_or_default();
    let named =
        if file == "model.onnx" { path.parent().and_then(std::path::Path::file_name).unwrap_or(file) } else { file };
    named.to_string_lossy().into_owned()
}

impl Machine {
    /// The larger of each rate.
    fn better(self, other: Self) -> Self {
        let larger = |a: Option<f64>, b: Option<f64>| [a, b].into_iter().flatten().reduce(f64::max);
        Self {
            float32_g: self.float32_g.max(other.float32_g),
            float16_g: larger(self.float16_g, other.float16_g),
            int8_g: larger(self.int8_g, other.int8_g),
            memory_gb: self.memory_gb.max(other.memory_gb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_times_that_happened() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.95, 0.99, 1.0].map(|share| at(&times, share)), [50.0, 95.0, 99.0, 100.0]);
        assert_eq!([0.5, 0.99].map(|share| at(&[7.0], share)), [7.0, 7.0]);
        assert_eq!([0.5, 0.95].map(|share| at(&[1.0, 2.0, 3.0], share)), [2.0, 3.0]);
    }
}
