//! Closed-set identification with one enrolled row each, and leave-one-out.

use serde::Serialize;

use super::pairs::Groups;
use crate::Matrix;
use crate::distance::dot;

/// The first row of each identity is enrolled, the others ask who they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identification {
    /// Rows that ask.
    pub probes: usize,
    /// Enrolled rows, one of each identity.
    pub gallery: usize,
    /// Share of probes whose own identity is most similar, 0 to 1.
    pub rank1: f64,
    /// `cmc[k - 1]`: share of probes with fewer than `k` entries strictly more similar than their own; as long as the
    /// gallery, at most 50.
    pub cmc: Vec<f64>,
    /// Share of rows, of identities with two or more, whose most similar other row is of their identity.
    pub leave_one_out_rank1: f64,
    /// Whether each probe is right at rank 1, by identity; for intervals.
    #[serde(skip)]
    pub(super) right: Vec<Vec<bool>>,
}

/// `None` where no identity has a second row to ask with.
pub(super) fn identify(embeddings: &Matrix, groups: &Groups) -> Option<Identification> {
    let similarity = |a: usize, b: usize| dot(embeddings.row(a), embeddings.row(b));
    let gallery: Vec<usize> = groups.rows.iter().map(|rows| rows[0]).collect();
    let mut cmc = vec![0.0; gallery.len().min(crate::MAX_RANK)];
    let mut right = vec![Vec::new(); groups.rows.len()];
    let (mut probes, mut alone, mut nearest) = (0, 0, 0);
    for (identity, rows) in groups.rows.iter().enumerate() {
        for &probe in &rows[1..] {
            let own = similarity(probe, gallery[identity]);
            let closer = gallery.iter().filter(|entry| similarity(probe, **entry) > own).count();
            cmc.iter_mut().skip(closer).for_each(|hits| *hits += 1.0);
            right[identity].push(closer == 0);
            probes += 1;
        }
        for &row in rows.iter().filter(|_| rows.len() > 1) {
            let best = |rows: &mut dyn Iterator<Item = usize>| {
                rows.filter(|other| *other != row).map(|other| similarity(row, other)).fold(f32::MIN, f32::max)
            };
            let others = groups.rows.iter().enumerate().filter(|(other, _)| *other != identity);
            let stranger = best(&mut others.flat_map(|(_, rows)| rows).copied());
            nearest += usize::from(best(&mut rows.iter().copied()) > stranger);
            alone += 1;
        }
    }
    if probes == 0 {
        return None;
    }
    cmc.iter_mut().for_each(|hits| *hits /= f64::from(probes));
    let leave_one_out_rank1 = nearest as f64 / f64::from(alone);
    Some(Identification {
        probes: probes as usize,
        gallery: gallery.len(),
        rank1: cmc[0],
        cmc,
        leave_one_out_rank1,
        right,
    })
}
