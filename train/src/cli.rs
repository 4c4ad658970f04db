//! The command line: the verbs of the program, and how their flags read.

use std::any::TypeId;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Map, Value};

use crate::commands::audit::AuditArgs;
use crate::commands::crops::CropsArgs;
use crate::families::{PRODUCTS, Product, Verb};
use crate::run::flags::{BenchStepArgs, EvalArgs, ImportArgs, InspectArgs, with_flags, with_networks};
use crate::run::recipe::with_recipes;

/// The program with all its verbs.
pub(crate) fn command() -> Command {
    let products = PRODUCTS.iter().map(|product| with_settings(*product, product.command()));
    let program = Command::new("train")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Train biometric and re-identification networks")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(products)
        .subcommands(verbs())
        .subcommand(preview());
    with_ranges(terminal::with_manual(program))
}

/// A command whose flags are a product's settings, with their defaults and recipes in its help. It may have fewer steps
/// than the product.
fn with_settings(product: &dyn Product, command: Command) -> Command {
    let lacks =
        |command: &Command, step: &Option<&str>| step.is_some_and(|step| command.find_subcommand(step).is_none());
    let shown = product.defaults().iter().fold(command, |command, (step, defaults)| match step {
        step if lacks(&command, step) => command,
        Some(step) => command.mut_subcommand(step, |step| show_defaults(step, defaults)),
        None => show_defaults(command, defaults),
    });
    product.recipes().into_iter().fold(shown, |command, (step, recipes)| match step {
        step if lacks(&command, &step) => command,
        Some(step) => command.mut_subcommand(step, |step| with_recipes(step, recipes)),
        None => with_recipes(command, recipes),
    })
}

/// `train preview`, of the products whose pictures can be looked at.
fn preview() -> Command {
    let of = |product: &&'static dyn Product| Some(with_settings(*product, product.preview()?));
    Command::new("preview")
        .about("Draw what a network would see with the flags of a run, into one PNG")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(PRODUCTS.iter().filter_map(of))
}

/// Verbs that products share.
fn verbs() -> [Command; 6] {
    let verb = |name: &'static str, about: &'static str| Command::new(name).about(about);
    let listed = |verb: Verb, command: Command| {
        let names: Vec<_> = PRODUCTS.iter().flat_map(|product| product.networks(verb)).collect();
        with_networks(command, &names)
    };
    [
        with_flags::<EvalArgs>(verb(
            "eval",
            "Evaluate a checkpoint: query against gallery, CMC and mAP by the Market-1501 protocol; of a SENet, how \
             well profile views of its test people are found among frontal pictures; of an ImageControlNet, how near \
             its pictures are to the true ones; of palm and veins, verification of the test pairs",
        )),
        listed(
            Verb::Import,
            with_flags::<ImportArgs>(verb(
                "import",
                "Make a checkpoint of foreign weights (.pth, .pt, .safetensors); every tensor is used or named",
            )),
        ),
        listed(
            Verb::Inspect,
            with_flags::<InspectArgs>(verb(
                "inspect",
                "Show what a checkpoint is: network, parameters, run, metrics; or what a network costs",
            )),
        ),
        listed(
            Verb::BenchStep,
            with_flags::<BenchStepArgs>(verb(
                "bench-step",
                "Time one training step on made-up pictures (for ci/bench)",
            )),
        ),
        with_flags::<AuditArgs>(verb(
            "audit",
            "Look for what is wrong with a re-identification data set: people who train and are tested, equal and \
             nearly equal pictures, unreadable and tiny ones, cameras that see little, queries that cannot be scored",
        )),
        with_flags::<CropsArgs>(verb(
            "crops",
            "Cut pictures of people from videos with ground truth of tracking (MOT16, MOT17, MOT20), and list them in \
             a table to train on",
        )),
    ]
}

