//! Open-set identification (1:N): is the probe anybody in the gallery, and who?
//!
//! Definitions are those of ISO/IEC 19795-1 and of NIST's FRTE 1:N reports, at a threshold and a gallery of N subjects:
//! - **FPIR**: share of probes of people who are not in the gallery that find anybody at or above the threshold;
//! - **FNIR**: share of probes of people who are in the gallery whose own entry is not first, or below the threshold.
//!
//! A threshold that keeps an FPIR depends on N: a stranger has N chances to be found. It also depends on how many
//! templates a subject has, and on how they become one score ([`Fusion`]).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{Interval, Resampling};
use crate::distance::{BLOCK, products};
use crate::verification::groups::Groups;
use crate::{MetricsError, Rows};

/// How the similarities of a probe to a subject's templates become one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    /// The highest.
    #[default]
    Max,
    /// The mean.
    Mean,
}

impl Fusion {
    /// The score of a subject; `None` without a similarity.
    pub fn fuse(self, similarities: impl IntoIterator<Item = f32>) -> Option<f32> {
        let (mut count, mut fused) = (0_u32, None);
        for similarity in similarities {
            count += 1;
            fused = Some(match (self, fused) {
                (_, None) => similarity,
                (Self::Max, Some(before)) => f32::max(before, similarity),
                (Self::Mean, Some(before)) => before + similarity,
            });
        }
        fused.map(|fused| if self == Self::Mean { fused / count as f32 } else { fused })
    }
}

/// Options of [`evaluate`].
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSetOptions {
    /// False positive identification rates to find thresholds for, above 0 and at most 1.
    pub fpirs: Vec<f64>,
    /// Gallery sizes N, in subjects.
    pub galleries: Vec<usize>,
    /// Templates per subject: the first rows of each person. People with fewer rows are not enrolled; their rows are
    /// probes of strangers.
    pub templates: usize,
    /// How a subject's templates become one score.
    pub fusion: Fusion,
    /// Label of distractors: rows that belong to none of the identities. They are probes of strangers.
    pub distractor: Option<i64>,
    /// Bootstrap samples of the identities; 0 for no intervals.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for OpenSetOptions {
    fn default() -> Self {
        Self {
            fpirs: vec![0.1, 0.01, 0.003],
            galleries: Vec::new(),
            templates: 1,
            fusion: Fusion::Max,
            distractor: None,
            resamples: 200,
            seed: 42,
        }
    }
}

/// A threshold for one gallery size and one rate, and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetPoint {
    /// Subjects in the gallery, N.
    pub gallery: usize,
    /// The required FPIR.
    pub target: f64,
    /// The threshold: scores at or above it are found.
    pub similarity: f32,
    /// FPIR at the threshold; at most the target.
    pub fpir: f64,
    /// 95 % interval of the FPIR.
    pub fpir_interval: Option<Interval>,
    /// FNIR at the threshold, at rank 1.
    pub fnir: f64,
    /// 95 % interval of the FNIR.
    pub fnir_interval: Option<Interval>,
    /// Whether there are fewer identities with probes than one over the target, so that they cannot show such a rate.
    pub below_resolution: bool,
}

/// Open-set identification, measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetReport {
    /// Enrolled subjects.
    pub subjects: usize,
    /// Templates of each.
    pub templates: usize,
    /// How they become one score.
    pub fusion: Fusion,
    /// Identities and distractors with a probe: the independent trials behind the FPIR.
    pub trials: usize,
    /// Probes whose person is enrolled.
    pub mated: usize,
    /// All probes; each is also searched in galleries without its person.
    pub probes: usize,
    /// A point for each rate and gallery size, sizes within rates, in the order asked.
    pub points: Vec<OpenSetPoint>,
    /// A curve for each gallery size, in the order asked.
    pub curves: Vec<OpenSetCurve>,
}

/// What thresholds cost in galleries of one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenSetCurve {
    /// Subjects in the gallery, N.
    pub gallery: usize,
    /// From the loosest threshold to the strictest; no two have the same.
    pub points: Vec<Tradeoff>,
}

