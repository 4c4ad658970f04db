//! Closed-set identification with one enrolled row per identity, and leave-one-out identification.

use serde::Serialize;

use super::compare::{Genuine, Impostor};
use super::groups::Groups;

/// Identification with the first row of each identity enrolled and the others as probes. Of equally similar rows the
/// earlier ranks first, as in [`rank`](crate::rank()), so a network that gives every picture the same embedding is
/// right only by chance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identification {
    /// Number of probes.
    pub probes: usize,
    /// Enrolled rows: one of each identity, and all distractors.
    pub gallery: usize,
    /// Share of probes whose own identity ranks first, 0 to 1.
    pub rank1: f64,
    /// `cmc[k - 1]`: share of probes with fewer than `k` entries before their own; as long as the gallery, at most 50.
    pub cmc: Vec<f64>,
    /// Share of rows whose nearest other row has the same identity, among identities with at least two rows; 0 to 1.
    pub leave_one_out_rank1: f64,
    /// For each group, the number of probes that are right at rank 1 and of all its probes; for intervals.
    #[serde(skip)]
    pub(super) rights: Vec<[u32; 2]>,
}

/// `None` if no identity has a second row to use as a probe.
pub(super) fn identify(groups: &Groups<'_>, genuine: &Genuine, impostor: &Impostor) -> Option<Identification> {
    let mut cmc = vec![0.0; groups.len().min(crate::MAX_RANK)];
    let mut rights = vec![[0, 0]; groups.len()];
    let (mut probes, mut alone, mut nearest) = (0_usize, 0_usize, 0_usize);
    for (group, rights) in rights.iter_mut().enumerate() {
        let indices = groups.indices(group);
        for index in indices.clone().skip(1) {
            let closer = impostor.closer[index];
            cmc.iter_mut().skip(closer as usize).for_each(|hits| *hits += 1.0);
            rights[0] += u32::from(closer == 0);
            rights[1] += 1;
            probes += 1;
        }
        for index in indices.clone().filter(|_| indices.len() > 1) {
            nearest += usize::from(genuine.nearest[index].before(impostor.stranger[index]));
            alone += 1;
        }
    }
    if probes == 0 {
        return None;
    }
    cmc.iter_mut().for_each(|hits| *hits /= probes as f64);
    Some(Identification {
        probes,
        gallery: groups.len(),
        rank1: cmc[0],
        cmc,
        leave_one_out_rank1: nearest as f64 / alone as f64,
        rights,
    })
}
