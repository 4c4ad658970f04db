use std::cmp::Ordering;

/// A row, about how similar it is, and by how much that may be off: by nothing where it is the similarity that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) similarity: f32,
    pub(super) error: f32,
    pub(super) part: u32,
    pub(super) row: u32,
}

impl Candidate {
    pub(super) fn place(&self) -> (u32, u32) {
        (self.part, self.row)
    }

    /// Best first, equal ones by their place. Similarities are finite.
    pub(super) fn best_first(&self, other: &Self) -> Ordering {
        // `+ 0.0` makes one zero of two, which `total_cmp` tells apart.
        (other.similarity + 0.0).total_cmp(&(self.similarity + 0.0)).then(self.place().cmp(&other.place()))
    }

    /// It is not less similar than this.
    fn least(&self) -> f32 {
        if self.error == 0.0 { self.similarity } else { (self.similarity - self.error).next_down() }
    }

    /// It is not more similar than this.
    fn most(&self) -> f32 {
        if self.error == 0.0 { self.similarity } else { (self.similarity + self.error).next_up() }
    }
}

/// How candidates are looked at more closely.
pub(super) struct Closer<'a, E> {
    /// A similarity that is off by at most `error`.
    pub(super) about: &'a dyn Fn((u32, u32)) -> Result<f32, E>,
    pub(super) error: f32,
    /// The similarity that counts.
    pub(super) exact: &'a dyn Fn((u32, u32)) -> Result<f32, E>,
}

/// The candidates for the `k` rows nearest to a probe. Every row that may be one of the `k` nearest stays until the
/// exact similarities decide.
#[derive(Debug, Clone)]
pub(super) struct Best {
    k: usize,
    /// Most candidates that are kept.
    limit: usize,
    /// Candidates at which they are looked through next.
    look: usize,
    /// Rows that cannot be this similar are none of the `k` nearest.
    pub(super) floor: f32,
    candidates: Vec<Candidate>,
}

impl Best {
    /// `room`: candidates for each of the `k` that are kept before exact similarities thin them out. The larger the
    /// errors the more are worth it.
    pub(super) fn new(k: usize, room: usize, min_similarity: Option<f32>) -> Self {
        let floor = min_similarity.unwrap_or(f32::NEG_INFINITY);
        Self { k, limit: k.saturating_mul(room).max(32 * room), look: k, floor, candidates: Vec::new() }
    }

    /// Takes a row that may reach the floor.
    pub(super) fn offer<E>(&mut self, candidate: Candidate, closer: &Closer<'_, E>) -> Result<(), E> {
        if candidate.most() >= self.floor {
            self.candidates.push(candidate);
            if self.candidates.len() >= self.look {
                self.thin_out(closer)?;
            }
        }
        Ok(())
    }

    fn thin_out<E>(&mut self, closer: &Closer<'_, E>) -> Result<(), E> {
        self.raise_floor();
        if self.candidates.len() > self.limit / 2 {
            self.refine(closer)?;
        }
        // Rows that cannot be told apart, equal pictures for example: only the exact similarities thin them out.
        if self.candidates.len() > self.limit / 2 {
            self.decide(closer)?;
        }
        // Soon at first, since every row passes until `k` are known, and never for a few more only.
        self.look = (self.candidates.len() + self.candidates.len() / 2).max(self.k + 8);
        Ok(())
    }

    /// Looks at those more closely that may be off by more than that.
    fn refine<E>(&mut self, closer: &Closer<'_, E>) -> Result<(), E> {
        let mut coarse: Vec<Candidate> =
            self.candidates.extract_if(.., |candidate| candidate.error > closer.error).collect();
        // The best first: they raise the floor for the others.
        coarse.sort_unstable_by(|a, b| b.most().total_cmp(&a.most()));
        for some in coarse.chunks(self.k.max(8)) {
            for candidate in some.iter().filter(|candidate| candidate.most() >= self.floor) {
                let similarity = (closer.about)(candidate.place())?;
                self.candidates.push(Candidate { similarity, error: closer.error, ..*candidate });
            }
            self.raise_floor();
        }
        Ok(())
    }

