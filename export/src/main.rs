//! The `export` program: turns checkpoints into `models-onnx/<name>/`. Only here do training and export meet.

mod commands;
mod families;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use contract::Axis;
use export::{DEFAULT_OPSET, MAX_INLINE_WEIGHTS, OPSETS, Runtime, bundle};
use files::lock::LockError;
use train::families::palmvein::net::Branch;
use train::run::checkpoint::Checkpoint;
use train::words::Word;

use commands::format::Format;
use commands::quantise::{Precision, PrecisionArgs};
use commands::{ops, quantise, verify};
use families::{Network, Options};

/// Export a checkpoint to ONNX, compare ONNX Runtime with Burn, and write the model only if they agree.
#[derive(Debug, Parser)]
#[command(name = "export", version, arg_required_else_help = true)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: Args,
}

/// Commands other than an export.
#[derive(Debug, Subcommand)]
enum Command {
    /// Check a bundle, on this machine or another: hashes, ONNX rules, contract and golden vectors, and that ONNX
    /// Runtime still computes what Burn computed when the bundle was made. With the checkpoint, export it again and
    /// compare node by node. Exit code 0: all checks pass; 1: a check fails; 2: the bundle cannot be checked.
    Verify(verify::VerifyArgs),
    /// Make a model of 8-bit integers or float16 from a float32 one, ours or anyone's with a contract: ranges from
    /// pictures, a plan by measured time and loss, and gates on pictures that did not calibrate.
    Quantise(Box<quantise::QuantiseArgs>),
}

#[derive(Debug, clap::Args)]
struct Args {
    /// Checkpoint, or run directory, of which the best network is taken.
    #[arg(long, value_name = "RUN_OR_CHECKPOINT", required_unless_present = "ops")]
    onnx: Option<PathBuf>,
    /// List every kind of Burn operation and its ONNX operators.
    #[arg(long, conflicts_with_all = ["onnx", "output", "opset", "batch", "no_flip", "attention", "branch"])]
    #[arg(conflicts_with_all = ["no_optimise", "external_data", "licence", "precision", "calibrate"])]
    #[arg(conflicts_with_all = ["target", "range", "weight_bits", "pictures", "plan", "min_cosine", "force"])]
    ops: bool,
    /// Folder to write [default: models-onnx/<name of the run>].
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// ONNX operator set, 17 to 23.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_OPSET, value_parser = opset)]
    opset: u32,
    /// Pictures per batch: any number (`dynamic`), or exactly N.
    #[arg(long, value_name = "dynamic|N", default_value = "dynamic", value_parser = batch)]
    batch: Axis,
    /// Embed the picture alone. By default the embedding of its mirror image is added, as in evaluation during
    /// training.
    #[arg(long)]
    no_flip: bool,
    /// Palm and veins: also write the attention weights as outputs.
    #[arg(long)]
    attention: bool,
    /// Palm and veins: export only this backbone.
    #[arg(long, value_parser = branch())]
    branch: Option<Branch>,
    /// Write the graph as it was recorded, without optimising it.
    #[arg(long)]
    no_optimise: bool,
    /// Bytes of weights above which they are stored in a separate file beside the model [default: 2 GiB, the limit
    /// of an ONNX file].
    #[arg(long, value_name = "BYTES", default_value_t = MAX_INLINE_WEIGHTS, hide_default_value = true,
        value_parser = terminal::seed)]
    external_data: u64,
    /// Licence of weights and data, named in the model card.
    #[arg(long, value_name = "TEXT", default_value = "")]
    licence: String,
    /// Write the model in a smaller number format, after its float32 form was compared with Burn as always.
    #[arg(long, value_enum, requires = "calibrate")]
    precision: Option<Precision>,
    /// Pictures to calibrate and to test the smaller format with.
    #[arg(long, value_name = "DIR", requires = "precision")]
    calibrate: Option<PathBuf>,
    #[command(flatten)]
    smaller: PrecisionArgs,
    /// Format of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The names of backbones.
fn branch() -> impl TypedValueParser<Value = Branch> {
    PossibleValuesParser::new(Branch::WORDS.iter().copied()).try_map(|word| word.parse::<Branch>())
}

fn opset(text: &str) -> Result<u32, String> {
    let found = text.parse().ok().filter(|opset| OPSETS.contains(opset));
    found.ok_or_else(|| format!("{} to {} can be written", OPSETS.start(), OPSETS.end()))
}

fn batch(text: &str) -> Result<Axis, String> {
    match (text, text.parse()) {
        ("dynamic", _) => Ok(Axis::Symbol("batch".into())),
        (_, Ok(size @ 1..=4096)) => Ok(Axis::Size(size)),
        _ => Err("`dynamic` or a number from 1 to 4096 is needed".into()),
    }
}

fn main() -> ExitCode {
    terminal::guarded(run)
}

