//! Settings that belong together, by name: `--recipe`. A product lists its own.

use clap::builder::{PossibleValue, PossibleValuesParser};
use serde_json::{Map, Value};

/// Settings with a name. They lie above the defaults, and below a settings file and flags.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Name for `--recipe`.
    pub name: &'static str,
    /// What it makes, and what it is known to reach: a sentence or two for the help.
    pub about: &'static str,
    /// Its settings, as a TOML file has them.
    pub text: &'static str,
}

impl Recipe {
    /// The recipe of this name, in any case.
    pub fn named(recipes: &'static [Self], name: &str) -> Option<&'static Self> {
        recipes.iter().find(|recipe| recipe.name.eq_ignore_ascii_case(name))
    }

    /// Its settings by name.
    ///
    /// # Panics
    /// If the text is not TOML: it is part of the program.
    pub fn settings(&self) -> Map<String, Value> {
        toml::from_str(self.text).unwrap_or_else(|error| panic!("the recipe {}: {error}", self.name))
    }
}

/// A command whose `--recipe` takes the names of these recipes. The help lists them, and an error the nearest.
pub(crate) fn with_recipes(command: clap::Command, recipes: &'static [Recipe]) -> clap::Command {
    let values = recipes.iter().map(|recipe| PossibleValue::new(recipe.name).help(recipe.about));
    let parser = PossibleValuesParser::new(values.collect::<Vec<_>>());
    command.mut_arg("recipe", |arg| arg.value_parser(parser).ignore_case(true))
}
