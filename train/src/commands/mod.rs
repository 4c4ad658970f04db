//! The verbs that products share. The checkpoint's family or `--model` tells which product is meant.

pub(crate) mod audit;
pub(crate) mod crops;
mod inspect;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, FromArgMatches};

use crate::device;
use crate::families::{Guess, PRODUCTS, Product, Verb};
use crate::run::checkpoint::Checkpoint;
use crate::run::flags::{AUTO, BenchStepArgs, EvalArgs, ForeignFlag, Format, ImportArgs, InspectArgs, given};
use crate::weights::StateDict;
use crate::words::hint;

/// Runs the verb of the command line.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let (verb, flags) = matches.subcommand().expect("clap asks for a verb");
    match verb {
        "eval" => eval(flags),
        "import" => import(flags),
        "inspect" => inspect(flags),
        "bench-step" => bench_step(flags),
        "audit" => audit::run(&audit::AuditArgs::from_arg_matches(flags)?),
        "crops" => crops::run(&crops::CropsArgs::from_arg_matches(flags)?),
        "preview" => preview(flags),
        own => {
            let product = PRODUCTS.iter().find(|product| product.command().get_name() == own);
            product.expect("every other verb is a product's").train(flags)
        }
    }
}

/// `train preview` of a product.
fn preview(flags: &ArgMatches) -> anyhow::Result<ExitCode> {
    let (name, flags) = flags.subcommand().context("a product is wanted")?;
    let named = |product: &&&dyn Product| product.preview().is_some_and(|command| command.get_name() == name);
    PRODUCTS.iter().find(named).context("clap knows the products")?.draw_preview(flags)
}

/// Flags of a verb that only some products read.
fn special(verb: Verb) -> impl Iterator<Item = &'static str> {
    PRODUCTS.iter().flat_map(move |product| product.reads(verb)).copied()
}

/// Refuses the first flag that was given and that `product` does not read.
fn refuse_unread<A: Args>(
    verb: Verb,
    product: &dyn Product,
    found: &str,
    flags: &ArgMatches,
) -> Result<(), ForeignFlag> {
    let reads = product.reads(verb);
    let unread = |id: &String| special(verb).any(|flag| flag == id) && !reads.contains(&id.as_str());
    let Some(id) = given::<A>(flags).into_iter().find(unread) else { return Ok(()) };
    let readers = PRODUCTS.iter().filter(|product| product.reads(verb).contains(&id.as_str()));
    let users = readers.flat_map(|product| product.checkpoints()).copied().collect();
    Err(ForeignFlag { flag: id.replace('_', "-"), users, found: found.to_owned() })
}

/// The product of a checkpoint.
fn of_checkpoint(checkpoint: &Checkpoint) -> anyhow::Result<&'static dyn Product> {
    let family = checkpoint.record.family.as_str();
    match PRODUCTS.iter().find(|product| product.checkpoints().contains(&family)) {
        Some(product) => Ok(*product),
        None => {
            let known: Vec<_> = PRODUCTS.iter().flat_map(|product| product.checkpoints()).copied().collect();
            bail!(
                "`{}` is of the family `{family}`; this version knows {}",
                checkpoint.path.display(),
                known.join(", ")
            )
        }
    }
}

/// The product of a network, and the network's name as we spell it.
fn of_network(verb: Verb, model: &str) -> anyhow::Result<(&'static dyn Product, &'static str)> {
    let networks =
        || PRODUCTS.iter().flat_map(|product| product.networks(verb).into_iter().map(|name| (*product, name)));
    match networks().find(|(product, name)| name.eq_ignore_ascii_case(product.spelling(model))) {
        Some(found) => Ok(found),
        None => {
            let known: Vec<_> = networks().map(|(_, name)| name).collect();
            bail!("unknown network `{model}`{}; known: {}", hint(model, known.iter().copied()), known.join(", "))
        }
    }
}