/// A threshold and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tradeoff {
    /// The threshold: scores at or above it are found.
    pub similarity: f32,
    /// FPIR at the threshold.
    pub fpir: f64,
    /// FNIR at the threshold, at rank 1.
    pub fnir: f64,
}

/// Scores are counted in bins of this many to the unit; a threshold is the edge of a bin, so it is at most this much
/// stricter than necessary. Rates at a threshold are exact.
const BINS_PER_UNIT: f32 = 32_768.0;

/// Scores lie between -1 and 1, and beyond by rounding.
const BINS: usize = 2 * BINS_PER_UNIT as usize + 2;

/// Thresholds of a curve per decade of FPIR.
const PER_DECADE: i32 = 8;

/// Blocks of probes at once; each has sums for the thresholds of all curves.
const BLOCKS: usize = 64;

/// Histograms at once; each has [`BINS`] sums for every gallery size.
const WORKERS: usize = 8;

/// Finds, for each rate and gallery size, the lowest threshold that keeps the rate, and measures what it misses.
///
/// Each person's first [`templates`](OpenSetOptions::templates) rows are enrolled, the others are probes. The rates are
/// expectations over all galleries of N subjects that can be drawn from the enrolled ones without the probe's person
/// (for FPIR) or with it (for FNIR). They are computed, not sampled: of `s` strangers of whom `c` score at or above the
/// threshold, a gallery of N holds none with probability C(s-c, N) / C(s, N). Memory grows with rows and gallery sizes,
/// not with pairs. A curve has eight thresholds per decade of FPIR, from 1 down to what the number of people can show.
///
/// # Shapes
/// - `embeddings`: `[rows, embed_dim]`, rows of unit length; `labels`: one per row
///
/// # Intervals
/// As in [`verification`](crate::verification::evaluate()): identities are resampled, and no interval is tighter than
/// the number of identities allows. Only the people on probes are resampled, not the gallery.
///
/// # Errors
/// The number of labels differs from the rows, a value is not finite, a rate or a number is outside its range, nobody
/// has more than `templates` rows, or a gallery is larger than the number of strangers of any probe (no claim beyond
/// what was measured; the message has the number).
pub fn evaluate<'a>(
    embeddings: impl Into<Rows<'a>>,
    labels: &[i64],
    options: &OpenSetOptions,
) -> Result<OpenSetReport, MetricsError> {
    let embeddings = embeddings.into();
    let parameter = |name, found: String, allowed| Err(MetricsError::Parameter { name, found, allowed });
    if labels.len() != embeddings.rows() {
        return parameter(
            "number of labels",
            format!("{} for {} rows", labels.len(), embeddings.rows()),
            "one per row",
        );
    }
    if let Some(rate) = options.fpirs.iter().find(|rate| !(**rate > 0.0 && **rate <= 1.0)) {
        return parameter("FPIR", rate.to_string(), "above 0, up to 1");
    }
    if options.templates == 0 {
        return parameter("templates per subject", "0".to_owned(), "at least 1");
    }
    embeddings.check_finite("embeddings")?;
    let groups = Groups::of(embeddings, labels, options.distractor);
    let people = People::of(&groups, options.templates);
    if people.probes.iter().all(|probe| probe.subject.is_none()) {
        return Err(MetricsError::Empty { what: "probes: nobody has more rows than templates are enrolled" });
    }
    let most = people.subjects.saturating_sub(1);
    if let Some(gallery) = options.galleries.iter().find(|gallery| !(1..=most).contains(*gallery)) {
        return Err(MetricsError::Gallery { gallery: *gallery, subjects: people.subjects });
    }
    let scores = Scores { groups: &groups, people: &people, options };
    let curves = scores.curves();
    let mut points = Vec::new();
    for target in &options.fpirs {
        for (gallery, curve) in options.galleries.iter().zip(&curves) {
            let similarity = edge(lowest(curve, *target * people.probes.len() as f64));
            points.push((*gallery, *target, similarity));
        }
    }
    let resampling = Resampling { samples: options.resamples, seed: options.seed };
    let trials = people.trials();
    let thresholds: Vec<_> = curves.iter().map(|curve| scores.thresholds(curve, trials)).collect();
    let (costs, hits) = scores.costs(&points, &thresholds);
    let points = points.iter().enumerate().map(|(at, &(gallery, target, similarity))| {
        let costs = costs.iter().map(|group| group[at]).collect::<Vec<_>>();
        let [fpir, fnir] = [0, 1].map(|kind| {
            let trials = costs.iter().map(|cost| (cost[kind][1], [cost[kind][0]])).collect();
            let [rate] = resampling.means(trials);
            rate
        });
        let below_resolution = target * (trials as f64) < 1.0;
        OpenSetPoint {
            gallery,
            target,
            similarity,
            fpir: fpir.mean,
            fpir_interval: fpir.interval,
            fnir: fnir.mean,
            fnir_interval: fnir.interval,
            below_resolution,
        }
    });
    let mated = people.probes.iter().filter(|probe| probe.subject.is_some()).count();
    let curve = |at: usize| {
        let rates = |(&(similarity, fpir), hits): (&(f32, f64), &f64)| {
            // Sums of many probabilities miss their exact value by rounding.
            Tradeoff { similarity, fpir: fpir.min(1.0), fnir: (1.0 - hits / mated as f64).max(0.0) }
        };
        let points = thresholds[at].iter().zip(&hits[at]).map(rates).collect();
        OpenSetCurve { gallery: options.galleries[at], points }
    };
    Ok(OpenSetReport {
        subjects: people.subjects,
        templates: options.templates,
        fusion: options.fusion,
        trials,
        mated,
        probes: people.probes.len(),
        points: points.collect(),
        curves: (0..curves.len()).map(curve).collect(),
    })
}

