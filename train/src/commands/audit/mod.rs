//! `train audit`: what may be wrong with a data set, before anybody trains on it.

mod page;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::bail;
use clap::Args;
use datasets::audit::{Audit, AuditOptions, DatasetFacts, Finding, Tick, audit};
use datasets::{Dataset, Options};
use terminal::progress;

use crate::run::flags::{Format, word};

/// Examples that the table names of each finding.
const NAMED: usize = 3;

/// Flags of `train audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The folder of a data set, whose layout is told from its folders; or names as --data-train of train reid takes
    /// them: market1501+msmt17, or a table of pictures such as own.csv.
    pub dataset: String,
    /// Folder of the datasets that are named [default: the working folder].
    #[arg(long, value_name = "DIR", alias = "data-dir")]
    pub datadir: Option<PathBuf>,
    /// cuhk03 means the hand-drawn boxes, not the detected ones.
    #[arg(long)]
    pub cuhk03_labeled: bool,
    /// Dataset `folders`: identities that train, the first in natural order; half of them without.
    #[arg(long, value_name = "N")]
    pub train_identities: Option<usize>,
    /// Shorter side, in pixels, below which a picture is tiny.
    #[arg(long, value_name = "PIXELS", default_value_t = AuditOptions::default().min_side,
        value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub min_side: u32,
    /// Grey levels, 0 to 32, that two nearly equal pictures differ by at most in the mean, made small and brought to
    /// one light and contrast.
    #[arg(long, value_name = "LEVELS", default_value_t = AuditOptions::default().distance, value_parser = levels)]
    pub distance: f32,
    /// Threads that read and compare pictures, at most 256 or one per core [default: one per core].
    #[arg(long, value_name = "N", value_parser = terminal::threads)]
    pub n_thread: Option<NonZeroUsize>,
    /// Also write a self-contained page with the pictures that were found.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Form of the results on stdout.
    #[arg(long, value_parser = word::<Format>(), default_value_t = Format::Table)]
    pub format: Format,
}

fn levels(text: &str) -> Result<f32, String> {
    let allowed = |levels: &f32| (0.0..=32.0).contains(levels);
    text.parse().ok().filter(allowed).ok_or_else(|| "numbers from 0 to 32 are allowed".to_owned())
}

/// `train audit`. What it finds is no error.
pub(super) fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let options = Options { train_identities: args.train_identities, cuhk03_labeled: args.cuhk03_labeled };
    let (names, root) = match &args.datadir {
        Some(datadir) => (args.dataset.as_str(), datadir.as_path()),
        None if Path::new(&args.dataset).is_dir() => ("", Path::new(&args.dataset)),
        None => (args.dataset.as_str(), Path::new(".")),
    };
    let sets = Dataset::list_each(names, root, &options)?;
    for (given, flag, wanted) in [
        (args.train_identities.is_some(), "train-identities", "folders"),
        (args.cuhk03_labeled, "cuhk03-labeled", "cuhk03_labeled"),
    ] {
        if given && !sets.iter().any(|set| set.name == wanted) {
            let found: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
            bail!("--{flag} is for dataset `{wanted}`, which is not among {}", found.join(", "));
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.n_thread.map_or(0, NonZeroUsize::get)).build()?;
    let pictures = sets.iter().map(|set| set.train.len() + set.query.len() + set.gallery.len()).sum::<usize>() as u64;
    let (reading, comparing) = (progress(pictures, "read", "pictures"), OnceLock::new());
    let second = || {
        reading.finish_and_clear();
        progress(pictures, "compare", "pictures")
    };
    let tick = |tick: Tick| match tick {
        Tick::Read => reading.inc(1),
        Tick::Compared => comparing.get_or_init(second).inc(1),
    };
    let found = pool.install(|| audit(&sets, AuditOptions { min_side: args.min_side, distance: args.distance }, &tick));
    reading.finish_and_clear();
    if let Some(bar) = comparing.get() {
        bar.finish_and_clear();
    }
    if let Some(path) = &args.report {
        files::write(path, pool.install(|| page::html(&found)))?;
        terminal::tell!("report in {}", path.display());
    }
    args.format.print(&found, || table(&found))?;
    Ok(ExitCode::SUCCESS)
}

/// One of the sets, in words.
fn described(set: &DatasetFacts) -> String {
    let of = |name: &str, facts: &datasets::audit::SetFacts| {
        let (people, cameras) = (
            plural(facts.identities, "identity", "identities"),
            match facts.cameras {
                0 => "cameras not known".to_owned(),
                count => plural(count, "camera", "cameras"),
            },
        );
        format!("  {name:<8} {} of {people}, {cameras}\n", plural(facts.pictures, "picture", "pictures"))
    };
    let mut text = format!("{}\n", set.name);
    text += &of("train", &set.train);
    text += &of("query", &set.query);
    text += &of("gallery", &set.gallery);
    text += &format!("  {}\n", set.scorable);
    set.warnings.iter().for_each(|warning| text += &format!("  {warning}\n"));
    text
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn table(found: &Audit) -> String {
    let mut text: String = found.datasets.iter().map(described).collect();
    text.push('\n');
    if found.findings.is_empty() {
        return text + "nothing was found\n";
    }
    let width = found.findings.iter().map(|one| one.kind.title().len()).max().unwrap_or(0);
    for Finding { kind, count, examples } in &found.findings {
        text += &format!("{:<width$}  {count:>7}\n", kind.title());
        for example in examples.iter().take(NAMED) {
            text += &format!("    {}\n", example.what);
        }
        if *count > NAMED {
            text += "    …\n";
        }
    }
    text
}