/// The command line, checked; `--help` shows the defaults that the settings own.
///
/// # Errors
/// What clap found, a request for help included.
pub(crate) fn parse() -> Result<ArgMatches, clap::Error> {
    let words = PRODUCTS.iter().fold(terminal::arguments(), |words, product| product.respell(words));
    command().try_get_matches_from(words).map_err(terminal::with_what_is_allowed)
}

/// Whether a flag refuses what a number of its type can be: it has a range of its own.
fn has_range(arg: &Arg) -> bool {
    let takes = |number: &str| {
        let value = Arg::new("value").value_parser(arg.get_value_parser().clone());
        Command::new("probe").no_binary_name(true).arg(value).try_get_matches_from([number]).is_ok()
    };
    !(takes("0") && takes(&usize::MAX.to_string()))
}

/// Negative numbers are values, which are out of range, not flags; whole numbers say their range.
fn with_ranges(command: Command) -> Command {
    let command = command.allow_negative_numbers(true).mut_args(|arg| {
        let kind = arg.get_value_parser().type_id();
        if kind != TypeId::of::<usize>() && kind != TypeId::of::<u64>() || has_range(&arg) {
            arg
        } else if kind == TypeId::of::<usize>() {
            let (least, most) = bounds(arg.get_id().as_str());
            arg.value_parser(move |text: &str| terminal::whole(text, least, most))
        } else {
            arg.value_parser(terminal::seed)
        }
    });
    command.mut_subcommands(with_ranges)
}

/// Least and largest value of a flag that counts something, so that a slip of the finger does not fill the memory. What
/// a network or data set allows is checked with the settings.
fn bounds(flag: &str) -> (usize, usize) {
    match flag {
        "n_thread" => (1, terminal::most_threads()),
        "num_workers" => (0, terminal::most_threads()),
        "batch" | "batchtest" | "batch_size" => (0, 1 << 16),
        "height" | "width" | "img_size" | "image_size" | "feats" => (0, 1 << 14),
        "num_classes" | "identities" | "rows" | "steps" | "warmup" | "sample" | "top" | "pairs" => (0, 1_000_000),
        "expand" => (0, 1000),
        _ => (0, 1_000_000_000),
    }
}