/// Gallery sizes from 1 to `most`, each about √2 times the one before: a threshold for the next larger size keeps the
/// rate, and is stricter than necessary by little.
pub fn sizes(most: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut size = 1;
    while size < most {
        sizes.push(size);
        size = ((size as f64 * std::f64::consts::SQRT_2).ceil() as usize).max(size + 1);
    }
    sizes.extend((most > 0).then_some(most));
    sizes
}

/// How many people [`evaluate`] would enrol: those with at least `templates` rows.
pub fn subjects(labels: &[i64], templates: usize, distractor: Option<i64>) -> usize {
    let mut rows = std::collections::HashMap::new();
    for label in labels.iter().filter(|label| Some(**label) != distractor) {
        *rows.entry(label).or_insert(0) += 1;
    }
    rows.values().filter(|rows| **rows >= templates).count()
}

/// A probe: its index, the group it belongs to, and the number of its person's subject if that is enrolled.
struct Probe {
    index: usize,
    group: usize,
    subject: Option<usize>,
}

/// Who is enrolled and who probes.
struct People {
    /// Embeddings `[subjects * templates, embed_dim]`.
    enrolled: Vec<f32>,
    cols: usize,
    subjects: usize,
    probes: Vec<Probe>,
}

impl People {
    fn of(groups: &Groups<'_>, templates: usize) -> Self {
        let (mut enrolled, mut subjects, mut probes, mut cols) = (Vec::new(), 0, Vec::new(), 0);
        for group in 0..groups.len() {
            let indices = groups.indices(group);
            let subject = (!groups.distractor[group] && indices.len() >= templates).then_some(subjects);
            let own = if subject.is_some() { templates } else { 0 };
            if own > 0 {
                let rows = groups.rows(indices.start..indices.start + own);
                cols = rows.cols();
                enrolled.extend_from_slice(rows.data());
                subjects += 1;
            }
            probes.extend(indices.skip(own).map(|index| Probe { index, group, subject }));
        }
        Self { enrolled, cols, subjects, probes }
    }

    /// Groups with a probe.
    fn trials(&self) -> usize {
        self.probes.chunk_by(|a, b| a.group == b.group).count()
    }
}

/// The scores of all probes, made again in each round instead of being kept.
struct Scores<'a> {
    groups: &'a Groups<'a>,
    people: &'a People,
    options: &'a OpenSetOptions,
}

