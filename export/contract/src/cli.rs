//! Habits every program shares: the spelling of flags, progress bars, the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

/// Exit code when the answer is no: no match, a gate not met.
pub const EXIT_NO: u8 = 1;

/// Exit code of an error, a wrong command line among them.
pub const EXIT_ERROR: u8 = 2;

/// The command line with long flags in our spelling: `--batch_size=8` becomes `--batch-size=8`. Long flags of ours are
/// kebab-case; the scripts people come from use underscores, and both are accepted everywhere. Values are left alone.
pub fn arguments() -> Vec<OsString> {
    respell(std::env::args_os())
}

fn respell(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut rest_is_values = false;
    arguments
        .map(|argument| {
            rest_is_values |= argument == "--";
            match argument.to_str() {
                Some(text) if !rest_is_values && text.starts_with("--") => {
                    let (flag, value) = text.split_at(text.find('=').unwrap_or(text.len()));
                    // The seeds' `batchT` style of capitals stays: only the separator differs.
                    format!("{}{value}", flag.replace('_', "-")).into()
                }
                _ => argument,
            }
        })
        .collect()
}

/// Prints the error and its causes, most specific last, to stderr and returns [`EXIT_ERROR`].
pub fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their source in their own text.
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    eprintln!("error: {message}");
    ExitCode::from(EXIT_ERROR)
}

/// A progress bar on stderr; hidden when stderr is no terminal. `unit` is the plural of what is counted.
pub fn progress(total: u64, what: &str, unit: &str) -> ProgressBar {
    let template = format!("{what:<12} {{wide_bar}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}");
    let style = ProgressStyle::with_template(&template).expect("the template is constant but for words");
    ProgressBar::new(total).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_in_flags_are_dashes() {
        let typed = ["train", "--data_dir", "my_data", "--batch_size=8_0", "-k", "--", "--as_is"];
        let expected = ["train", "--data-dir", "my_data", "--batch-size=8_0", "-k", "--", "--as_is"];
        assert_eq!(respell(typed.into_iter().map(OsString::from)), expected.map(OsString::from));
    }
}