    /// Drops those that `k` others beat, whatever the errors are.
    fn raise_floor(&mut self) {
        if self.candidates.len() >= self.k && self.k > 0 {
            let by_least = |a: &Candidate, b: &Candidate| b.least().total_cmp(&a.least());
            let (_, last, _) = self.candidates.select_nth_unstable_by(self.k - 1, by_least);
            self.floor = self.floor.max(last.least());
        }
        let floor = self.floor;
        self.candidates.retain(|candidate| candidate.most() >= floor);
    }

    /// Keeps the `k` best by their exact similarities, in order.
    fn decide<E>(&mut self, closer: &Closer<'_, E>) -> Result<(), E> {
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.error != 0.0) {
            candidate.similarity = (closer.exact)(candidate.place())?;
            candidate.error = 0.0;
        }
        self.candidates.sort_unstable_by(Candidate::best_first);
        self.candidates.truncate(self.k);
        if let Some(last) = self.candidates.last().filter(|_| self.candidates.len() == self.k) {
            self.floor = self.floor.max(last.similarity);
        }
        Ok(())
    }

    /// The `k` nearest with their exact similarities, best first.
    pub(super) fn finish<E>(
        mut self,
        min_similarity: Option<f32>,
        closer: &Closer<'_, E>,
    ) -> Result<Vec<Candidate>, E> {
        self.raise_floor();
        self.refine(closer)?;
        self.decide(closer)?;
        self.candidates.retain(|candidate| min_similarity.is_none_or(|min| candidate.similarity >= min));
        Ok(self.candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Never = std::convert::Infallible;

    /// Exact similarities of rows, offered with errors of either sign.
    fn run(exact: &[f32], error: f32, k: usize, min: Option<f32>) -> Vec<usize> {
        let offered = |at: usize| exact[at] + error * (at as f32 * 1.7).sin();
        let offered: Vec<f32> = (0..exact.len()).map(offered).collect();
        let truth = |(_, row): (u32, u32)| Ok::<_, Never>(exact[row as usize]);
        let about = |(_, row): (u32, u32)| Ok(exact[row as usize] + error / 9.0 * (row as f32 * 2.3).sin());
        let closer = Closer { about: &about, error: error / 9.0, exact: &truth };
        let mut best = Best::new(k, if k.is_multiple_of(2) { 4 } else { 16 }, min);
        let middle = exact.len() / 2;
        // The later half first: the order in which threads are done must not matter.
        for row in (middle..exact.len()).chain(0..middle) {
            // Some are known better than others.
            let error = error * (1.0 + (row % 3) as f32);
            best.offer(Candidate { similarity: offered[row], error, part: 0, row: row as u32 }, &closer).unwrap();
        }
        let found = best.finish(min, &closer).unwrap();
        found.iter().map(|found| found.row as usize).collect()
    }

    #[test]
    fn errors_of_the_scan_never_change_the_answer() {
        for (rows, k, error, step) in [(10, 3, 0.1, 7), (1000, 10, 0.05, 13), (5000, 50, 0.2, 3), (700, 700, 0.3, 1)] {
            // Few different values: many ties.
            let exact: Vec<f32> = (0..rows).map(|row| ((row * step * 31) % 97) as f32 / 97.0).collect();
            for min in [None, Some(0.5)] {
                let mut want: Vec<usize> = (0..rows).filter(|row| min.is_none_or(|min| exact[*row] >= min)).collect();
                want.sort_by(|a, b| exact[*b].total_cmp(&exact[*a]).then(a.cmp(b)));
                want.truncate(k);
                assert_eq!(run(&exact, error, k, min), want, "{rows} rows, k {k}, error {error}, min {min:?}");
            }
        }
    }

    #[test]
    fn equal_rows_take_no_memory() {
        let equal = |_| Ok::<_, Never>(0.5);
        let closer = Closer { about: &equal, error: 1e-5, exact: &equal };
        let mut best = Best::new(5, 4, None);
        for row in 0..10_000 {
            let candidate = Candidate { similarity: 0.5, error: 1e-4, part: 0, row };
            best.offer(candidate, &closer).unwrap();
            assert!(best.candidates.capacity() < 1000, "{}", best.candidates.capacity());
        }
        let found = best.finish(None, &closer).unwrap();
        assert_eq!(found.iter().map(|found| found.row).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
