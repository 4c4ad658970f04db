//! Which rows are compared with which.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

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

/// Rows of each identity, in order of first appearance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// Rows of each identity, ascending.
    pub rows: Vec<Vec<usize>>,
}

impl Groups {
    /// Groups rows by label; labels need not be contiguous.
    pub fn of(labels: &[i64]) -> Self {
        let (mut numbers, mut rows) = (HashMap::new(), Vec::<Vec<usize>>::new());
        for (row, label) in labels.iter().enumerate() {
            let number = *numbers.entry(*label).or_insert(rows.len());
            if number == rows.len() {
                rows.push(Vec::new());
            }
            rows[number].push(row);
        }
        Self { rows }
    }

    /// All pairs within an identity: `[left row, right row]` and the identity's number twice.
    pub fn genuine(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (identity, rows) in self.rows.iter().enumerate() {
            for (at, left) in rows.iter().enumerate() {
                pairs.extend(
                    rows[at + 1..].iter().map(|right| Pair { rows: [*left, *right], identities: [identity as u32; 2] }),
                );
            }
        }
        pairs
    }

    /// Pairs of two identities.
    pub fn impostors(&self, impostors: Impostors) -> Vec<Pair> {
        let (reach, samples) = match impostors {
            Impostors::Exhaustive => (usize::MAX, usize::MAX),
            Impostors::Neighbours { identities, samples } => (identities, samples),
        };
        let mut pairs = Vec::new();
        for (left, rows) in self.rows.iter().enumerate() {
            for (right, others) in self.rows.iter().enumerate().skip(left + 1).take(reach) {
                for a in rows.iter().take(samples) {
                    let identities = [left as u32, right as u32];
                    pairs.extend(others.iter().take(samples).map(|b| Pair { rows: [*a, *b], identities }));
                }
            }
        }
        pairs
    }
}

/// Two rows to compare, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Rows of the embeddings.
    pub rows: [usize; 2],
    /// Numbers of the identities in [`Groups`].
    pub identities: [u32; 2],
}
