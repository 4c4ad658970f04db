//! Decides which rows are compared with which.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::Rows;

/// Which pairs of different identities count as impostor pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Impostors {
    /// Every pair of rows of two identities.
    #[default]
    Exhaustive,
    /// Only each identity's first `samples` rows, with those of the next `identities` identities in order of first
    /// appearance, without wrapping around.
    Neighbours {
        /// M, the number of following identities.
        identities: usize,
        /// k, the number of rows of each.
        samples: usize,
    },
}

/// Rows that are compared together: few enough that their products with all other rows stay in the cache.
const UNIT: usize = 32;

/// Up to [`UNIT`] rows of one group.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) group: usize,
    pub(crate) indices: Range<usize>,
}

/// Embeddings sorted by group. A group is a person, or a single distractor (a row that belongs to none of the persons).
/// Groups, and rows inside a group, are in order of first appearance; an *index* here is a row's index in this order.
pub(crate) struct Groups<'a> {
    values: Cow<'a, [f32]>,
    cols: usize,
    /// The caller's row number, by index.
    pub(crate) row_at: Vec<usize>,
    /// Group, by index.
    pub(crate) group_at: Vec<u32>,
    /// First index of each group, followed by the number of rows.
    starts: Vec<usize>,
    /// Whether a group is a distractor.
    pub(crate) distractor: Vec<bool>,
}

