//! Rows by class, and the one that takes the place of a row that cannot be read.

use std::collections::{BTreeMap, BTreeSet};

/// The class of each row, and the rows of each class.
#[derive(Debug)]
pub(crate) struct Classes {
    of_row: Vec<i64>,
    rows: BTreeMap<i64, Vec<usize>>,
}

impl Classes {
    /// Rows whose classes are given.
    pub fn new(of_row: Vec<i64>) -> Self {
        let mut rows = BTreeMap::<i64, Vec<usize>>::new();
        for (row, class) in of_row.iter().enumerate() {
            rows.entry(*class).or_default().push(row);
        }
        Self { of_row, rows }
    }

    /// The class of each row.
    pub fn of_row(&self) -> &[i64] {
        &self.of_row
    }

    /// Another row of the same class that `read` can read, and what it gives: the next one in order that is not
    /// `taken`, or else the next one.
    pub fn instead_of<T>(
        &self,
        row: usize,
        taken: &BTreeSet<usize>,
        read: impl Fn(usize) -> Option<T>,
    ) -> Option<(usize, T)> {
        let class = &self.rows[&self.of_row[row]];
        let at = class.partition_point(|one| *one <= row);
        let others = || class[at..].iter().chain(&class[..at]).copied().filter(|one| *one != row);
        let readable = |one| Some((one, read(one)?));
        others().filter(|one| !taken.contains(one)).find_map(readable).or_else(|| others().find_map(readable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_of_the_class_takes_over_and_one_that_is_taken_only_at_last() {
        let classes = Classes::new(vec![7, 7, 3, 7, 3]);
        let instead = |row, taken: &[usize], broken: &[usize]| {
            let read = |one: usize| (!broken.contains(&one)).then_some(one * 10);
            classes.instead_of(row, &taken.iter().copied().collect(), read)
        };
        assert_eq!(instead(0, &[], &[]), Some((1, 10)));
        assert_eq!(instead(1, &[], &[]), Some((3, 30)), "round in a circle");
        assert_eq!(instead(3, &[0], &[]), Some((1, 10)));
        assert_eq!(instead(0, &[1], &[3]), Some((1, 10)), "better one twice than none");
        assert_eq!(instead(2, &[], &[4]), None, "never of another class");
        assert_eq!(classes.of_row(), [7, 7, 3, 7, 3]);
    }
}