/// Adds to the help of each flag that is a setting the setting's default.
fn show_defaults(command: Command, defaults: &Map<String, Value>) -> Command {
    command.mut_args(|arg| {
        let Some(default) = defaults.get(arg.get_id().as_str()) else { return arg };
        let shown = match default {
            Value::Null | Value::Bool(false) => return arg,
            Value::String(text) if text.is_empty() => return arg,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help} [default: {shown}]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_says_what_a_verb_does() {
        fn check(command: &Command) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            // What is written on structs of flags is for programmers.
            let foreign = ["Flags of", "`"].iter().any(|text| about.contains(text));
            assert!(!about.is_empty() && !foreign, "{}: {about}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        super::command().get_subcommands().for_each(check);
    }

    /// A range of a flag's own stays, also where [`bounds`] does not know the flag.
    #[test]
    fn whole_numbers_have_their_own_range_or_one_of_ours() {
        let own = Arg::new("shots").long("shots").value_parser(|text: &str| terminal::whole(text, 2, 5));
        let plain = Arg::new("rows").long("rows").value_parser(clap::value_parser!(usize));
        let command = with_ranges(Command::new("x").no_binary_name(true).args([own, plain]));
        let taken = |words: [&str; 2]| command.clone().try_get_matches_from(words).is_ok();
        assert!(taken(["--shots", "2"]) && taken(["--shots", "5"]) && taken(["--rows", "1000000"]));
        for words in [["--shots", "1"], ["--shots", "6"], ["--rows", "1000001"], ["--rows", "-1"]] {
            let message = command.clone().try_get_matches_from(words).unwrap_err().to_string();
            assert!(message.contains("are allowed"), "{message}");
        }
    }

    #[test]
    fn every_setting_has_a_flag() {
        let program = command();
        for product in PRODUCTS {
            let own = product.command();
            let verb = program.find_subcommand(own.get_name()).unwrap();
            for (step, settings) in product.defaults() {
                let verb = step.map_or(verb, |step| verb.find_subcommand(step).unwrap());
                let flags: Vec<_> = verb.get_arguments().map(|arg| arg.get_id().as_str()).collect();
                assert!(settings.len() > 30, "{} {step:?}", own.get_name());
                for key in settings.keys().map(String::as_str) {
                    assert!(flags.contains(&key), "{} {step:?} {key}", own.get_name());
                }
            }
        }
    }

    /// Settings that nothing reads, by product: only the default is taken, which the manual's command lines have.
    const UNREAD: [(&str, &str); 1] = [("senet", "num_workers")];

    /// The code of a file, line by line: without comments, texts, tests, and the functions that only check settings.
    fn code(text: &str) -> Vec<String> {
        let (mut lines, mut checks) = (vec![], false);
        for line in text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines() {
            let start = line.trim_start().trim_start_matches("pub ");
            checks |= start.starts_with("fn check(") || start.starts_with("fn unused(");
            if !checks && !start.starts_with("//") {
                lines.push(line.split('"').step_by(2).collect());
            }
            checks &= !["}", "    }"].contains(&line);
        }
        lines
    }

    /// Whether a line of code names `setting`, other than to declare it or to give it a value.
    fn reads(line: &str, setting: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        line.match_indices(setting).any(|(at, _)| {
            let (before, after) = (&line[..at], line[at + setting.len()..].trim_start());
            !before.ends_with(part) && !line[at + setting.len()..].starts_with(part) && !is_declared(after)
        })
    }

    fn is_declared(after: &str) -> bool {
        after.starts_with(':') && !after.starts_with("::")
    }

    fn sources(folder: &std::path::Path, found: &mut Vec<(std::path::PathBuf, Vec<String>)>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                sources(&path, found);
            } else if !["cli.rs", "flags.rs"].iter().any(|name| path.ends_with(name)) {
                found.push((path.clone(), code(&std::fs::read_to_string(&path).unwrap())));
            }
        }
    }

    /// Somewhere outside of its declaration, its default and its range, each setting is read: a flag that is added and
    /// forgotten fails here.
    #[test]
    fn every_setting_is_read() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = vec![];
        sources(&root, &mut files);
        let families = root.join("families");
        for product in PRODUCTS {
            let command = product.command();
            let name = command.get_name();
            let own = |path: &std::path::Path| {
                [name, "faces"].iter().any(|folder| path.starts_with(families.join(folder)))
                    || !path.starts_with(&families)
            };
            for key in product.defaults().iter().flat_map(|(_, settings)| settings.keys()) {
                let mut lines = files.iter().filter(|(path, _)| own(path)).flat_map(|(_, lines)| lines);
                let read = lines.any(|line| reads(line, key));
                let known = UNREAD.contains(&(name, key.as_str()));
                assert_eq!(read, !known, "{name}: `{key}` is read or not, and UNREAD says otherwise");
            }
        }
    }

    #[test]
    fn a_setting_that_is_only_declared_and_checked_is_not_read() {
        let text = "pub struct A {\n    /// The number of parts.\n    pub parts: usize,\n}\n\nimpl A {\n    pub fn \
            check(&self) {\n        whole(\"parts\", self.parts);\n    }\n\n    fn new() -> Self {\n        Self { \
            parts: 3 }\n    }\n}\n";
        let read = |text: &str, setting: &str| code(text).iter().any(|line| reads(line, setting));
        assert!(!read(text, "parts"));
        for more in ["let n = self.parts;", "let A { parts, .. } = self;", "B { parts: a.parts }"] {
            assert!(read(&format!("{text}{more}\n"), "parts"), "{more}");
            assert!(!read(&format!("{text}{more}\n"), "part") && !read(&format!("// {more}\n"), "parts"), "{more}");
        }
    }
}
