//! `train inspect --attention`: where, and in which channels, a palm-vein network looks at the palm and at the veins.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use datasets::paired::{Pair, PairedDataset};
use files::table::Writer;
use report::attention::{BALANCED, COLUMNS, Summary, Weights};

use crate::families::palmvein::data::{PairPictures, evaluation_batches};
use crate::families::palmvein::net::{Features, PalmVeinNet, PalmVeinNetConfig, load_whole};
use crate::families::palmvein::{FAMILY, Stage2Config};
use crate::run::checkpoint::Checkpoint;

/// Draws the weights of the first `count` test pairs into `folder`, and sums up those of all of them.
///
/// # Errors
/// If the checkpoint is not a palm-vein network with attention, or the pairs cannot be read.
pub fn draw(
    checkpoint: &Checkpoint,
    datadir: Option<&Path>,
    count: usize,
    folder: &Path,
) -> anyhow::Result<Vec<Summary>> {
    let network: PalmVeinNetConfig = checkpoint.network(FAMILY)?;
    if !network.fusion.parts.attention() {
        bail!("--attention: a head of the kind {:?} weighs nothing", network.fusion.parts);
    }
    let mut config: Stage2Config = checkpoint.settings()?;
    if let Some(datadir) = datadir {
        config.common.datadir = datadir.display().to_string();
    }
    let mut net = PalmVeinNet::new(&network, 0, &Device::flex())?;
    load_whole(&checkpoint.path, &network.to_string(), &mut net)?;
    let net = net.valid();
    let data = PairedDataset::open(Path::new(&config.common.datadir), &config.common.pairs())?;
    let pairs: Vec<Pair> = data.test.iter().take(count).cloned().collect();
    let pictures = Arc::new(PairPictures::new(&pairs, config.common.size(), 0));
    files::make_folder(folder).with_context(|| format!("cannot make folder `{}`", folder.display()))?;

    let mut shares: [Vec<f32>; 2] = [Vec::new(), Vec::new()];
    let mut table = Writer::for_people(&COLUMNS);
    for batch in evaluation_batches(&pictures, 1, 1, config.common.strict)? {
        let batch = batch?;
        let Some(&index) = batch.indices.first() else { continue };
        let pair = &pairs[index];
        let name = format!("{index:03}");
        let image = |pixels: &[f32]| Tensor::from_data(TensorData::new(pixels.to_vec(), batch.shape), &Device::flex());
        let details = net.forward(image(&batch.palm), image(&batch.vein));
        let branches = [("global", &details.global), ("local", &details.local)];
        for ((branch, details), shares) in branches.into_iter().zip(&mut shares) {
            let Some([of_palm, of_vein]) = details.as_ref().and_then(|details| details.weights.as_ref()) else {
                continue;
            };
            let [p, v] = [of_palm, of_vein].map(|weights| weights.values().into_data().try_to_vec::<f32>());
            let columns = match of_palm {
                Features::Map(map) => Some(map.dims()[3]),
                Features::Vector(_) => None,
            };
            let weights = Weights { branch, palm: p?, vein: v?, columns };
            weights.rows(&mut table, &name, &data.classes[pair.class]);
            let picture = weights.draw([&batch.palm, &batch.vein], config.common.size())?;
            files::write(&folder.join(format!("{name}_{branch}.png")), picture)?;
            shares.extend(weights.palm);
        }
    }
    files::write(&folder.join("weights.csv"), table.finish())?;
    let summary = |(branch, shares): (&'static str, &Vec<f32>)| {
        (!shares.is_empty()).then(|| Summary::of(branch, pairs.len(), shares))
    };
    let summaries: Vec<Summary> = ["global", "local"].into_iter().zip(&shares).filter_map(summary).collect();
    for summary in summaries.iter().filter(|summary| summary.collapsed) {
        terminal::tell!(
            "warning: the {} attention has collapsed: the palm's mean share is {:.3}, {:?} is balanced",
            summary.branch,
            summary.mean,
            BALANCED
        );
    }
    files::write(&folder.join("summary.json"), serde_json::to_string_pretty(&summaries)?)?;
    Ok(summaries)
}

/// Summaries for people: how much of the palm the head takes on the mean, and whether it decides at all.
pub fn table(summaries: &[Summary]) -> String {
    let mut text = format!("{:<8} {:>6} {:>12} {:>9} {:>8}\n", "branch", "pairs", "share palm", "variance", "entropy");
    for Summary { branch, pairs, mean, variance, entropy, collapsed } in summaries {
        let note = if *collapsed { "  one modality is as good as unread" } else { "" };
        text += &format!("{branch:<8} {pairs:>6} {mean:>12.4} {variance:>9.4} {entropy:>8.4}{note}\n");
    }
    text
}