/// The product of foreign weights, and the name of their network.
fn of_weights(path: &Path) -> anyhow::Result<(&'static dyn Product, &'static str)> {
    let weights = StateDict::read(path)?;
    let (mut found, mut starts, mut near) = (Vec::new(), Vec::new(), Vec::new());
    for product in PRODUCTS {
        match product.guess(&weights) {
            Guess::Is(name) => found.push((product, name)),
            Guess::OneOf(names) => found.extend(names.into_iter().map(|name| (product, name))),
            Guess::Backbone(names) => starts.extend(names),
            Guess::None(others) => near.extend(others),
        }
    }
    let path = path.display();
    if let [one] = found[..] {
        return Ok(one);
    }
    if !found.is_empty() {
        let names: Vec<_> = found.iter().map(|(_, name)| *name).collect();
        bail!("the weights in `{path}` do not tell these networks apart: {}; say which with --model", names.join(", "));
    }
    if !starts.is_empty() {
        bail!(
            "`{path}` holds the backbone of these networks and not their heads: {}. `train reid --model NAME \
             --pre-train {path}` trains one; `--model NAME` here makes one with untrained heads",
            starts.join(", ")
        );
    }
    let keys: Vec<_> = weights.iter().map(|(key, _)| key).collect();
    let shown = keys.iter().take(3).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    near.sort_by(|a, b| (b.found * a.of).cmp(&(a.found * b.of)));
    near.dedup_by(|a, b| a.name == b.name);
    let nearest: Vec<_> =
        near.iter().take(3).map(|near| format!("{} ({} of its {} tensors)", near.name, near.found, near.of)).collect();
    bail!(
        "`{path}` holds the weights of no network that this version knows: {} tensors, {shown}, …; nearest: {}. \
         `--model NAME` names what is left over and what is missing",
        keys.len(),
        nearest.join(", ")
    )
}

fn eval(flags: &ArgMatches) -> anyhow::Result<ExitCode> {
    let args = EvalArgs::from_arg_matches(flags)?;
    terminal::note_threads(args.threads());
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let product = of_checkpoint(&checkpoint)?;
    refuse_unread::<EvalArgs>(Verb::Eval, product, &checkpoint.record.family, flags)?;
    product.eval(&args, &checkpoint)
}

fn import(flags: &ArgMatches) -> anyhow::Result<ExitCode> {
    let mut args = ImportArgs::from_arg_matches(flags)?;
    let (product, name) = match args.model.eq_ignore_ascii_case(AUTO) {
        true => of_weights(&args.weights)?,
        false => of_network(Verb::Import, &args.model)?,
    };
    refuse_unread::<ImportArgs>(Verb::Import, product, name, flags)?;
    name.clone_into(&mut args.model);
    product.import(&args)
}

fn inspect(flags: &ArgMatches) -> anyhow::Result<ExitCode> {
    let mut args = InspectArgs::from_arg_matches(flags)?;
    if let Some(model) = &args.model {
        let (product, name) = of_network(Verb::Inspect, model)?;
        refuse_unread::<InspectArgs>(Verb::Inspect, product, name, flags)?;
        args.model = Some(name.to_owned());
        return product.describe(&args);
    }
    // clap drops its own rule where the flag that is missing excludes one that is given.
    let of_model = ["with", "height", "width", "num_classes"];
    if let Some(id) = given::<InspectArgs>(flags).into_iter().find(|id| of_model.contains(&id.as_str())) {
        bail!("--{} is for --model, which is not given", id.replace('_', "-"));
    }
    let checkpoint = Checkpoint::open(args.checkpoint.as_deref().context("a checkpoint or --model is wanted")?)?;
    let product = of_checkpoint(&checkpoint)?;
    refuse_unread::<InspectArgs>(Verb::Inspect, product, &checkpoint.record.family, flags)?;
    if args.data_dir.is_some() && !args.channels && args.attention.is_none() {
        bail!("--data-dir is the data set of --channels or --attention, and neither is given");
    }
    match product.inspect(&args, &checkpoint)? {
        Some(code) => Ok(code),
        None => inspect::facts(&args, &checkpoint),
    }
}

