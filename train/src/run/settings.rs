//! Flags as typed, laid over a file, over a recipe, over a checkpoint's settings, over the defaults.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::run::checks::{ConfigError, Effect};
use crate::run::flags::RunArgs;
use crate::run::recipe::Recipe;

/// A family's settings: plain data with its defaults.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Whether every value is in range and none excludes another.
    ///
    /// # Errors
    /// The first that is not, with its flag.
    fn check(&self) -> Result<(), ConfigError>;

    /// Every setting by name with its default, those included that hang on a choice that is not the default.
    fn defaults() -> Map<String, Value> {
        fields(&Self::default())
    }

    /// Settings that these settings leave without effect, each with what would use it. One that was given with
    /// another value than its default is refused.
    fn unused(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Settings that only the reference has, and what becomes of them in its files and command lines.
    const REFERENCE_ONLY: &'static [(&'static str, Effect)] = &[];

    /// Settings that belong together, by name.
    const RECIPES: &'static [Recipe] = &[];
}

/// Why settings cannot be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is neither YAML nor TOML, or does not hold settings by name.
    #[error("settings `{}`: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A setting is unknown or of the wrong kind.
    #[error("{origin}: {problem}")]
    Value {
        /// Where it was given.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// A setting was given that nothing uses.
    #[error("{origin}: `{key}` has no effect here: it is for {user}")]
    Unused {
        /// Where it was given.
        origin: String,
        /// The setting.
        key: String,
        /// What uses it.
        user: String,
    },
    /// There is no recipe of this name.
    #[error("unknown recipe `{name}`; known: {}", known.join(", "))]
    Recipe {
        /// The name.
        name: String,
        /// Names of recipes.
        known: Vec<&'static str>,
    },
    /// A setting was given twice in one place.
    #[error("{origin}: `{key}` is given twice")]
    Twice {
        /// Where.
        origin: String,
        /// The setting.
        key: String,
    },
    /// A value out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Origin of settings that a checkpoint holds.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// A value as people write it, in lower case where it is a word.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_lowercase(),
        other => other.to_string(),
    }
}

/// Of rows of settings, whether they have an effect, and what they are for: the settings that have none.
pub(crate) fn idle(rows: &[(bool, &[&str], &str)]) -> Vec<(String, String)> {
    let idle = rows.iter().filter(|(used, ..)| !used);
    idle.flat_map(|(_, keys, user)| keys.iter().map(|key| ((*key).to_owned(), (*user).to_owned()))).collect()
}

/// Whether two values of a setting are one: words in any case, numbers however they are written.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::String(left), Value::String(right)) => left.eq_ignore_ascii_case(right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        _ if left.is_number() => left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}

/// A setting's value and where it came from.
pub type Origins = Map<String, Value>;

/// The fields of plain data by name.
pub fn fields(data: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(data) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("a struct of plain data serialises to an object"),
    }
}

/// What lies between the defaults and the flags that were given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layers<'a> {
    /// A checkpoint's settings.
    pub base: Option<&'a Value>,
    /// Name of a recipe.
    pub recipe: Option<&'a str>,
    /// A settings file.
    pub file: Option<&'a Path>,
    /// Settings with these names are never without effect: other runs of the same command use them.
    pub shared: &'a [&'a str],
}

impl<'a> Layers<'a> {
    /// The recipe and the settings file of a command line.
    pub fn of(args: &'a RunArgs) -> Self {
        Self { recipe: args.recipe.as_deref(), file: args.config.as_deref(), ..Self::default() }
    }
}

