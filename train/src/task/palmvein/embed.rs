//! Embeddings of pairs, and how well they tell hands apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use contract::cli::progress;
use metrics::Matrix;
use metrics::verification::Roc;

use crate::engine::TaskError;
use crate::model::palmvein::{Branch, PalmVeinNet, Stage1Net};
use crate::palmdata::{PairBatch, PairPictures, evaluation_batches};
use crate::rng::Rng;

use super::config::Common;
use super::stage2::Missing;

/// Embeddings `[rows, dim]`, row by row, and the class of each.
pub type Embedded = (Matrix, Vec<i64>);

/// Verification figures of unit rows: each pair of rows is compared once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Rate at which false accepts and false rejects meet.
    pub eer: f64,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Share of genuine pairs accepted where one impostor pair in a hundred is.
    pub tar: f64,
    /// Share of rows whose nearest other row is of their class.
    pub rank1: f64,
    /// Mean similarity of genuine pairs.
    pub genuine: f64,
    /// Mean similarity of impostor pairs.
    pub impostor: f64,
}

impl Figures {
    /// By the names that logs and reports use.
    pub fn named(&self) -> BTreeMap<String, f64> {
        let values = [
            ("EER", self.eer),
            ("AUC", self.auc),
            ("TAR@1%FAR", self.tar),
            ("rank1", self.rank1),
            ("GenuineMean", self.genuine),
            ("ImpostorMean", self.impostor),
        ];
        values.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// Figures of embeddings; none where there is no genuine or no impostor pair to compare.
///
/// # Errors
/// If a similarity is not finite.
pub fn figures((rows, classes): &Embedded) -> Result<Option<Figures>, TaskError> {
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    let (mut first, mut probes) = (0usize, 0usize);
    let similarity = |a: usize, b: usize| rows.row(a).iter().zip(rows.row(b)).map(|(a, b)| a * b).sum::<f32>();
    for a in 0..rows.rows() {
        let mut nearest = (f32::NEG_INFINITY, false);
        let mut has_partner = false;
        for b in (0..rows.rows()).filter(|b| *b != a) {
            let (value, same) = (similarity(a, b), classes[a] == classes[b]);
            has_partner |= same;
            // Of equals the stranger counts: a network that maps all to one place recognises nobody.
            if value > nearest.0 || (value == nearest.0 && !same) {
                nearest = (value, same);
            }
            if b > a {
                if same { &mut genuine } else { &mut impostor }.push(value);
            }
        }
        probes += usize::from(has_partner);
        first += usize::from(has_partner && nearest.1);
    }
    if genuine.is_empty() || impostor.is_empty() {
        return Ok(None);
    }
    let mean = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
    let roc = Roc::new(&genuine, &impostor)?;
    Ok(Some(Figures {
        eer: roc.eer().rate,
        auc: roc.auc(),
        tar: roc.tar_at_far(0.01)?.tar,
        rank1: first as f64 / probes.max(1) as f64,
        genuine: mean(&genuine),
        impostor: mean(&impostor),
    }))
}

/// One of a batch's pictures as the network reads it.
pub(super) fn images(pixels: Vec<f32>, shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels, shape), device)
}

fn embed(
    pictures: &Arc<PairPictures>,
    common: &Common,
    mut of: impl FnMut(PairBatch) -> Result<Tensor<2>, TaskError>,
) -> Result<Embedded, TaskError> {
    let bar = progress(pictures.len() as u64, "embedding", "pairs");
    let (mut rows, mut classes, mut dim) = (Vec::new(), Vec::new(), 0);
    for batch in evaluation_batches(pictures, common.batchtest, common.n_thread, common.strict)? {
        let batch = batch?;
        for skipped in &batch.skipped {
            eprintln!("warning: {}: left out", skipped.error);
        }
        classes.extend_from_slice(&batch.classes);
        bar.inc(batch.classes.len() as u64);
        let embedded = of(batch)?;
        dim = embedded.dims()[1];
        rows.extend(embedded.into_data().try_to_vec::<f32>()?);
    }
    bar.finish_and_clear();
    Ok((Matrix::new(rows, classes.len(), dim)?, classes))
}

/// Unit embeddings of pairs by a whole network on a device without autodiff; `missing` is left out of every pair.
///
/// # Errors
/// If a picture cannot be read and that is to be an error.
pub fn embed_pairs(
    net: &PalmVeinNet,
    pictures: &Arc<PairPictures>,
    common: &Common,
    missing: Option<Missing>,
) -> Result<Embedded, TaskError> {
    let device = net.devices().swap_remove(0);
    embed(pictures, common, |mut batch| {
        match missing {
            Some(Missing::Palm) => batch.palm.fill(0.0),
            Some(Missing::Vein) => batch.vein.fill(0.0),
            None => {}
        }
        let (palm, vein) = (images(batch.palm, batch.shape, &device), images(batch.vein, batch.shape, &device));
        Ok(net.forward(palm, vein).embedding)
    })
}

/// Unit embeddings of one modality's pictures by a branch on a device without autodiff.
///
/// # Errors
/// As [`embed_pairs`].
pub fn embed_branch(
    net: &Stage1Net,
    branch: Branch,
    pictures: &Arc<PairPictures>,
    common: &Common,
) -> Result<Embedded, TaskError> {
    let device = net.devices().swap_remove(0);
    embed(pictures, common, |batch| {
        let pixels = if branch.is_palm() { batch.palm } else { batch.vein };
        Ok(net.embed(images(pixels, batch.shape, &device)))
    })
}