impl Scores<'_> {
    /// Calls `see` with each probe of a block, its score to its own subject and its scores to strangers in no order.
    fn of_block(&self, block: &[Probe], buffer: &mut Buffer, mut see: impl FnMut(&Probe, Option<f32>, &mut Vec<f32>)) {
        let People { enrolled, cols, subjects, .. } = self.people;
        let templates = self.options.templates;
        let rows = |values, rows| Rows::new(values, rows, *cols).unwrap_or_else(|_| unreachable!("whole rows"));
        buffer.probes.clear();
        for probe in block {
            buffer.probes.extend_from_slice(self.groups.rows(probe.index..probe.index + 1).data());
        }
        buffer.products.resize(block.len() * subjects * templates, 0.0);
        products(rows(&buffer.probes, block.len()), rows(enrolled, subjects * templates), &mut buffer.products);
        for (probe, row) in block.iter().zip(buffer.products.chunks(subjects * templates)) {
            let fused = row.chunks(templates).map(|subject| self.options.fusion.fuse(subject.iter().copied()));
            buffer.scores.clear();
            buffer.scores.extend(fused.flatten());
            let own = probe.subject.map(|subject| buffer.scores.swap_remove(subject));
            see(probe, own, &mut buffer.scores);
        }
    }

    /// For each gallery size, the expected number of probes whose best stranger falls into each bin.
    fn curves(&self) -> Vec<Vec<f64>> {
        let empty = || vec![vec![0.0; BINS]; self.options.galleries.len()];
        let share = self.people.probes.len().div_ceil(WORKERS).max(BLOCK);
        let one = |probes: &[Probe]| {
            let (mut curves, mut buffer) = (empty(), Buffer::default());
            for block in probes.chunks(BLOCK) {
                self.of_block(block, &mut buffer, |_, _, strangers| {
                    strangers.sort_unstable_by(|a, b| b.total_cmp(a));
                    for (gallery, curve) in self.options.galleries.iter().zip(&mut curves) {
                        best_of(strangers, *gallery, |score, probability| curve[bin(score)] += probability);
                    }
                });
            }
            curves
        };
        let parts: Vec<_> = self.people.probes.par_chunks(share).map(one).collect();
        parts.into_iter().fold(empty(), |mut sum, part| {
            let bins = sum.iter_mut().flatten().zip(part.iter().flatten());
            bins.for_each(|(sum, part)| *sum += part);
            sum
        })
    }

    /// The thresholds of a gallery size's curve, ascending, with the FPIR of each.
    fn thresholds(&self, curve: &[f64], trials: usize) -> Vec<(f32, f64)> {
        let probes = self.people.probes.len() as f64;
        let targets = (0..).map(|step| 10_f64.powf(-f64::from(step) / f64::from(PER_DECADE)));
        // What nobody can show is not drawn; rounding must not take the last one.
        let shown = targets.take_while(|target| target * trials as f64 >= 1.0 - 1e-9);
        let mut bins: Vec<usize> = shown.map(|target| lowest(curve, target * probes)).collect();
        bins.dedup();
        bins.into_iter().map(|at| (edge(at), curve[at..].iter().sum::<f64>() / probes)).collect()
    }

    /// For each group and each point (gallery size, rate, threshold): expected false positives and number of searches,
    /// and expected misses and number of mated searches. For each gallery size and each of its `thresholds`: the
    /// expected number of mated searches that find their person.
    fn costs(&self, points: &[(usize, f64, f32)], thresholds: &[Vec<(f32, f64)>]) -> (Vec<Vec<Cost>>, Vec<Vec<f64>>) {
        let nothing = || thresholds.iter().map(|of_size| vec![0.0; of_size.len()]).collect::<Vec<_>>();
        let block = |block: &[Probe]| {
            let (mut buffer, mut found) = (Buffer::default(), Vec::<(usize, Vec<Cost>)>::new());
            let mut hits = nothing();
            self.of_block(block, &mut buffer, |probe, own, strangers| {
                let above = |least: f32| strangers.iter().filter(|score| **score >= least).count();
                // Equal scores rank before the own one: a tie is no recognition.
                let before = own.map(above);
                let cost = |&(gallery, _, similarity): &(usize, f64, f32)| {
                    let positive = 1.0 - none_of(strangers.len(), above(similarity), gallery);
                    let missed = own.zip(before).map_or([0.0, 0.0], |(own, before)| match own >= similarity {
                        true => [1.0 - none_of(strangers.len(), before, gallery - 1), 1.0],
                        false => [1.0, 1.0],
                    });
                    [[positive, 1.0], missed]
                };
                if let Some((own, before)) = own.zip(before) {
                    for ((gallery, thresholds), hits) in self.options.galleries.iter().zip(thresholds).zip(&mut hits) {
                        let first = none_of(strangers.len(), before, gallery - 1);
                        let reached = thresholds.iter().zip(hits).filter(|((least, _), _)| own >= *least);
                        reached.for_each(|(_, hits)| *hits += first);
                    }
                }
                let costs = points.iter().map(cost);
                match found.last_mut().filter(|(group, _)| *group == probe.group) {
                    Some((_, sums)) => sums.iter_mut().zip(costs).for_each(|(sum, cost)| add(sum, cost)),
                    None => found.push((probe.group, costs.collect())),
                }
            });
            (found, hits)
        };
        let mut sums = vec![vec![[[0.0; 2]; 2]; points.len()]; self.groups.len()];
        let mut hits = nothing();
        // Some at a time: the hits of all blocks would take more memory than the people.
        for some in self.people.probes.chunks(BLOCKS * BLOCK) {
            let parts: Vec<_> = some.par_chunks(BLOCK).map(block).collect();
            for (found, part) in parts {
                for (group, costs) in found {
                    sums[group].iter_mut().zip(costs).for_each(|(sum, cost)| add(sum, cost));
                }
                let both = hits.iter_mut().flatten().zip(part.iter().flatten());
                both.for_each(|(sum, part)| *sum += part);
            }
        }
        (sums, hits)
    }
}

