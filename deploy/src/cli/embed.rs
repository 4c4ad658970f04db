//! `deploy embed`: pictures to an embeddings folder.

use std::process::ExitCode;

use super::args::EmbedArgs;
use super::shared::{embed_options, exclusive, facts, list, one_row, open, print, say_naming, tell_skipped};
use crate::gallery::{self, Template, Writer};
use crate::{DeployError, embed};

pub(crate) fn run(args: &EmbedArgs) -> Result<ExitCode, DeployError> {
    vacant(args)?;
    let mut pictures = list(&args.pictures, &args.pairs, args.naming.identity_from, args.reading.strict)?;
    let model = open(&args.model, pictures.len())?;
    if args.pictures.is_empty() {
        let (row, notes) = one_row(&model, &args.one, args.naming.identity_from)?;
        say_naming(&notes);
        pictures.push(row);
    }
    let (_, spec) = model.embedding()?;
    let exclusive = exclusive(&args.out, args.writing.wait)?;
    // Somebody may have enrolled meanwhile.
    vacant(args)?;
    let mut writer = Writer::create(exclusive, spec.dim)?;
    let bar = terminal::progress(pictures.len() as u64, "embed", "pictures");
    let options = embed_options(&args.model, &args.reading);
    let done = |count| bar.inc(count as u64);
    let skipped = embed::stream(&model, &pictures, &options, done, |picture, row| {
        writer.row(&Template::from(picture).stamped(), row)
    });
    bar.finish_and_clear();
    let skipped = skipped?;
    let facts = writer.finish(facts(&model, spec, skipped.count))?;
    tell_skipped(&skipped, pictures.len());
    print(&format!("{} embeddings of {} values in {}\n", facts.rows, facts.dim, args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// An error if the folder to write to holds embeddings that are not to be replaced.
fn vacant(args: &EmbedArgs) -> Result<(), DeployError> {
    if args.replace || !gallery::is_embeddings(&args.out) {
        return Ok(());
    }
    let rows = gallery::facts(&args.out).map_or_else(|_| "unknown".to_owned(), |facts| facts.rows.to_string());
    Err(DeployError::Occupied { path: args.out.clone(), rows })
}