fn run() -> ExitCode {
    let cli = match terminal::parse::<Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    export::hide_expected_panics();
    let done = match (&cli.command, &cli.args.onnx) {
        (Some(Command::Verify(args)), _) => verify::run(args),
        (Some(Command::Quantise(args)), _) => quantise::run(args),
        (None, Some(checkpoint)) => export(checkpoint, &cli.args).map(|()| ExitCode::SUCCESS),
        (None, None) => {
            let shown = terminal::show!("{}", ops::report(cli.args.format).trim_end());
            shown.map(|()| ExitCode::SUCCESS).map_err(anyhow::Error::from)
        }
    };
    done.unwrap_or_else(|error| terminal::fail(error.as_ref()))
}

fn export(checkpoint: &Path, args: &Args) -> anyhow::Result<()> {
    // Fail before the export, which takes minutes.
    if let Some(precision) = args.precision {
        args.smaller.check(precision)?;
        if args.external_data != MAX_INLINE_WEIGHTS {
            anyhow::bail!("--external-data is for float32: with --precision all weights are in one file");
        }
    } else if let Some(flag) = args.smaller.first_given() {
        anyhow::bail!("{flag} is for --precision int8 or fp16, which is not given");
    }
    // Without ONNX Runtime the model cannot be verified.
    let runtime = Runtime::load()?;
    let start = Instant::now();
    let checkpoint = Checkpoint::open(checkpoint)?;
    let name = args.output.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let options = Options {
        name: name.unwrap_or_else(|| families::name(&checkpoint.path)),
        opset: args.opset,
        optimise: !args.no_optimise,
        batch: args.batch.clone(),
        no_flip: args.no_flip,
        external_data: args.external_data,
        attention: args.attention,
        licence: args.licence.clone(),
    };
    let folder = args.output.clone().unwrap_or_else(|| Path::new("models-onnx").join(&options.name));
    terminal::tell!("exporting {} as {}, operator set {}", checkpoint.path.display(), options.name, args.opset);
    families::refuse_unused(&checkpoint, &options, args.branch)?;
    let network = Network::open(&checkpoint, args.branch)?;
    let loaded = start.elapsed();
    let (model, contract) = network.export(&checkpoint, &options)?;
    let exported = start.elapsed() - loaded;
    for warning in model.warnings() {
        terminal::warn(&warning.to_string());
    }
    if let Some(warning) = families::nothing_scored(&checkpoint) {
        terminal::warn(&warning);
    }
    let waits = |held: &LockError| terminal::note(&format!("{held}; waiting until it is done"));
    if let (Some(precision), Some(calibrate)) = (args.precision, &args.calibrate) {
        // The float32 bundle is verified and read back like any other, and then left.
        let existing = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
        let unwritable = |source| files::WriteError { path: existing.to_owned(), source };
        let between = files::TemporaryFolder::new_in(existing).map_err(unwritable)?;
        let float = bundle::write(between.path(), &model, contract, &runtime)?;
        terminal::tell!("the float32 model agrees with Burn; making {}", folder.display());
        let job =
            quantise::Job { name: options.name.clone(), precision, how: &args.smaller, calibrate, output: &folder };
        return quantise::from_bundle(&float.model, &job, &runtime)?.show(args.format);
    }
    let written = bundle::write_in_turn(&folder, &model, contract, &runtime, waits)?;
    match written.thresholds {
        bundle::Thresholds::None => {}
        bundle::Thresholds::Kept => {
            terminal::note("the thresholds of the replaced model are kept: the embeddings are the same")
        }
        bundle::Thresholds::Dropped => terminal::warn(
            "the thresholds of the replaced model are dropped, because the embeddings differ: run `deploy calibrate`",
        ),
    }
    if written.contract.golden.is_none() {
        terminal::warn("no golden vectors could be made for these inputs: the model has no self-test");
    }
    let nodes = nodes_by_kind(&model);
    let count: usize = nodes.values().sum();
    match args.format {
        Format::Json => {
            let seconds = serde_json::json!({
                "load": loaded.as_secs_f64(),
                "export": exported.as_secs_f64(),
                "verify_and_write": (start.elapsed() - loaded - exported).as_secs_f64(),
            });
            let facts = serde_json::json!({
                "model": written.model, "bytes": written.bytes, "opset": args.opset, "nodes": count,
                "nodes_by_kind": nodes, "parity": written.parity,
                "contract_id": written.contract.embedding.map(|e| e.contract_id),
                "seconds": seconds,
            });
            terminal::show!("{facts}")?;
        }
        Format::Table => {
            terminal::show!("{}", written.parity.to_markdown())?;
            terminal::show!("{}  {count} nodes  {:.1} MB", written.model.display(), written.bytes as f64 / 1e6)?;
        }
    }
    Ok(())
}

fn nodes_by_kind(model: &export::ExportedModel) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for node in &model.graph().nodes {
        *kinds.entry(node.op.name().to_owned()).or_default() += 1;
    }
    kinds
}