fn bench_step(flags: &ArgMatches) -> anyhow::Result<ExitCode> {
    let mut args = BenchStepArgs::from_arg_matches(flags)?;
    let (product, name) = of_network(Verb::BenchStep, &args.model)?;
    refuse_unread::<BenchStepArgs>(Verb::BenchStep, product, name, flags)?;
    name.clone_into(&mut args.model);
    for (flag, found, least) in [("batch", args.batch, 2), ("identities", args.identities, 1)] {
        if found < least {
            anyhow::bail!("--{flag} is {found}; {least} or more are allowed");
        }
    }
    // Before anything touches the pool: it is made once.
    rayon::ThreadPoolBuilder::new().num_threads(args.threads.get()).build_global()?;
    let facts = product.bench_step(&args, &device::open(args.device)?)?;
    match args.format {
        Format::Json => terminal::show!("{facts}")?,
        Format::Table => terminal::show!("{}", serde_json::to_string_pretty(&facts)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flags that every product reads.
    const COMMON: [(Verb, &str, &[&str]); 4] = [
        (Verb::Eval, "eval", &["checkpoint", "datadir", "device", "format"]),
        (Verb::Import, "import", &["weights", "model", "output"]),
        (Verb::Inspect, "inspect", &["checkpoint", "format"]),
        (
            Verb::BenchStep,
            "bench-step",
            &["model", "batch", "steps", "warmup", "device", "use_amp", "threads", "format"],
        ),
    ];

    /// Every flag of a shared verb is one of all products, or is refused by those that do not read it.
    #[test]
    fn each_product_refuses_the_flags_of_others() {
        for (verb, name, common) in COMMON {
            let program = crate::cli::command();
            let command = program.find_subcommand(name).unwrap();
            let ids: Vec<&str> = command.get_arguments().map(|arg| arg.get_id().as_str()).collect();
            for id in ids.iter().filter(|id| !common.contains(id)) {
                assert!(special(verb).any(|flag| flag == *id), "{name}: nobody reads {id}");
            }
            for flag in special(verb).chain(common.iter().copied()) {
                assert!(ids.contains(&flag), "{name} has no flag {flag}");
            }
            assert!(special(verb).all(|flag| !common.contains(&flag)), "{name}");
        }
        let eval = |words: &[&str]| {
            let words = ["train", "eval", "run"].iter().chain(words);
            let matches = crate::cli::command().try_get_matches_from(words).unwrap();
            matches.subcommand().unwrap().1.clone()
        };
        for product in PRODUCTS {
            for flag in special(Verb::Eval) {
                let command = crate::cli::command();
                let arg = command.find_subcommand("eval").unwrap().get_arguments().find(|arg| arg.get_id() == flag);
                let long = format!("--{}", arg.unwrap().get_long().unwrap());
                let given = if arg.unwrap().get_action().takes_values() { eval(&[&long, "3"]) } else { eval(&[&long]) };
                let refused = refuse_unread::<EvalArgs>(Verb::Eval, product, "x", &given);
                assert_eq!(refused.is_ok(), product.reads(Verb::Eval).contains(&flag), "{flag}");
            }
            assert!(refuse_unread::<EvalArgs>(Verb::Eval, product, "x", &eval(&[])).is_ok());
        }
    }

    #[test]
    fn networks_are_found_by_any_case() {
        for (name, spelt) in [
            ("osnet_x0_25", "OSNet_x0_25"),
            ("imagecontrolnet", "ImageControlNet"),
            ("lmbn_n", "LMBN_n"),
            ("osnet_x1_0", "OSNet"),
            ("OSNet_AIN_x1_0", "OSNet_AIN"),
        ] {
            assert_eq!(of_network(Verb::Import, name).unwrap().1, spelt);
        }
        let Err(error) = of_network(Verb::Import, "LMBN_x") else { panic!("there is no such network") };
        assert!(error.to_string().contains("OSNet_x0_5, "), "{error}");
    }

    #[test]
    fn the_help_of_import_tells_the_defaults() {
        let (reid, palm) = (
            crate::families::reid::settings::ReidConfig::default(),
            crate::families::palmvein::Stage1Config::default(),
        );
        let program = crate::cli::command();
        let import = program.find_subcommand("import").unwrap();
        for (id, value) in [("height", reid.height), ("width", reid.width), ("img_size", palm.common.img_size)] {
            let help = import.get_arguments().find(|arg| arg.get_id() == id).unwrap().get_help().unwrap().to_string();
            assert!(help.ends_with(&format!("[default: {value}]")), "{id}: {help}");
        }
    }
}
