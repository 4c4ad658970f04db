//! The curves of bootstrap samples: every pair is counted in all of them at once.

use super::Roc;
use super::groups::Groups;
use super::keys::Sorted;
use crate::MetricsError;
use crate::bootstrap::Resampling;

/// Results of one bootstrap sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Equal error rate.
    pub eer: f64,
    /// Area under the curve.
    pub auc: f64,
    /// True accept rate at each false accept rate in the options.
    pub tar: Vec<f64>,
    /// Rank-1 rate; 0 without identification.
    pub rank1: f64,
}

/// How often each group occurs in each sample, and the similarities (edges) at which the samples' curves are measured.
///
/// The curve of a sample is exact at genuine similarities, because between two neighbouring ones only impostors are
/// counted. With many genuine pairs, not all are edges: all of the lowest 128 are; above, neighbouring edges are 1/50
/// of their rank apart, at most 1/512 of all, and the curve between them is interpolated linearly.
pub(super) struct Draws {
    /// Counts, `[group][sample]`.
    times: Vec<u32>,
    samples: usize,
    edges: Sorted,
    /// Largest count that one row can add to a bin of a sample.
    heaviest: u64,
}

impl Draws {
    /// Draws samples, each of as many groups as there are.
    pub(super) fn new(groups: &Groups<'_>, genuine: &Sorted, resampling: Resampling) -> Option<Self> {
        let samples = resampling.samples;
        if samples == 0 {
            return None;
        }
        let count = groups.len();
        let mut times = vec![0_u32; count * samples];
        for sample in 0..samples {
            resampling.groups(sample, count).for_each(|group| times[group * samples + sample] += 1);
        }
        let mut rows = vec![0_u64; samples];
        for group in 0..count {
            let size = groups.indices(group).len() as u64;
            rows.iter_mut().zip(&times[group * samples..]).for_each(|(rows, times)| *rows += u64::from(*times) * size);
        }
        let heaviest = rows.into_iter().max().unwrap_or(0);
        Some(Self { times, samples, edges: Sorted::new(edges(genuine.keys())), heaviest })
    }

    /// The same samples, counted at these edges, ascending and distinct.
    pub(super) fn at(&self, edges: Vec<u32>) -> Self {
        Self { times: self.times.clone(), edges: Sorted::new(edges), ..*self }
    }

    /// For each edge, the share of the impostor pairs that are at least as similar, in every sample that has any.
    pub(super) fn accepted(&self, drawing: &Drawing) -> Vec<Vec<f64>> {
        let above = |first: usize, sample: usize| -> u64 {
            (first..self.bins()).map(|bin| drawing.counts[0][bin * self.samples + sample]).sum()
        };
        let share = |first: usize, sample: usize| match above(0, sample) {
            0 => None,
            all => Some(above(first, sample) as f64 / all as f64),
        };
        // Similarities equal to an edge have a bin of their own.
        let of_edge = |edge: usize| (0..self.samples).filter_map(|sample| share(2 * edge + 1, sample)).collect();
        (0..self.edges.keys().len()).map(of_edge).collect()
    }

    fn of(&self, group: usize) -> &[u32] {
        &self.times[group * self.samples..][..self.samples]
    }

    /// How often a sample contains a group.
    #[cfg(test)]
    pub(super) fn times(&self, group: usize, sample: usize) -> u32 {
        self.of(group)[sample]
    }

    /// Number of bins: one between any two edges and one on each side.
    fn bins(&self) -> usize {
        2 * self.edges.keys().len() + 1
    }

    fn bin(&self, key: u32) -> usize {
        let [below, upto] = self.edges.rank(key);
        below + upto
    }

    /// A count of nothing yet.
    pub(super) fn tally(&self) -> Tally<'_> {
        let (bins, cells) = (self.bins(), self.bins() * self.samples);
        Tally {
            draws: self,
            row: vec![0; cells],
            touched: vec![false; bins],
            pending: 0,
            own: vec![0; bins],
            counts: [vec![0; cells], vec![0; cells]],
        }
    }

    /// Measures every sample that has something to measure. `rights` holds, for each group, the number of probes that
    /// are right at rank 1, and the number of all its probes.
    pub(super) fn measure(
        &self,
        drawing: &Drawing,
        rights: Option<&[[u32; 2]]>,
        fars: &[f64],
    ) -> Result<Vec<Drawn>, MetricsError> {
        let mut drawn = Vec::with_capacity(self.samples);
        for sample in 0..self.samples {
            let at = |bin: usize| drawing.counts.each_ref().map(|counts| counts[bin * self.samples + sample]);
            let roc = Roc::weighted((0..self.bins()).rev().map(|bin| (bin as f32, at(bin))));
            // A sample of a single identity, or of identities without a second row, measures nothing.
            if roc.genuine == 0 || roc.impostor == 0 {
                continue;
            }
            let (mut right, mut probes) = (0, 0);
            for (group, counts) in rights.iter().flat_map(|rights| rights.iter()).enumerate() {
                let times = u64::from(self.of(group)[sample]);
                right += times * u64::from(counts[0]);
                probes += times * u64::from(counts[1]);
            }
            let tar = fars.iter().map(|far| roc.tar_at_far(*far).map(|point| point.tar)).collect::<Result<_, _>>()?;
            let rank1 = right as f64 / probes.max(1) as f64;
            drawn.push(Drawn { eer: roc.eer().rate, auc: roc.auc(), tar, rank1 });
        }
        Ok(drawn)
    }
}

