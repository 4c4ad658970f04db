//! Shows what a model of palm and veins attends to: its attention weights over the two pictures.

use std::path::Path;

use ::report::attention::{COLUMNS, Summary, Weights};
use files::table::Writer;

use crate::pictures::Input;
use crate::runtime::Model;
use crate::{DeployError, embed};

/// Outputs of a model that was exported with its weights: a half's name, and what palm and vein count in it.
const OUTPUTS: [(&str, [&str; 2]); 2] =
    [("global", ["global_weight_palm", "global_weight_vein"]), ("local", ["local_weight_palm", "local_weight_vein"])];

/// Draws the weights of one pair as `global.png` and `local.png` and lists them in `weights.csv` and `summary.json`,
/// all in `folder`; maps lie over both pictures, channels become bars.
///
/// # Errors
/// If the model gives no weights, the pictures cannot be used, or a file cannot be written.
pub fn explain(model: &Model, row: &Input, identity: &str, folder: &Path) -> Result<Vec<Summary>, DeployError> {
    let output = |name: &str| model.contract.output.iter().find(|output| output.name == name);
    let halves: Vec<_> =
        OUTPUTS.into_iter().filter(|(_, names)| names.iter().all(|name| output(name).is_some())).collect();
    let (pictures, _) = model.embedding()?;
    let [palm, vein] = pictures.as_slice() else { return Err(DeployError::NoAttention { path: model.path.clone() }) };
    if halves.is_empty() || palm.size != vein.size {
        return Err(DeployError::NoAttention { path: model.path.clone() });
    }
    let inputs = embed::inputs(model, row)?;
    let batches: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs = model.run(&batches, 1, None)?;
    let area = palm.size[0] * palm.size[1];
    let drawn: Vec<Vec<f32>> = inputs.iter().map(|pixels| grey(pixels, area)).collect();
    let write = |name: &str, bytes: Vec<u8>| files::write(&folder.join(name), bytes).map_err(DeployError::from);
    let (mut table, mut summaries) = (Writer::for_people(&COLUMNS), Vec::new());
    for (branch, names) in halves {
        let [palm_weights, vein_weights] =
            names.map(|name| outputs.remove(name).map(|(_, values)| values).unwrap_or_default());
        // Shares of nothing cannot be drawn, and two halves of one network weigh the same places.
        if palm_weights.is_empty() || palm_weights.len() != vein_weights.len() {
            return Err(DeployError::AttentionValues {
                path: model.path.clone(),
                outputs: names.map(str::to_owned),
                found: [palm_weights.len(), vein_weights.len()],
            });
        }
        // A contract may say anything.
        let fits = |width: &usize| *width > 0 && palm_weights.len().is_multiple_of(*width);
        let columns = output(names[0]).and_then(|output| output.map).map(|[_, width]| width).filter(fits);
        let weights = Weights { branch, palm: palm_weights, vein: vein_weights, columns };
        let name = format!("{branch}.png");
        let picture = weights.draw([&drawn[0], &drawn[1]], palm.size);
        write(&name, picture.map_err(|source| DeployError::Draw { path: folder.join(&name), source })?)?;
        weights.rows(&mut table, "probe", identity);
        summaries.push(Summary::of(branch, 1, &weights.palm));
    }
    write("weights.csv", table.finish().into_bytes())?;
    let text = serde_json::to_string_pretty(&summaries)
        .map_err(|error| DeployError::Write { path: folder.join("summary.json"), source: error.into() })?;
    write("summary.json", text.into_bytes())?;
    terminal::tell!("attention to palm and veins is drawn in {}", folder.display());
    Ok(summaries)
}

/// The mean of a picture's channels.
fn grey(pixels: &[f32], area: usize) -> Vec<f32> {
    let channels = pixels.chunks_exact(area).len().max(1) as f32;
    (0..area).map(|at| pixels.iter().skip(at).step_by(area).sum::<f32>() / channels).collect()
}
