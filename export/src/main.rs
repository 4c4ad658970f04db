//! `export`: checkpoints to `models-onnx/<name>/`. The one place where training and export meet.

mod commands;
mod families;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use contract::Axis;
use export::{DEFAULT_OPSET, LARGEST_FILE, OPSETS, Runtime, bundle};
use train::families::palmvein::net::Branch;
use train::run::checkpoint::Checkpoint;

use commands::format::Format;
use commands::{ops, verify};
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

/// What else the program does.
#[derive(Debug, Subcommand)]
enum Command {
    /// Check a bundle, on this machine or another: hashes, rules of ONNX, contract, golden vectors, and ONNX
    /// Runtime's outputs against those Burn gave when it was made. With the checkpoint at hand the model is made
    /// again and compared node by node. Exit code 0: all holds; 1: something does not; 2: it could not be checked.
    Verify(verify::VerifyArgs),
}

#[derive(Debug, clap::Args)]
struct Args {
    /// Run directory (its best network) or checkpoint.
    #[arg(long, value_name = "RUN_OR_CHECKPOINT", required_unless_present = "ops")]
    onnx: Option<PathBuf>,
    /// Print what becomes of every kind of operation that Burn knows.
    #[arg(long, conflicts_with_all = ["onnx", "output", "opset", "batch", "no_flip", "attention", "branch", "no_optimise"])]
    #[arg(conflicts_with_all = ["external_data", "licence"])]
    ops: bool,
    /// Folder to write; models-onnx/<name of the run> without.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// ONNX operator set, 17 to 23.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_OPSET, value_parser = opset)]
    opset: u32,
    /// Pictures the model takes at once: any number (`dynamic`), or exactly N.
    #[arg(long, value_name = "dynamic|N", default_value = "dynamic", value_parser = batch)]
    batch: Axis,
    /// Embeddings of the picture alone; without, those of its mirror image are added, as evaluation while training
    /// does.
    #[arg(long)]
    no_flip: bool,
    /// Palm and veins: also give the attention weights, as outputs of their own.
    #[arg(long)]
    attention: bool,
    /// Palm and veins: one backbone alone.
    #[arg(long, value_enum)]
    branch: Option<Branch>,
    /// Write the graph as it was recorded.
    #[arg(long)]
    no_optimise: bool,
    /// Bytes of weights above which they go into a file of their own beside the model; without, 2 GiB, where ONNX
    /// files end.
    #[arg(long, value_name = "BYTES", default_value_t = LARGEST_FILE, hide_default_value = true)]
    external_data: u64,
    /// Licence of weights and data, for the model card.
    #[arg(long, value_name = "TEXT", default_value = "")]
    licence: String,
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

fn opset(text: &str) -> Result<u32, String> {
    let found = text.parse().map_err(|_| "a number is wanted".to_owned())?;
    let (first, last) = (OPSETS.start(), OPSETS.end());
    if OPSETS.contains(&found) { Ok(found) } else { Err(format!("{first} to {last} can be written")) }
}

fn batch(text: &str) -> Result<Axis, String> {
    match (text, text.parse()) {
        ("dynamic", _) => Ok(Axis::Symbol("batch".into())),
        (_, Ok(size @ 1..=4096)) => Ok(Axis::Size(size)),
        _ => Err("`dynamic` or 1 to 4096 is wanted".into()),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse_from(terminal::arguments());
    export::hide_expected_panics();
    let done = match (&cli.command, &cli.args.onnx) {
        (Some(Command::Verify(args)), _) => verify::run(args),
        (None, Some(checkpoint)) => export(checkpoint, &cli.args).map(|()| ExitCode::SUCCESS),
        (None, None) => {
            print!("{}", ops::report(cli.args.format));
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| terminal::fail(error.as_ref()))
}

fn export(checkpoint: &Path, args: &Args) -> anyhow::Result<()> {
    // Asked for first: without it nothing can be verified, and the minutes before would be wasted.
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
    eprintln!("exporting {} as {}, operator set {}", checkpoint.path.display(), options.name, args.opset);
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
    let written = bundle::write(&folder, &model, contract, &runtime)?;
    match written.thresholds {
        bundle::Thresholds::None => {}
        bundle::Thresholds::Kept => {
            terminal::note("the thresholds of the model that was here are kept: embeddings are the same")
        }
        bundle::Thresholds::Dropped => terminal::warn(
            "the thresholds of the model that was here do not hold for this one, whose embeddings differ: run `deploy calibrate`",
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
                "nodes_by_kind": nodes, "parity": written.parity, "contract_id": written.contract.embedding.map(|e| e.contract_id),
                "seconds": seconds,
            });
            println!("{facts}");
        }
        Format::Table => {
            println!("{}", written.parity.to_markdown());
            println!("{}  {count} nodes  {:.1} MB", written.model.display(), written.bytes as f64 / 1e6);
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