/// Similarities of embeddings by the classes they compare.
struct Compared {
    genuine: BTreeMap<i64, Vec<f32>>,
    impostor: BTreeMap<(i64, i64), Vec<f32>>,
}

impl Compared {
    fn new((rows, classes): &Embedded) -> Self {
        let mut compared = Self { genuine: BTreeMap::new(), impostor: BTreeMap::new() };
        for a in 0..rows.rows() {
            for b in a + 1..rows.rows() {
                let value = rows.row(a).iter().zip(rows.row(b)).map(|(a, b)| a * b).sum::<f32>();
                let (x, y) = (classes[a].min(classes[b]), classes[a].max(classes[b]));
                match x == y {
                    true => compared.genuine.entry(x).or_default().push(value),
                    false => compared.impostor.entry((x, y)).or_default().push(value),
                }
            }
        }
        compared
    }

    /// EER and TAR at 1 % FAR of a sample of classes, which may hold one several times.
    fn rates(&self, sample: &[i64]) -> Result<Option<[f64; 2]>, TaskError> {
        let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
        for (k, a) in sample.iter().enumerate() {
            genuine.extend_from_slice(self.genuine.get(a).map_or(&[], Vec::as_slice));
            for b in &sample[k + 1..] {
                impostor.extend_from_slice(self.impostor.get(&(*a.min(b), *a.max(b))).map_or(&[], Vec::as_slice));
            }
        }
        if genuine.is_empty() || impostor.is_empty() {
            return Ok(None);
        }
        let roc = Roc::new(&genuine, &impostor)?;
        Ok(Some([roc.eer().rate, roc.tar_at_far(0.01)?.tar]))
    }
}

/// 95 % intervals of EER and of TAR at 1 % FAR: identities are drawn with replacement, as often as there are. Of several networks
/// on the same pairs, those of their means.
///
/// # Errors
/// If a similarity is not finite.
pub fn intervals(embedded: &[Embedded], resamples: usize, seed: u64) -> Result<Option<[[f64; 2]; 2]>, TaskError> {
    let Some((_, classes)) = embedded.first() else { return Ok(None) };
    let classes: Vec<i64> = classes.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let compared: Vec<Compared> = embedded.iter().map(Compared::new).collect();
    let mut drawn: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for resample in 0..resamples {
        let mut rng = Rng::new(&[seed, resample as u64]);
        let sample: Vec<i64> = classes.iter().map(|_| classes[rng.below(classes.len())]).collect();
        let rates = compared.iter().map(|compared| compared.rates(&sample)).collect::<Result<Option<Vec<_>>, _>>()?;
        let Some(rates) = rates else { continue };
        for (which, drawn) in drawn.iter_mut().enumerate() {
            drawn.push(rates.iter().map(|rates| rates[which]).sum::<f64>() / rates.len() as f64);
        }
    }
    if drawn[0].is_empty() {
        return Ok(None);
    }
    let ends = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        [0.025, 0.975].map(|share: f64| values[((values.len() - 1) as f64 * share).round() as usize])
    };
    Ok(Some(drawn.map(ends)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_rows_by_hand() {
        // Two classes on two axes, one row of the second near the first axis.
        let rows = vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.8, 0.6];
        let found = figures(&(Matrix::new(rows, 4, 2).unwrap(), vec![0, 0, 1, 1])).unwrap().unwrap();
        // Genuine 1 and 0.6; impostor 0, 0, 0.8, 0.8.
        assert_eq!((found.auc, found.eer), (0.75, 0.5));
        assert!((found.genuine - 0.8).abs() < 1e-6 && (found.impostor - 0.4).abs() < 1e-6);
        // Row 2 has 0.6 to its partner, row 3 has 0.8 to strangers.
        assert_eq!(found.rank1, 0.75);
    }

    #[test]
    fn a_collapsed_network_recognises_nobody() {
        let rows = Matrix::new(vec![1.0; 6], 6, 1).unwrap();
        let found = figures(&(rows, vec![0, 0, 1, 1, 2, 2])).unwrap().unwrap();
        assert_eq!((found.rank1, found.eer), (0.0, 0.5));
    }

    #[test]
    fn intervals_hold_the_rate_and_follow_the_identities() {
        // Ten identities on a circle, two rows each, the second turned towards the next identity by a different amount.
        let row = |angle: f64| [angle.cos() as f32, angle.sin() as f32];
        let rows = (0..10).flat_map(|k| {
            let angle = f64::from(k) * 0.6;
            [row(angle), row(angle + 0.08 * f64::from(k))]
        });
        let classes: Vec<i64> = (0..20).map(|k| k / 2).collect();
        let embedded = (Matrix::new(rows.flatten().collect(), 20, 2).unwrap(), classes);
        let eer = figures(&embedded).unwrap().unwrap().eer;
        let [[low, high], [_, most]] = intervals(std::slice::from_ref(&embedded), 200, 1).unwrap().unwrap();
        assert!(low <= eer && eer <= high && low < high && most <= 1.0, "{low} {eer} {high}");
        assert_eq!(intervals(&[], 200, 1).unwrap(), None);
    }

    #[test]
    fn without_partners_there_are_no_figures() {
        let rows = Matrix::new(vec![1.0, 0.0], 2, 1).unwrap();
        assert_eq!(figures(&(rows, vec![0, 1])).unwrap(), None);
    }
}