/// Expected false positives and searches; expected misses and mated searches.
type Cost = [[f64; 2]; 2];

fn add(sum: &mut Cost, cost: Cost) {
    sum.as_flattened_mut().iter_mut().zip(cost.as_flattened()).for_each(|(sum, cost)| *sum += cost);
}

#[derive(Default)]
struct Buffer {
    probes: Vec<f32>,
    products: Vec<f32>,
    scores: Vec<f32>,
}

/// Probability that `gallery` of `strangers` drawn without replacement hold none of the `above` that are above a
/// threshold: C(strangers - above, gallery) / C(strangers, gallery).
fn none_of(strangers: usize, above: usize, gallery: usize) -> f64 {
    if gallery + above > strangers {
        return if above == 0 || gallery == 0 { 1.0 } else { 0.0 };
    }
    // The product is symmetric in `above` and `gallery`; the shorter one is taken.
    let (short, long) = (above.min(gallery), above.max(gallery));
    (0..short).map(|at| (strangers - long - at) as f64 / (strangers - at) as f64).product()
}

/// Calls `see` with each score, from the highest, and the probability that it is the best of `gallery` of the scores
/// drawn without replacement. Stops when what remains is less than 1e-12.
fn best_of(descending: &[f32], gallery: usize, mut see: impl FnMut(f32, f64)) {
    let mut none_before = 1.0;
    for (at, score) in descending.iter().enumerate() {
        let left = descending.len() - at;
        let chosen = none_before * gallery.min(left) as f64 / left as f64;
        see(*score, chosen);
        none_before -= chosen;
        if none_before < 1e-12 {
            break;
        }
    }
}

/// The bin of a score; everything below -1 and above 1 is in the first and in the last.
fn bin(score: f32) -> usize {
    ((score + 1.0) * BINS_PER_UNIT).clamp(0.0, (BINS - 1) as f32) as usize
}

/// The lowest bin from whose edge on no more than `allowed` expected probes find anybody.
fn lowest(curve: &[f64], allowed: f64) -> usize {
    // Sums of many probabilities miss their exact value by rounding.
    let (mut above, allowed) = (0.0, allowed * (1.0 + 1e-9));
    let mut lowest = BINS;
    for at in (0..BINS).rev() {
        above += curve[at];
        if above > allowed {
            break;
        }
        lowest = at;
    }
    lowest
}