/// Keys of `sorted` at which curves are measured, ascending and distinct.
fn edges(sorted: &[u32]) -> Vec<u32> {
    let mut edges = Vec::new();
    let mut at = 0;
    while at < sorted.len() {
        if edges.last() != Some(&sorted[at]) {
            edges.push(sorted[at]);
        }
        at += if at < 128 { 1 } else { (at / 50).min((sorted.len() / 512).max(1)) };
    }
    edges
}

/// Pairs in each bin of each sample: impostors and genuine ones.
pub(super) struct Drawing {
    counts: [Vec<u64>; 2],
}

/// Counts of one worker thread.
pub(super) struct Tally<'a> {
    draws: &'a Draws,
    /// Impostor pairs of the rows since the last [`flush`](Self::flush), weighted only by the counts of the other side.
    row: Vec<u32>,
    touched: Vec<bool>,
    pending: u64,
    /// Genuine pairs of the unit in each bin.
    own: Vec<u64>,
    counts: [Vec<u64>; 2],
}

impl Tally<'_> {
    /// Counts a pair of the unit's group with another group.
    pub(super) fn impostor(&mut self, key: u32, other: usize) {
        let bin = self.draws.bin(key);
        self.touched[bin] = true;
        let cells = &mut self.row[bin * self.draws.samples..][..self.draws.samples];
        cells.iter_mut().zip(self.draws.of(other)).for_each(|(sum, times)| *sum += times);
    }

    /// Counts a pair inside the unit's group.
    pub(super) fn genuine(&mut self, key: u32) {
        self.own[self.draws.bin(key)] += 1;
    }

    /// Ends the current row of `group`.
    pub(super) fn row_done(&mut self, group: usize) {
        self.pending += self.draws.heaviest;
        if self.pending + self.draws.heaviest > u64::from(u32::MAX) {
            self.flush(group);
        }
    }

    /// Ends the current unit of `group`.
    pub(super) fn unit_done(&mut self, group: usize) {
        self.flush(group);
        let (samples, times) = (self.draws.samples, self.draws.of(group));
        for (bin, count) in self.own.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            let cells = &mut self.counts[1][bin * samples..][..samples];
            cells.iter_mut().zip(times).for_each(|(sum, times)| *sum += *count * u64::from(*times));
            *count = 0;
        }
    }

    /// Also applies the weights of `group` to the pairs counted so far.
    fn flush(&mut self, group: usize) {
        let (samples, times) = (self.draws.samples, self.draws.of(group));
        for (bin, touched) in self.touched.iter_mut().enumerate().filter(|(_, touched)| **touched) {
            let row = &mut self.row[bin * samples..][..samples];
            let cells = &mut self.counts[0][bin * samples..][..samples];
            for ((sum, row), times) in cells.iter_mut().zip(row).zip(times) {
                *sum += u64::from(*row) * u64::from(*times);
                *row = 0;
            }
            *touched = false;
        }
        self.pending = 0;
    }

    /// Adds the counts of another worker.
    pub(super) fn add(&mut self, other: Self) {
        for (counts, more) in self.counts.iter_mut().zip(other.counts) {
            counts.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }

    /// The counts of all units.
    pub(super) fn finish(self) -> Drawing {
        Drawing { counts: self.counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_dense_where_errors_are() {
        let sorted: Vec<u32> = (0..100_000).collect();
        let edges = edges(&sorted);
        assert_eq!(edges[..128], sorted[..128]);
        assert!(edges.len() < 1000, "{}", edges.len());
        assert!(edges.windows(2).all(|pair| pair[1] - pair[0] <= (pair[0] / 50).clamp(1, 195)));
        assert_eq!(super::edges(&[4, 4, 4, 9]), [4, 9]);
    }
}