/// Defaults, then the base, the recipe, the file, and the flags that were given. Also returns where each value is from.
/// What a recipe sets without effect is told and left out; from anywhere else it is an error.
///
/// # Errors
/// See [`SettingsError`].
pub fn resolve<S: Settings>(flags: &impl Serialize, layers: Layers<'_>) -> Result<(S, Origins), SettingsError> {
    let Layers { base, recipe, file, shared } = layers;
    let defaults = S::defaults();
    let mut values = defaults.clone();
    let mut origins: Origins = values.keys().map(|key| (key.clone(), "default".into())).collect();
    let mut lay = |layer: Map<String, Value>, origin: &str| {
        let mut seen = BTreeSet::new();
        let refused = |key: &str, value: &Value, reason: &str| {
            let problem = format!("`{key}` is {}: {reason}", word(value));
            SettingsError::Value { origin: origin.to_owned(), problem }
        };
        for (key, value) in layer {
            let mut key = key.replace('-', "_");
            match S::REFERENCE_ONLY.iter().find(|(name, _)| *name == key).map(|(_, effect)| *effect) {
                Some(Effect::Renamed(name)) => name.clone_into(&mut key),
                Some(Effect::IgnoredIf(values, reason)) if !values.contains(&word(&value).as_str()) => {
                    return Err(refused(&key, &value, reason));
                }
                Some(Effect::Ignored(reason) | Effect::IgnoredIf(_, reason)) => {
                    // Only a note: the reference's own settings files have all of these.
                    terminal::note(&format!("{origin}: `{key}` is ignored: {reason}"));
                    continue;
                }
                Some(Effect::Only(nothing, reason)) => {
                    // A checkpoint of an earlier version holds what had no effect then.
                    if origin != CHECKPOINT && !value.is_null() && !nothing.contains(&word(&value).as_str()) {
                        return Err(refused(&key, &value, reason));
                    }
                    continue;
                }
                None => {}
            }
            if !seen.insert(key.clone()) {
                return Err(SettingsError::Twice { origin: origin.to_owned(), key });
            }
            if !values.contains_key(&key) {
                let mut known: Vec<_> = values.keys().map(String::as_str).collect();
                known.sort_unstable();
                let problem = format!("unknown setting `{key}`; known: {}", known.join(", "));
                return Err(SettingsError::Value { origin: origin.to_owned(), problem });
            }
            let given = word(&value);
            values.insert(key.clone(), value);
            // Checked one by one, so that the message names the setting.
            if let Err(error) = serde_json::from_value::<S>(Value::Object(values.clone())) {
                let problem = format!("`{key}` is {given}: {error}");
                return Err(SettingsError::Value { origin: origin.to_owned(), problem });
            }
            origins.insert(key, origin.into());
        }
        Ok(())
    };
    if let Some(Value::Object(base)) = base {
        lay(base.clone(), CHECKPOINT)?;
    }
    let mut of_recipe = String::new();
    if let Some(name) = recipe {
        let Some(recipe) = Recipe::named(S::RECIPES, name) else {
            let known = S::RECIPES.iter().map(|recipe| recipe.name).collect();
            return Err(SettingsError::Recipe { name: name.to_owned(), known });
        };
        of_recipe = format!("recipe {}", recipe.name);
        lay(recipe.settings(), &of_recipe)?;
    }
    // A file with a setting of the reference alone was written out by it, with every setting it has.
    let mut of_reference = None;
    if let Some(path) = file {
        let (layer, origin) = (read(path)?, path.display().to_string());
        let is_theirs = |key: &String| S::REFERENCE_ONLY.iter().any(|(name, _)| *name == key.replace('-', "_"));
        let theirs = layer.keys().any(is_theirs);
        lay(layer, &origin)?;
        of_reference = theirs.then_some(origin);
    }
    if let Some(flag) = first_not_finite(flags) {
        let problem = format!("--{} is not a finite number", flag.replace('_', "-"));
        return Err(SettingsError::Value { origin: "command line".into(), problem });
    }
    lay(fields(flags).into_iter().filter(|(_, value)| !value.is_null()).collect(), "command line")?;
    let settings: S = serde_json::from_value(Value::Object(values.clone())).expect("the last layer was checked");
    settings.check()?;
    for (key, user) in settings.unused().into_iter().filter(|(key, _)| !shared.contains(&key.as_str())) {
        let origin = origins[&key].as_str().unwrap_or_default();
        if ["default", CHECKPOINT].contains(&origin) || same(&values[&key], &defaults[&key]) {
            continue;
        }
        let error = SettingsError::Unused { origin: origin.to_owned(), key, user };
        if origin != of_recipe && of_reference.as_deref() != Some(origin) {
            return Err(error);
        }
        // A flag has made it so, or the network that the reference's file is for.
        terminal::note(&error.to_string());
    }
    let resolved = fields(&settings);
    let start = |settings: &Map<String, Value>| settings.get("pre_train").cloned().filter(|path| path != "");
    if let Some(Value::Object(base)) = base
        && start(&resolved).is_some()
        && start(&resolved) != start(base)
    {
        let why = "a run that continues has the weights of its checkpoint";
        return Err(ConfigError::Conflict { flag: "pre-train", other: "resume", why }.into());
    }
    Ok((settings, origins))
}