/// The smallest score of a bin.
fn edge(bin_number: usize) -> f32 {
    let mut edge = bin_number as f32 / BINS_PER_UNIT - 1.0;
    // The division rounds; the edge must not belong to the bin below.
    while bin_number < BINS && bin(edge) < bin_number {
        edge = edge.next_up();
    }
    edge
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

    const DIM: usize = 8;

    /// Rows of `people` people, `each` of everybody: a direction of their own and, as large, one of the row.
    fn crowd(name: &str, people: usize, each: usize) -> (Matrix, Vec<i64>) {
        let own = contract::fill::fill(&format!("input.{name}.own"), &[people, DIM]);
        let rows = contract::fill::fill(&format!("input.{name}.rows"), &[people * each, DIM]);
        let row = |at: usize| (0..DIM).map(move |axis| (at / each * DIM + axis, at * DIM + axis));
        let values: Vec<f32> = (0..people * each).flat_map(row).map(|(person, at)| own[person] + rows[at]).collect();
        let values = contract::embedding::embed(&values, &[], DIM, 1);
        let labels = (0..people * each).map(|row| (row / each) as i64).collect();
        (Matrix::new(values, people * each, DIM).unwrap(), labels)
    }

    fn options(fpirs: &[f64], galleries: &[usize]) -> OpenSetOptions {
        OpenSetOptions { fpirs: fpirs.to_vec(), galleries: galleries.to_vec(), ..OpenSetOptions::default() }
    }

    #[test]
    fn a_case_worked_by_hand() {
        // Angles in degrees: three enrolled at 0, 60 and 120; a probe of the first at 20, of the second at 100.
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let rows: Vec<f32> = [0.0, 20.0, 60.0, 100.0, 120.0].iter().flat_map(|degrees| at(*degrees)).collect();
        let rows = Matrix::new(rows, 5, 2).unwrap();
        let labels = [1, 1, 2, 2, 3];
        // Strangers are at 40 and 100 degrees from the first probe, at 20 and 100 from the second. Each is half of the
        // galleries of one; at cos 30 degrees only the one at 20 is found, so 1 of 4 searches.
        let mut asked = options(&[0.25, 1.0], &[1, 2]);
        asked.resamples = 0;
        let report = evaluate(&rows, &labels, &asked).unwrap();
        assert_eq!((report.subjects, report.trials, report.mated, report.probes), (3, 2, 2, 2));
        let cos = |degrees: f32| degrees.to_radians().cos();
        let (one, two, all) = (&report.points[0], &report.points[1], &report.points[2]);
        assert!(one.similarity > cos(40.0) && one.similarity <= cos(40.0) + 1e-4, "{one:?}");
        assert_eq!((one.gallery, one.fpir), (1, 0.25));
        // Both have their own entry alone in the gallery: the first is found at 20 degrees, the second not at 40.
        assert_eq!(one.fnir, 0.5);
        // With two strangers, a quarter means none of the two probes; above cos 20 nobody is found, not even the first.
        assert_eq!((two.gallery, two.fpir, two.fnir), (2, 0.0, 1.0));
        assert!(two.similarity > cos(20.0) && two.similarity <= cos(20.0) + 1e-4, "{two:?}");
        // At FPIR 1 any threshold will do, and a miss is only a matter of rank: alone, nobody misses.
        assert_eq!((all.fpir, all.fnir, all.similarity), (1.0, 0.0, -1.0));
        // Among two, the second probe's own entry at 40 degrees comes after the one at 20 in half of the galleries.
        assert_eq!(report.points[3].fnir, 0.25);
    }

    /// Every gallery is really drawn, and the searches are counted.
    #[test]
    fn rates_are_those_of_all_galleries_one_by_one() {
        let (rows, labels) = crowd("open.enumerated", 7, 4);
        for (templates, fusion) in [(1, Fusion::Max), (2, Fusion::Max), (2, Fusion::Mean), (3, Fusion::Mean)] {
            let mut asked = options(&[0.5, 0.2, 0.05], &[1, 2, 3, 6]);
            (asked.templates, asked.fusion, asked.resamples) = (templates, fusion, 0);
            let report = evaluate(&rows, &labels, &asked).unwrap();
            for point in &report.points {
                assert!(point.fpir <= point.target * (1.0 + 1e-9), "{point:?}");
            }
            let of_points = report.points.iter().map(|of| (of.gallery, of.similarity, of.fpir, of.fnir));
            let of_curve = |curve: &OpenSetCurve| {
                let rates = |of: &Tradeoff| (curve.gallery, of.similarity, of.fpir, of.fnir);
                curve.points.iter().map(rates).collect::<Vec<_>>()
            };
            for (size, similarity, fpir, fnir) in of_points.chain(report.curves.iter().flat_map(of_curve)) {
                let score = |probe: usize, person: usize| {
                    let own =
                        (person * 4..person * 4 + templates).map(|row| crate::dot(rows.row(probe), rows.row(row)));
                    let own: Vec<f32> = own.collect();
                    match fusion {
                        Fusion::Max => own.iter().copied().fold(f32::MIN, f32::max),
                        Fusion::Mean => own.iter().sum::<f32>() / templates as f32,
                    }
                };
                let [mut positives, mut searches, mut misses, mut mated] = [0.0; 4];
                for person in 0..7 {
                    for probe in person * 4 + templates..person * 4 + 4 {
                        let found =
                            |gallery: u32, other: usize| gallery & 1 << other != 0 && score(probe, other) >= similarity;
                        for gallery in (0_u32..1 << 7).filter(|gallery| gallery.count_ones() as usize == size) {
                            if gallery & 1 << person == 0 {
                                searches += 1.0;
                                positives += f64::from((0..7).any(|other| found(gallery, other)));
                            }
                            if gallery & 1 << person != 0 {
                                let best = |other: usize| {
                                    gallery & 1 << other != 0
                                        && other != person
                                        && score(probe, other) >= score(probe, person)
                                };
                                mated += 1.0;
                                misses += f64::from(!found(gallery, person) || (0..7).any(best));
                            }
                        }
                    }
                }
                let seen = (positives / searches, misses / mated);
                let apart = (fpir - seen.0).abs().max((fnir - seen.1).abs());
                assert!(apart < 1e-9, "{size} people, {similarity}: {fpir} {fnir}, not {seen:?}");
            }
        }
    }

    /// What a threshold is for: people that it was not measured on, in galleries of other people, find somebody about
    /// as often as asked.
    #[test]
    fn the_rate_holds_for_other_people() {
        let people = 1500;
        let (rows, labels) = crowd("open.calibration", people, 2);
        let sizes = [100, 1000];
        for (templates, fusion) in [(1, Fusion::Max), (3, Fusion::Max), (3, Fusion::Mean)] {
            let (rows, labels) = match templates {
                1 => (rows.clone(), labels.clone()),
                _ => crowd("open.calibration", people, templates + 1),
            };
            let mut asked = options(&[0.1, 0.03], &sizes);
            (asked.templates, asked.fusion) = (templates, fusion);
            let report = evaluate(&rows, &labels, &asked).unwrap();
            let (enrolled, _) = crowd("open.enrolled", 1000, templates);
            let (strangers, _) = crowd("open.strangers", 1500, 1);
            for point in &report.points {
                let finds = |stranger: usize| {
                    (0..point.gallery).any(|person| {
                        let own = (person * templates..(person + 1) * templates)
                            .map(|row| crate::dot(strangers.row(stranger), enrolled.row(row)));
                        fusion.fuse(own).unwrap() >= point.similarity
                    })
                };
                let rate = (0..1500).filter(|stranger| finds(*stranger)).count() as f64 / 1500.0;
                let ratio = rate / point.target;
                assert!(
                    (0.5..2.0).contains(&ratio),
                    "{templates} {fusion:?} N {}: {rate} for {}",
                    point.gallery,
                    point.target
                );
            }
        }
    }

    /// From a threshold that finds somebody for everybody to the strictest one that so many people can show.
    #[test]
    fn curves_go_down_to_what_the_people_can_show() {
        let (rows, labels) = crowd("open.curves", 60, 3);
        let report = evaluate(&rows, &labels, &options(&[0.1], &[1, 10, 59])).unwrap();
        assert_eq!(report.curves.iter().map(|curve| curve.gallery).collect::<Vec<_>>(), [1, 10, 59]);
        for OpenSetCurve { gallery, points } in &report.curves {
            let [first, .., last] = points.as_slice() else { panic!("{points:?}") };
            let least = 10_f64.powf(0.125) / 60.0;
            assert!(first.fpir > 1.0 - 1e-9 && last.fpir <= least, "{gallery}: {first:?} {last:?}");
            for pair in points.windows(2) {
                assert!(pair[0].similarity < pair[1].similarity, "{pair:?}");
                assert!(pair[0].fpir > pair[1].fpir && pair[0].fnir <= pair[1].fnir, "{pair:?}");
            }
            let asked = report.points.iter().find(|point| point.gallery == *gallery).unwrap();
            let drawn = points.iter().find(|point| point.similarity == asked.similarity).unwrap();
            let apart = (drawn.fpir - asked.fpir).abs().max((drawn.fnir - asked.fnir).abs());
            assert!(apart < 1e-9, "one threshold has one price: {drawn:?} {asked:?}");
        }
    }

    #[test]
    fn more_subjects_and_more_templates_need_a_stricter_threshold() {
        let (rows, labels) = crowd("open.order", 60, 5);
        let similarity = |gallery: usize, templates: usize| {
            let asked = OpenSetOptions { templates, resamples: 0, ..options(&[0.1], &[gallery]) };
            evaluate(&rows, &labels, &asked).unwrap().points[0].similarity
        };
        assert!(similarity(1, 1) < similarity(10, 1) && similarity(10, 1) < similarity(50, 1));
        assert!(similarity(10, 1) < similarity(10, 4));
    }

    #[test]
    fn claims_beyond_the_data_are_refused_or_marked() {
        let (rows, labels) = crowd("open.refused", 20, 2);
        let refused = |asked: OpenSetOptions| evaluate(&rows, &labels, &asked).unwrap_err();
        assert_eq!(refused(options(&[0.1], &[20])), MetricsError::Gallery { gallery: 20, subjects: 20 });
        assert_eq!(
            refused(options(&[0.1], &[20])).to_string(),
            "a gallery of 20 subjects cannot be measured on 20 enrolled people; 1 to 19 can, and 20 need 21"
        );
        assert_eq!(refused(options(&[0.1], &[0])), MetricsError::Gallery { gallery: 0, subjects: 20 });
        assert!(matches!(refused(options(&[0.0], &[5])), MetricsError::Parameter { name: "FPIR", .. }));
        let none = OpenSetOptions { templates: 2, ..options(&[0.1], &[5]) };
        assert!(matches!(refused(none), MetricsError::Empty { .. }));
        let report = evaluate(&rows, &labels, &options(&[0.1, 0.05, 0.04], &[5])).unwrap();
        assert_eq!(report.points.iter().map(|point| point.below_resolution).collect::<Vec<_>>(), [false, false, true]);
        // Nobody of 20 people was found: the rate may still be 17 %.
        let strict = &report.points[2];
        assert!(strict.fpir_interval.unwrap().high >= crate::verification::unseen(20), "{strict:?}");
    }

    #[test]
    fn sizes_grow_by_the_root_of_two_up_to_the_last() {
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(30), [1, 2, 3, 5, 8, 12, 17, 25, 30]);
        assert!(sizes(100_000).windows(2).all(|pair| pair[1] <= 2 * pair[0]), "never twice as strict as necessary");
    }

    #[test]
    fn distractors_and_people_with_too_few_rows_are_strangers() {
        let (rows, mut labels) = crowd("open.distractors", 12, 3);
        // The last two people: three distractors, and three people of one row each.
        labels[30..33].fill(-5);
        labels[33..36].copy_from_slice(&[100, 101, 102]);
        let asked = OpenSetOptions { templates: 2, distractor: Some(-5), ..options(&[0.5], &[9]) };
        let report = evaluate(&rows, &labels, &asked).unwrap();
        assert_eq!((report.subjects, report.mated, report.probes, report.trials), (10, 10, 16, 16));
        assert_eq!(subjects(&labels, 2, Some(-5)), report.subjects);
    }
}
