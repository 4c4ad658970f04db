//! `deploy keys`: who may ask a service.

use std::path::PathBuf;
use std::process::ExitCode;

use super::shared::print;
use crate::report::aligned;
use crate::serve::auth::{KeyFile, Role};
use crate::{DeployError, time};

/// Look after the keys of a service.
#[derive(Debug, clap::Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it. It is not stored and cannot be printed again; a running service reads the file on
    /// SIGHUP.
    Add(AddArgs),
    /// Say which keys a file has.
    List(ListArgs),
    /// Take a key out of a file.
    Remove(RemoveKeyArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// File of keys, which is made if needed.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: PathBuf,
    /// Whose it is: what logs call it.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: String,
    /// What it may do: read (who is enrolled), match (search and verify, too), enrol (enrol, merge and remove, too) or
    /// admin (everything).
    #[arg(long, value_enum, value_name = "ROLE")]
    pub(crate) role: Role,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// File of keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveKeyArgs {
    /// File of keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: PathBuf,
    /// Whose key is taken out.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
}

fn name(text: &str) -> Result<String, String> {
    let plain = !text.trim().is_empty() && text.len() <= 64 && !text.chars().any(char::is_control);
    plain.then(|| text.to_owned()).ok_or_else(|| "1 to 64 bytes without control characters are allowed".to_owned())
}

pub(crate) fn run(command: &KeysCommand) -> Result<ExitCode, DeployError> {
    match command {
        KeysCommand::Add(AddArgs { keys: path, name, role }) => {
            let mut file = if path.exists() { KeyFile::read(path)? } else { KeyFile::default() };
            let key = file.add(path, name, *role, time::now())?;
            file.write(path)?;
            terminal::tell!("key of `{name}` ({role}); it is not stored, keep it");
            print(&format!("{key}\n"))?;
        }
        KeysCommand::List(ListArgs { keys }) => {
            let mut lines = vec![["name", "role", "made"].map(str::to_owned).to_vec()];
            let line = |key: &crate::serve::auth::StoredKey| {
                vec![terminal::printable(&key.name).into_owned(), key.role.to_string(), time::text(key.made)]
            };
            lines.extend(KeyFile::read(keys)?.keys.iter().map(line));
            print(&aligned(&lines))?;
        }
        KeysCommand::Remove(RemoveKeyArgs { keys, name }) => {
            let mut file = KeyFile::read(keys)?;
            file.remove(keys, name)?;
            file.write(keys)?;
            print(&format!("key of {name} removed; a running service lets it in until it reads the file again\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
