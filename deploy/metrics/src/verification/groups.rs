//! Which rows are compared with which.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::Rows;

/// Which pairs of two identities count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Impostors {
    /// Every pair of rows of two identities.
    #[default]
    Exhaustive,
    /// Of each identity's first `samples` rows with those of the next `identities` identities, in order of first
    /// appearance and without wrapping around.
    Neighbours {
        /// M, how many identities follow.
        identities: usize,
        /// k, how many rows of each.
        samples: usize,
    },
}

/// Rows that are taken through the comparisons together: few enough that their products with all others stay in the
/// cache.
const UNIT: usize = 32;

/// Rows of one group, [`UNIT`] at most.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) group: usize,
    pub(super) places: Range<usize>,
}

/// Embeddings sorted by whose they are. A group is a person, or one distractor: a row that is nobody's in particular.
/// Groups and the rows of one keep the order of their first appearance. A *place* is a row's number in this order.
pub(super) struct Groups<'a> {
    values: Cow<'a, [f32]>,
    cols: usize,
    /// Number of the row at each place, as the caller counts.
    pub(super) row_at: Vec<usize>,
    /// Group of each place.
    pub(super) group_at: Vec<u32>,
    /// First place of each group, and behind the last one the number of places.
    starts: Vec<usize>,
    /// Whether each group is a distractor.
    pub(super) distractor: Vec<bool>,
}

impl<'a> Groups<'a> {
    /// Groups rows by label, which need not be contiguous; each row labelled `distractor` is a group of its own.
    pub(super) fn of(embeddings: Rows<'a>, labels: &[i64], distractor: Option<i64>) -> Self {
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
    pub(super) fn len(&self) -> usize {
        self.distractor.len()
    }

    /// Places of a group.
    pub(super) fn places(&self, group: usize) -> Range<usize> {
        self.starts[group]..self.starts[group + 1]
    }

    /// Embeddings of some places.
    pub(super) fn rows(&self, places: Range<usize>) -> Rows<'_> {
        let (cols, all) = (self.cols, self.row_at.len());
        Rows::new(&self.values, all, cols).map_or_else(|_| unreachable!("whole rows"), |rows| rows.slice(places))
    }

    /// All places, cut into units.
    pub(super) fn units(&self) -> Vec<Unit> {
        let units = |group: usize| {
            let places = self.places(group);
            places.clone().step_by(UNIT).map(move |first| Unit { group, places: first..places.end.min(first + UNIT) })
        };
        (0..self.len()).flat_map(units).collect()
    }

    /// Persons.
    pub(super) fn persons(&self) -> usize {
        self.distractor.iter().filter(|nobody| !**nobody).count()
    }

    /// Pairs of two rows of one person.
    pub(super) fn genuine(&self) -> u64 {
        (0..self.len()).map(|group| self.places(group).len() as u64).map(|rows| rows * (rows - 1) / 2).sum()
    }

    /// Groups whose rows are compared with those of `group` and come after it: all whose pairs with it are counted.
    fn reach(&self, group: usize, impostors: Impostors) -> Range<usize> {
        let reach = match impostors {
            Impostors::Exhaustive => self.len(),
            Impostors::Neighbours { identities, .. } => identities,
        };
        group + 1..self.len().min((group + 1).saturating_add(reach))
    }

    /// The first rows of each group that count as impostors.
    pub(super) fn samples(impostors: Impostors) -> usize {
        match impostors {
            Impostors::Exhaustive => usize::MAX,
            Impostors::Neighbours { samples, .. } => samples,
        }
    }

    /// Whether rows of two groups, the second after the first, are impostor pairs. Two distractors may be the same
    /// person.
    pub(super) fn are_impostors(&self, [first, second]: [usize; 2], impostors: Impostors) -> bool {
        self.reach(first, impostors).contains(&second) && !(self.distractor[first] && self.distractor[second])
    }

    /// Impostor pairs: of groups, and of rows.
    pub(super) fn impostors(&self, impostors: Impostors) -> [u64; 2] {
        let samples = Self::samples(impostors);
        let sizes: Vec<u64> = (0..self.len()).map(|group| self.places(group).len().min(samples) as u64).collect();
        // Sums up to each group, so that a group's partners need no loop: of all groups, and of distractors alone.
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
                        let [a, b] = [first, second].map(|group| groups.places(group).len().min(samples) as u64);
                        counted = [counted[0] + 1, counted[1] + a * b];
                    }
                }
            }
            assert_eq!(groups.impostors(impostors), counted, "{distractor:?} {impostors:?}");
        }
        let groups = groups(&labels, Some(0));
        assert_eq!((groups.len(), groups.persons(), groups.genuine()), (5, 3, 3 + 1));
        assert_eq!(groups.row_at, [0, 2, 7, 1, 4, 3, 5, 6]);
        // Seven of the other five rows with each, less the pair of distractors.
        assert_eq!(groups.impostors(Impostors::Exhaustive), [10 - 1, 8 * 7 / 2 - 4 - 1]);
    }
}
