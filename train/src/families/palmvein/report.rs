//! What the test pairs say about a network of either stage: people it has never seen, unless the split is another.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use datasets::paired::{PairedDataset, SplitRule};
use metrics::verification::{EqualError, Interval, VerificationOptions, VerificationReport};
use serde::Serialize;

use crate::families::palmvein::data::PairPictures;
use crate::families::palmvein::net::{PalmVeinNet, Stage1Net};
use crate::families::reid::evaluate::warn_when_collapsed;
use crate::run::engine::TaskError;

use super::data::Missing;
use super::embed::{Classified, Embedded, embed_pairs, examine_branch, examine_pairs, verify};
use super::pictures;
use super::settings::{Common, Stage1Config, Stage2Config};

/// What the test pairs say about a network.
#[derive(Debug, Serialize)]
pub struct TestReport {
    /// The network.
    pub network: String,
    /// The data, and which of them test.
    pub dataset: String,
    /// Test pairs that could not be read and are left out.
    pub skipped: usize,
    /// How well the classifier knows the people it trained on; none where the network has none.
    pub accuracy: Option<Accuracy>,
    /// The same verification with one picture of each pair missing, of a network that bears it.
    pub alone: Vec<Alone>,
    /// How well the test pairs are told apart, with 95 % intervals by identity.
    pub verification: VerificationReport,
}

/// Closed-set accuracy: only people who trained have a class.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Accuracy {
    /// `test` or `validation` pairs: the first where their people trained.
    pub of: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub found: Classified,
}

/// Verification by one modality of a network of two.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Alone {
    /// The modality that was there, `palm` or `vein`.
    pub present: &'static str,
    /// Equal error rate.
    pub eer: EqualError,
    /// Its 95 % interval.
    pub eer_interval: Option<Interval>,
}

impl TestReport {
    /// Lines of name and value about what [`VerificationReport`] does not hold.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("network", self.network.clone()),
            ("data", self.dataset.clone()),
            ("left out", format!("{} pairs that cannot be read", self.skipped)),
        ];
        if let Some(Accuracy { of, found }) = &self.accuracy {
            let Classified { pairs, accuracy, .. } = found;
            facts.push(("accuracy", format!("{:.2} % of {pairs} {of} pairs, closed set", 100.0 * accuracy)));
        }
        for Alone { present, eer, eer_interval } in &self.alone {
            let between = eer_interval
                .map(|Interval { low, high }| format!("  (95 %: {:.2} to {:.2})", 100.0 * low, 100.0 * high));
            let name = if *present == "palm" { "EER, palm alone" } else { "EER, vein alone" };
            facts.push((name, format!("{:.2} %{}", 100.0 * eer.rate, between.unwrap_or_default())));
        }
        facts
    }

    /// For people, a line each.
    pub fn table(&self) -> String {
        let facts: String = self.facts().iter().map(|(name, value)| format!("{name:<22}  {value}\n")).collect();
        facts + &report::table(&self.verification)
    }

    /// A page with curves and histograms that loads nothing.
    pub fn html(&self) -> String {
        report::html("Palm and vein verification", &self.facts(), &self.verification)
    }
}

/// The data of these settings, and their name: of the folder its last part, for the report is passed on.
fn split(common: &Common) -> Result<(PairedDataset, String), TaskError> {
    let data = PairedDataset::open(Path::new(&common.datadir), &common.pairs())?;
    data.warnings.iter().for_each(|warning| terminal::warn(warning));
    let rule = SplitRule::NAMES.iter().find(|(_, rule)| *rule == common.split).map_or("", |(name, _)| *name);
    let folder = Path::new(&common.datadir).file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{} in {folder}, test split by {rule}", data.name);
    Ok((data, name))
}

/// Embeddings of the `test` pairs, and how well the people are known who trained: of the test pairs, or else of those
/// that validated. `examine` runs the network over some pairs and, if it is to, classifies them.
fn examined(
    data: &PairedDataset,
    test: &Arc<PairPictures>,
    common: &Common,
    examine: impl Fn(&Arc<PairPictures>, bool) -> Result<(Embedded, Option<Classified>), TaskError>,
) -> Result<(Embedded, Option<Accuracy>), TaskError> {
    // A person who did not train has no class.
    let known = data.test.iter().all(|pair| pair.class < data.num_classes);
    let (embedded, found) = examine(test, known)?;
    let (of, found) = match known {
        true => ("test", found),
        false => ("validation", examine(&pictures(&data.val, common), true)?.1),
    };
    Ok((embedded, found.map(|found| Accuracy { of, found })))
}

fn compared(embedded: &Embedded) -> Result<VerificationReport, TaskError> {
    warn_when_collapsed(&metrics::spread(&embedded.0));
    let nothing = "the test pairs hold no two pairs of one hand, or no two hands: there is nothing to compare";
    verify(embedded, VerificationOptions::default().resamples)?.ok_or_else(|| nothing.into())
}

/// Tests a whole network, on a device without autodiff, on the test pairs of its settings.
///
/// # Errors
/// If the pairs cannot be read, or leave nothing to compare.
pub fn test_pairs(net: &PalmVeinNet, name: &str, config: &Stage2Config) -> Result<TestReport, TaskError> {
    let common = &config.common;
    let (data, dataset) = split(common)?;
    let test = pictures(&data.test, common);
    let examine = |pairs: &Arc<PairPictures>, classify| examine_pairs(net, pairs, common, classify);
    let (embedded, accuracy) = examined(&data, &test, common, examine)?;
    let mut alone = Vec::new();
    if config.modality_dropout > 0.0 {
        for (present, missing) in [("palm", Missing::Vein), ("vein", Missing::Palm)] {
            let VerificationReport { eer, eer_interval, .. } =
                compared(&embed_pairs(net, &test, common, Some(missing))?)?;
            alone.push(Alone { present, eer, eer_interval });
        }
    }
    Ok(TestReport {
        network: name.to_owned(),
        dataset,
        skipped: test.len() - embedded.1.len(),
        accuracy,
        alone,
        verification: compared(&embedded)?,
    })
}

/// Tests a branch of stage 1, on a device without autodiff, on its modality's pictures of the test pairs.
///
/// # Errors
/// As [`test_pairs`].
pub fn test_branch(net: &Stage1Net, config: &Stage1Config) -> Result<TestReport, TaskError> {
    let (common, branch) = (&config.common, config.branch);
    let (data, dataset) = split(common)?;
    let test = pictures(&data.test, common);
    let examine = |pairs: &Arc<PairPictures>, classify| examine_branch(net, branch, pairs, common, classify);
    let (embedded, accuracy) = examined(&data, &test, common, examine)?;
    Ok(TestReport {
        network: format!("{}, {} parameters", branch.name(), net.model.num_params()),
        dataset,
        skipped: test.len() - embedded.1.len(),
        accuracy,
        alone: Vec::new(),
        verification: compared(&embedded)?,
    })
}
