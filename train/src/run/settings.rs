//! Flags as typed, laid over a file, laid over a checkpoint's settings, laid over the defaults.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::families::controlnet::settings::ControlnetConfig;
use crate::families::palmvein::{Stage1Config, Stage2Config};
use crate::families::reid::settings::ReidConfig;
use crate::families::senet::settings::SenetConfig;
use crate::run::checks::ConfigError;

/// Settings of a family: plain data that owns its defaults.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Whether every value is in range and none excludes another.
    ///
    /// # Errors
    /// The first that is not, with its flag.
    fn check(&self) -> Result<(), ConfigError>;
}

macro_rules! settings {
    ($($config:ty),+) => {
        $(impl Settings for $config {
            fn check(&self) -> Result<(), ConfigError> { <$config>::check(self) }
        })+
    };
}

settings!(ReidConfig, SenetConfig, ControlnetConfig, Stage1Config, Stage2Config);

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
    /// A value out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
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

/// Defaults, then `base` (a checkpoint's settings), then the file, then the flags that were given. Also returns where each
/// value is from.
///
/// # Errors
/// See [`SettingsError`].
pub fn resolve<S: Settings>(
    flags: &impl Serialize,
    file: Option<&Path>,
    base: Option<&Value>,
) -> Result<(S, Origins), SettingsError> {
    let mut values = fields(&S::default());
    let mut origins: Origins = values.keys().map(|key| (key.clone(), "default".into())).collect();
    let mut lay = |layer: Map<String, Value>, origin: &str| {
        for (key, value) in layer {
            // Settings files of the reference spell one key in capitals.
            let key = if key == "nThread" { "n_thread".to_owned() } else { key.replace('-', "_") };
            if !values.contains_key(&key) {
                let mut known: Vec<_> = values.keys().map(String::as_str).collect();
                known.sort_unstable();
                let problem = format!("unknown setting `{key}`; known: {}", known.join(", "));
                return Err(SettingsError::Value { origin: origin.to_owned(), problem });
            }
            values.insert(key.clone(), value);
            origins.insert(key, origin.into());
        }
        // Checked layer by layer, so that the message names the layer.
        let check = serde_json::from_value::<S>(Value::Object(values.clone()));
        check.map(drop).map_err(|error| SettingsError::Value { origin: origin.to_owned(), problem: error.to_string() })
    };
    if let Some(Value::Object(base)) = base {
        lay(base.clone(), "checkpoint")?;
    }
    if let Some(path) = file {
        lay(read(path)?, &path.display().to_string())?;
    }
    if let Some(flag) = first_not_finite(flags) {
        let problem = format!("--{} is not a finite number", flag.replace('_', "-"));
        return Err(SettingsError::Value { origin: "command line".into(), problem });
    }
    lay(fields(flags).into_iter().filter(|(_, value)| !value.is_null()).collect(), "command line")?;
    let settings: S = serde_json::from_value(Value::Object(values)).expect("the last layer was checked");
    settings.check()?;
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
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let value: Value = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        Some("yaml" | "yml") => serde_yaml_ng::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        other => return Err(wrong(format!("`.{}` is not `.yaml`, `.yml` or `.toml`", other.unwrap_or_default()))),
    };
    match value {
        Value::Object(settings) => Ok(settings),
        _ => Err(wrong("settings by name are wanted".into())),
    }
}

#[cfg(test)]
mod tests {
    use crate::families::reid::settings::ReidConfig;
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn reid(arguments: &[&str]) -> Result<(ReidConfig, Origins), SettingsError> {
        let arguments = ["train", "reid"].iter().chain(arguments);
        let Command::Reid(args) = Cli::try_parse_from(arguments).unwrap().command else { unreachable!() };
        resolve(&*args, args.run.config.as_deref(), None)
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
        let error = reid(&["--optimizer", "lion"]).unwrap_err().to_string();
        assert!(error.contains("lion") && error.contains("ADAM"), "{error}");
        for number in ["NaN", "inf"] {
            let error = reid(&["--margin", number]).unwrap_err().to_string();
            assert!(error.contains("--margin is not a finite number"), "{error}");
        }
    }
}