impl<'a> Groups<'a> {
    /// Groups rows by label; equal labels need not be adjacent. Each row labelled `distractor` is its own group.
    pub(crate) fn of(embeddings: Rows<'a>, labels: &[i64], distractor: Option<i64>) -> Self {
        let mut numbers = HashMap::new();
        let (mut groups, mut kinds) = (Vec::<Vec<usize>>::new(), Vec::new());
        for (row, label) in labels.iter().enumerate() {
            let nobody = distractor == Some(*label);
            let number = if nobody { groups.len() } else { *numbers.entry(*label).or_insert(groups.len()) };
            if number == groups.len() {
                groups.push(Vec::new());
                kinds.push(nobody);
            }
            groups[number].push(row);
        }
        let mut starts = vec![0];
        let mut group_at = Vec::with_capacity(labels.len());
        for (number, rows) in groups.iter().enumerate() {
            group_at.extend(std::iter::repeat_n(number as u32, rows.len()));
            starts.push(group_at.len());
        }
        let row_at = groups.concat();
        let sorted = row_at.is_sorted();
        let values = match sorted {
            true => Cow::Borrowed(embeddings.data()),
            false => row_at.iter().flat_map(|row| embeddings.row(*row)).copied().collect(),
        };
        Self { values, cols: embeddings.cols(), row_at, group_at, starts, distractor: kinds }
    }

    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.distractor.len()
    }

    /// Indices of a group's rows.
    pub(crate) fn indices(&self, group: usize) -> Range<usize> {
        self.starts[group]..self.starts[group + 1]
    }

    /// Embeddings of a range of indices.
    pub(crate) fn rows(&self, indices: Range<usize>) -> Rows<'_> {
        let (cols, all) = (self.cols, self.row_at.len());
        Rows::new(&self.values, all, cols).map_or_else(|_| unreachable!("whole rows"), |rows| rows.slice(indices))
    }

    /// All rows, split into units.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let units = |group: usize| {
            let indices = self.indices(group);
            indices
                .clone()
                .step_by(UNIT)
                .map(move |first| Unit { group, indices: first..indices.end.min(first + UNIT) })
        };
        (0..self.len()).flat_map(units).collect()
    }

    /// Number of persons.
    pub(crate) fn persons(&self) -> usize {
        self.distractor.iter().filter(|nobody| !**nobody).count()
    }

    /// Number of pairs of two rows of one person.
    pub(crate) fn genuine(&self) -> u64 {
        (0..self.len()).map(|group| self.indices(group).len() as u64).map(|rows| rows * (rows - 1) / 2).sum()
    }

    /// The groups after `group` that its rows are compared with: all that count in any way.
    fn reach(&self, group: usize, impostors: Impostors) -> Range<usize> {
        let reach = match impostors {
            Impostors::Exhaustive => self.len(),
            Impostors::Neighbours { identities, .. } => identities,
        };
        group + 1..self.len().min((group + 1).saturating_add(reach))
    }

    /// How many first rows of each group count in impostor pairs.
    pub(crate) fn samples(impostors: Impostors) -> usize {
        match impostors {
            Impostors::Exhaustive => usize::MAX,
            Impostors::Neighbours { samples, .. } => samples,
        }
    }

    /// Whether rows of two groups, where `second` comes after `first`, are impostor pairs. Two distractors are not,
    /// since they may be the same person.
    pub(crate) fn are_impostors(&self, [first, second]: [usize; 2], impostors: Impostors) -> bool {
        self.reach(first, impostors).contains(&second) && !(self.distractor[first] && self.distractor[second])
    }

    /// Number of impostor pairs: of groups, and of rows.
    pub(crate) fn impostors(&self, impostors: Impostors) -> [u64; 2] {
        let samples = Self::samples(impostors);
        let sizes: Vec<u64> = (0..self.len()).map(|group| self.indices(group).len().min(samples) as u64).collect();
        // Cumulative sums over all groups and over distractors alone, so that no loop over partners is needed.
        let sums = |of: &dyn Fn(usize) -> [u64; 2]| {
            let mut sum = [0, 0];
            let mut sums = vec![sum];
            for group in 0..self.len() {
                let [count, rows] = of(group);
                sum = [sum[0] + count, sum[1] + rows];
                sums.push(sum);
            }
            sums
        };
        let all = sums(&|group| [1, sizes[group]]);
        let nobody = sums(&|group| if self.distractor[group] { [1, sizes[group]] } else { [0, 0] });
        let mut found = [0, 0];
        for (group, size) in sizes.iter().enumerate() {
            let reach = self.reach(group, impostors);
            for (kind, factor) in [1, *size].into_iter().enumerate() {
                let of = |sums: &[[u64; 2]]| sums[reach.end.max(reach.start)][kind] - sums[reach.start][kind];
                let excluded = if self.distractor[group] { of(&nobody) } else { 0 };
                found[kind] += factor * (of(&all) - excluded);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(labels: &[i64], distractor: Option<i64>) -> Groups<'static> {
        static ROWS: [f32; 16] = [0.5; 16];
        Groups::of(Rows::new(&ROWS[..labels.len()], labels.len(), 1).unwrap(), labels, distractor)
    }

    #[test]
    fn pairs_are_counted_as_they_are_compared() {
        let labels = [7, 3, 7, 0, 3, 9, 0, 7];
        let kinds = [Impostors::Exhaustive, Impostors::Neighbours { identities: 1, samples: 2 }];
        for (distractor, impostors) in [None, Some(0)].into_iter().flat_map(|d| kinds.map(|kind| (d, kind))) {
            let groups = groups(&labels, distractor);
            let mut counted = [0, 0];
            for first in 0..groups.len() {
                for second in first + 1..groups.len() {
                    if groups.are_impostors([first, second], impostors) {
                        let samples = Groups::samples(impostors);
                        let [a, b] = [first, second].map(|group| groups.indices(group).len().min(samples) as u64);
                        counted = [counted[0] + 1, counted[1] + a * b];
                    }
                }
            }
            assert_eq!(groups.impostors(impostors), counted, "{distractor:?} {impostors:?}");
        }
        let groups = groups(&labels, Some(0));
        assert_eq!((groups.len(), groups.persons(), groups.genuine()), (5, 3, 3 + 1));
        assert_eq!(groups.row_at, [0, 2, 7, 1, 4, 3, 5, 6]);
        // All pairs of the 5 groups, and of the 8 rows, without the 4 genuine pairs and the pair of distractors.
        assert_eq!(groups.impostors(Impostors::Exhaustive), [10 - 1, 8 * 7 / 2 - 4 - 1]);
    }
}