/// The first flag that is NaN or infinite: JSON has no such numbers, and would take it for a flag that was not given.
fn first_not_finite(flags: &impl Serialize) -> Option<String> {
    let serde_yaml_ng::Value::Mapping(flags) = serde_yaml_ng::to_value(flags).ok()? else { return None };
    let wrong = |value: &serde_yaml_ng::Value| value.as_f64().is_some_and(|number| !number.is_finite());
    flags.into_iter().find(|(_, value)| wrong(value)).and_then(|(flag, _)| flag.as_str().map(str::to_owned))
}

/// Settings by name from a YAML or TOML file.
fn read(path: &Path) -> Result<Map<String, Value>, SettingsError> {
    /// Larger than any settings file, small enough to read without a thought.
    const MAX_BYTES: u64 = 1 << 20;
    let unreadable = |source| SettingsError::Read { path: path.to_owned(), source };
    let wrong = |problem: String| SettingsError::File { path: path.to_owned(), problem };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        return Err(wrong(format!("{size} bytes, {MAX_BYTES} allowed")));
    }
    let text = files::read_text_limited(path, MAX_BYTES).map_err(unreadable)?;
    let value: Value = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        Some("yaml" | "yml") => {
            // Through YAML's own values, which refuse a key that is given twice.
            let value: serde_yaml_ng::Value =
                serde_yaml_ng::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            serde_json::to_value(value).map_err(|error| wrong(error.to_string()))?
        }
        other => return Err(wrong(format!("`.{}` is not `.yaml`, `.yml` or `.toml`", other.unwrap_or_default()))),
    };
    match value {
        Value::Object(settings) => Ok(settings),
        _ => Err(wrong("settings by name are wanted".into())),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;
    use crate::families::reid::cli::ReidArgs;
    use crate::families::reid::settings::ReidConfig;

    fn flags(words: &[&str]) -> ReidArgs {
        let words = ["reid"].iter().chain(words);
        let matches = ReidArgs::augment_args(clap::Command::new("reid")).try_get_matches_from(words).unwrap();
        ReidArgs::from_arg_matches(&matches).unwrap()
    }

    fn reid(arguments: &[&str]) -> Result<(ReidConfig, Origins), SettingsError> {
        let args = flags(arguments);
        resolve(&args, Layers::of(&args.run))
    }

    fn over(arguments: &[&str], base: &Value) -> Result<(ReidConfig, Origins), SettingsError> {
        resolve(&flags(arguments), Layers { base: Some(base), ..Layers::default() })
    }

    #[test]
    fn a_recipe_is_above_the_defaults_and_below_file_and_flags() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "epochs = 7\nmargin = 0.5\n").unwrap();
        let path = path.to_str().unwrap();
        let (config, origins) = reid(&["--recipe", "PCB", "--config", path, "--margin", "0.2"]).unwrap();
        assert_eq!(config.net.to_string(), "PCB with --parts 3 and --bnneck");
        assert_eq!((config.epochs, config.margin, config.batchimage, config.cutout), (7, 0.2, 8, false));
        assert_eq!(
            ["batchimage", "epochs", "margin", "cutout"].map(|key| origins[key].as_str().unwrap()),
            ["recipe pcb", path, "command line", "default"]
        );
        // A flag chooses another network, which has no stripes: nobody asked for those by name.
        let (config, _) = reid(&["--recipe", "pcb", "--model", "OSNet"]).unwrap();
        assert_eq!((config.net.to_string(), config.lr), ("OSNet".into(), 5e-3));
        let error = reid(&["--recipe", "pcb", "--model", "OSNet", "--parts", "3"]).unwrap_err();
        assert!(matches!(error, SettingsError::Unused { key, .. } if key == "parts"));
        let error = reid(&["--recipe", "tricks"]).unwrap_err().to_string();
        assert_eq!(error, "unknown recipe `tricks`; known: lmbn_n, bot, pcb, mgn");
    }

    #[test]
    fn flags_beat_the_file_and_the_file_beats_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a.yaml", "epochs: 7\nlr: 0.001\n"), ("a.toml", "epochs = 7\nlr = 0.001\n")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let (config, origins) =
                reid(&["--config", path.to_str().unwrap(), "--lr", "0.5", "--sampler", "False"]).unwrap();
            assert_eq!((config.epochs, config.lr, config.sampler, config.batchid), (7, 0.5, false, 16));
            assert_eq!(origins["lr"], "command line");
            assert_eq!(origins["epochs"], path.to_str().unwrap());
            assert_eq!(origins["batchid"], "default");
        }
    }

    #[test]
    fn unknown_settings_and_wrong_kinds_name_their_origin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let problem = |text: &str| {
            std::fs::write(&path, text).unwrap();
            reid(&["--config", path.to_str().unwrap()]).unwrap_err().to_string()
        };
        assert!(problem("epoch: 7").contains("unknown setting `epoch`"));
        assert!(problem("epochs: many").contains("a.yaml"));
        assert!(problem("- 1").contains("by name"));
        let error = problem("optimizer: lion");
        assert!(error.contains("`optimizer` is lion") && error.contains("ADAM"), "{error}");
        for number in ["NaN", "inf"] {
            let error = reid(&["--margin", number]).unwrap_err().to_string();
            assert!(error.contains("--margin is not a finite number"), "{error}");
        }
    }

    #[test]
    fn what_the_chosen_network_does_not_use_is_refused_by_name() {
        let unused = |line: &str| match reid(&line.split(' ').collect::<Vec<_>>()) {
            Err(SettingsError::Unused { key, user, .. }) => Some((key, user)),
            Err(error) => panic!("{error}"),
            Ok(_) => None,
        };
        let milestones = "schedules with milestones (--decay-type step_40_70) and without a cosine";
        let names = crate::families::reid::net::Network::names();
        let [r50, ibn, deep] = ["ResNet50", "ResNet50_IBN", "ResNet101_IBN"];
        let all = names.join(", ");
        let resnets = format!("{r50}, {ibn}, {deep}");
        let with = |flag: &str| format!("{r50} with {flag}, {ibn} with {flag}, {deep} with {flag}");
        let (neck, block) = (with("--bnneck"), with("--drop-block"));
        let rows: [(&str, &str, &str); 23] = [
            ("--model LMBN_n --bnneck", "bnneck", &format!("{resnets}, PCB; this is LMBN_n")),
            ("--model osnet_x0_25 --drop-block", "drop_block", &format!("{resnets}; this is OSNet_x0_25")),
            ("--model ResNet50 --feat-inference before", "feat_inference", &format!("{neck}; this is ResNet50")),
            ("--model ResNet50 --h-ratio 0.9", "h_ratio", &format!("{block}; this is ResNet50")),
            ("--model OSNet --w-ratio 0.5", "w_ratio", &format!("{block}; this is OSNet")),
            ("--model MGN --parts 3", "parts", "PCB; this is MGN"),
            ("--model PCB --pool max", "pool", "MGN; this is PCB with --parts 6"),
            ("--model ResNet50 --bnneck --feats 64", "feats", &format!("{all}; this is ResNet50 with --bnneck")),
            ("--pcb-different-lr", "pcb_different_lr", "PCB; this is LMBN_n"),
            (
                "--model OSNet --attention cbam",
                "attention",
                &format!("LMBN_n, LMBN_r, {resnets}, PCB, MGN; this is OSNet"),
            ),
            ("--model PCB --stem unpadded", "stem", &format!("{resnets}; this is PCB with --parts 6")),
            ("--model ResNet50 --bnneck --head none", "head", &format!("{resnets}; this is ResNet50 with --bnneck")),
            ("--num-classes 5", "num_classes", "nothing: identities are counted from the training set"),
            ("--momentum 0.5", "momentum", "the optimisers SGD and RMSprop"),
            ("--nesterov --optimizer ADAMW", "nesterov", "the optimiser SGD"),
            ("--gamma 0.5", "gamma", milestones),
            ("--gamma 0.5 --warmup linear", "gamma", milestones),
            ("--warmup-epochs 5", "warmup_epochs", "--warmup linear and --w-cosine-annealing"),
            ("--warmup-epochs 5 --cosine-annealing", "warmup_epochs", "--warmup linear and --w-cosine-annealing"),
            ("--warmup linear --cosine-annealing", "warmup", "schedules without a cosine"),
            ("--warmup linear --w-cosine-annealing", "warmup", "schedules without a cosine"),
            ("--decay-type step_40 --cosine-annealing", "decay_type", "schedules without a cosine"),
            ("--decay-type step_40 --w-cosine-annealing", "decay_type", "schedules without a cosine"),
        ];
        for (line, key, user) in rows {
            assert_eq!(unused(line), Some((key.to_owned(), user.to_owned())), "{line}");
        }
        // What asks for nothing is no reason to stop: scripts and files name every setting.
        assert_eq!(
            unused("--bnneck False --parts 6 --pool AVG --momentum 0.9 --w-ratio 1 --feat-inference After"),
            None
        );
        assert_eq!(unused("--model ResNet50 --bnneck --feat-inference before"), None);
        for used in [
            "--decay-type step_40_70 --gamma 0.5 --warmup linear --warmup-epochs 5",
            "--w-cosine-annealing --warmup-epochs 5",
            "--cosine-annealing --gamma 0.1 --warmup constant --warmup-epochs 10 --decay-type step",
        ] {
            assert_eq!(unused(used), None, "{used}");
        }
        // The reference's files have every setting, whatever their network: a note is enough.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let wasted = "pcb_different_lr: true\nparts: 2\nnesterov: true\nnum_classes: 702\ndecay_type: step_40\n\
                      w_cosine_annealing: true\n";
        let line = format!("--config {}", path.display());
        std::fs::write(&path, format!("{wasted}act: relu\n")).unwrap();
        assert_eq!(unused(&line), None);
        std::fs::write(&path, wasted).unwrap();
        assert!(unused(&line).is_some());
        std::fs::write(&path, "act: relu\n").unwrap();
        assert!(unused(&format!("{line} --parts 2")).is_some());
    }

    #[test]
    fn a_checkpoint_of_an_earlier_version_names_settings_of_other_networks() {
        let base = serde_json::json!({
            "model": "OSNet", "feats": 64, "bnneck": true, "feat_inference": "before", "drop_block": true,
            "h_ratio": 0.5, "w_ratio": 1.0, "parts": 4, "pool": "max", "pcb_different_lr": false, "epochs": 3,
        });
        let (config, _) = over(&[], &base).unwrap();
        assert_eq!((config.net.to_string(), config.net.features(), config.epochs), ("OSNet".into(), 64, 3));
        assert_eq!(serde_json::from_value::<ReidConfig>(base).unwrap(), config);
    }

    #[test]
    fn the_references_own_settings_are_ignored_renamed_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            reid(&["--config", path.to_str().unwrap()])
        };
        let file = "T: 1\nact: relu\nnThread: 3\nnGPU: 1\nnep_name: x.ji/mcmp\nwandb: false\ntest_only: false\n\
                    load: ''\nreset: false\n";
        assert_eq!(read(file).unwrap().0, ReidConfig { n_thread: 3, ..ReidConfig::default() });
        assert!(read("activation_map: true").unwrap().0.activation_map);
        for (text, word) in [
            ("load: test", "--resume"),
            ("test_only: true", "--test-only"),
            ("nGPU: 2", "--device"),
            ("wandb: true", "no tracker"),
            ("nep_token: abc", "no tracker"),
        ] {
            let error = read(text).unwrap_err();
            assert!(matches!(&error, SettingsError::Value { problem, .. } if problem.contains(word)), "{error}");
        }
        assert_eq!(reid(&["--T", "2", "--act", "relu", "--nGPU", "1"]).unwrap().0, ReidConfig::default());
        assert!(reid(&["--wandb"]).unwrap_err().to_string().contains("no tracker"));
    }

    #[test]
    fn a_setting_that_is_wrong_or_doubled_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            reid(&["--config", path.to_str().unwrap()]).unwrap_err()
        };
        for (name, text) in [
            ("a.yaml", "epochs: 3\nlr: fast"),
            ("a.yaml", "lr: .nan"),
            ("a.yaml", "lr: yes"),
            ("a.toml", "lr = \"fast\""),
        ] {
            let error = read(name, text);
            assert!(
                matches!(&error, SettingsError::Value { problem, .. } if problem.starts_with("`lr` is ")),
                "{error}"
            );
        }
        assert!(
            matches!(read("a.yaml", "n_thread: 2\nnThread: 3"), SettingsError::Twice { key, .. } if key == "n_thread")
        );
        for (name, text) in [("a.yaml", "lr: 1\nlr: 2"), ("a.toml", "lr = 1\nlr = 2")] {
            assert!(matches!(read(name, text), SettingsError::File { problem, .. } if problem.contains("lr")));
        }
    }

    #[test]
    fn a_run_that_continues_takes_no_other_weights() {
        let base =
            |path: &str| serde_json::to_value(ReidConfig { pre_train: path.into(), ..ReidConfig::default() }).unwrap();
        let error = over(&["--pre-train", "b.pth"], &base("a.pth")).unwrap_err();
        assert!(matches!(
            error,
            SettingsError::Config(ConfigError::Conflict { flag: "pre-train", other: "resume", .. })
        ));
        over(&["--pre-train", "b.pth"], &base("b.pth")).unwrap();
    }
}
