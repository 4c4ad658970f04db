//! `deploy adopt`: a bundle of somebody else's model.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::ImageFormat;
use serde_json::json;

use super::args::{AdoptArgs, FactsFormat};
use super::shared::{print, print_json, say_left_out, tell_skipped, warn_when_collapsed};
use crate::DeployError;
use crate::adopt::{Adopted, Channel, Fact, Sheet, Wishes, adopt, sheet, sheet_beside};
use crate::embed;
use crate::pictures::{self, Input};
use crate::report::aligned;

/// Most pictures on the contact sheet.
const MOST_SHOWN: usize = 16;

pub(crate) fn run(args: &AdoptArgs) -> Result<ExitCode, DeployError> {
    // Listed first: a folder that is not there is told before the model is run.
    let pictures = args.pictures.as_deref().map(some).transpose()?;
    let wishes = Wishes {
        preset: args.preset,
        size: args.size,
        mean: args.mean.clone(),
        std: args.std.clone(),
        range: args.range,
        colour: args.colour,
        layout: args.layout.clone(),
        filter: args.filter,
        output: args.output.clone(),
        flip: args.flip,
        name: args.name.clone(),
        licence: args.licence.clone(),
    };
    let adopted = adopt(&args.model, &wishes, &args.out)?;
    let shown = pictures.map(|pictures| show(&adopted, &pictures, args)).transpose()?;
    let (contract, facts, notes) = (adopted.contract.clone(), adopted.facts.clone(), adopted.notes.clone());
    let self_test = adopted.model.self_test.to_string();
    let files: Vec<String> = adopted.model.files.iter().map(|file| file.name.clone()).collect();
    adopted.place(&args.out)?;
    notes.iter().for_each(|note| terminal::warn(note));
    if let Some(preset) = args.preset.filter(|preset| !preset.besides.is_empty()) {
        terminal::note(&format!("with {}, {}; that is not done here", preset.name, preset.besides));
    }
    let id = contract.embedding.as_ref().map(|embedding| embedding.contract_id.clone()).unwrap_or_default();
    match args.format {
        FactsFormat::Json => print_json(&json!({
            "bundle": args.out,
            "files": files,
            "settled": facts,
            "notes": notes,
            "preset": args.preset.map(|preset| json!({"name": preset.name, "sources": preset.sources})),
            "contract_id": id,
            "self_test": self_test,
            "sheet": shown.as_ref().map(|(path, sheet)| json!({
                "path": path, "shown": sheet.shown, "channels": sheet.channels,
            })),
            "contract": contract,
        }))?,
        FactsFormat::Table => {
            let mut lines: Vec<Vec<String>> =
                facts.into_iter().map(|Fact { what, value, from }| vec![what.to_owned(), value, from]).collect();
            let [output] = contract.output.as_slice() else { unreachable!("one output is adopted") };
            let dim = contract.embedding.as_ref().map_or(0, |embedding| embedding.dim);
            let length = if output.unit_length { ", of length 1" } else { "" };
            lines.push(vec!["embedding".into(), format!("{dim} values{length}"), "run on test pictures".into()]);
            lines.push(vec!["contract id".into(), id]);
            lines.push(vec!["self-test".into(), self_test]);
            if let Some((path, sheet)) = &shown {
                for (at, channel) in sheet.channels.iter().enumerate() {
                    let Channel { smallest, mean, largest } = channel;
                    let seen = format!("{smallest:.3} to {largest:.3}, mean {mean:.3}");
                    lines.push(vec![format!("channel {at}"), seen, format!("of {} pictures", sheet.shown)]);
                }
                lines.push(vec!["sheet".into(), path.display().to_string()]);
            }
            lines.push(vec!["bundle".into(), args.out.display().to_string()]);
            print(&aligned(&lines))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Some pictures of a folder, from all over it.
fn some(folder: &Path) -> Result<Vec<Input>, DeployError> {
    let listed = pictures::list(&[folder.to_owned()], None)?;
    say_left_out(&listed.left_out, &[], false)?;
    let step = listed.pictures.len().div_ceil(MOST_SHOWN).max(1);
    Ok(listed.pictures.into_iter().step_by(step).collect())
}

/// Writes the contact sheet, and warns if the pictures' embeddings are nearly the same.
fn show(adopted: &Adopted, pictures: &[Input], args: &AdoptArgs) -> Result<(PathBuf, Sheet), DeployError> {
    let sheet = sheet(&adopted.model, pictures)?;
    let path = args.sheet.clone().unwrap_or_else(|| sheet_beside(&args.out));
    let mut png = std::io::Cursor::new(Vec::new());
    sheet
        .picture
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|source| DeployError::Draw { path: path.clone(), source })?;
    files::write(&path, png.into_inner())?;
    let options = embed::Options { batch_size: 1, ..embed::Options::default() };
    let collected = embed::collect(&adopted.model, pictures, &options)?;
    warn_when_collapsed(&metrics::spread(collected.embeddings.view()?));
    tell_skipped(&collected.skipped, pictures.len());
    Ok((path, sheet))
}
