//! Probes and a gallery to ranked matches: pure functions, no files and no model.

use metrics::{Label, Matrix, RankingReport, Rerank};

use crate::gallery::Embeddings;
use crate::identity::Identities;
use crate::pictures::Picture;
use crate::{DeployError, index};

/// A gallery entry found for a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Row of the gallery.
    pub row: usize,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
    /// Distance after re-ranking, which then is the order; smaller is closer.
    pub reranked: Option<f32>,
}

/// Per probe the `k` most similar entries, most similar first, none below `min_similarity`.
///
/// # Errors
/// If the values do not make whole rows.
pub fn search(
    probes: &Embeddings,
    gallery: &Embeddings,
    k: usize,
    min_similarity: Option<f32>,
) -> Result<Vec<Vec<Match>>, DeployError> {
    let hits = index::exact::top_k(probes.view()?, gallery.view()?, k, min_similarity);
    let found = |hit: index::Hit| Match { row: hit.row, similarity: hit.similarity, reranked: None };
    Ok(hits.into_iter().map(|hits| hits.into_iter().map(found).collect()).collect())
}

/// Per probe the `k` entries of smallest `distance`, nearest first, of those `keep` allows (probe, row).
///
/// `reranked` says that the distances are re-ranked ones; the similarity of a match is always the cosine.
///
/// # Panics
/// If the matrix has not a row per probe and a column per entry.
pub fn nearest(
    distance: &Matrix,
    probes: &Embeddings,
    gallery: &Embeddings,
    k: usize,
    reranked: bool,
    keep: impl Fn(usize, usize) -> bool,
) -> Vec<Vec<Match>> {
    let one = |probe: usize| {
        let distance = distance.row(probe);
        assert_eq!(distance.len(), gallery.pictures.len(), "a column per entry");
        let mut rows: Vec<usize> = (0..distance.len()).filter(|row| keep(probe, *row)).collect();
        rows.sort_by(|a, b| distance[*a].total_cmp(&distance[*b]).then(a.cmp(b)));
        rows.truncate(k);
        let found = |row: usize| Match {
            row,
            similarity: metrics::dot(probes.row(probe), gallery.row(row)),
            reranked: reranked.then_some(distance[row]),
        };
        rows.into_iter().map(found).collect()
    };
    (0..probes.pictures.len()).map(one).collect()
}

/// Distances after k-reciprocal re-ranking with the published parameters.
///
/// # Errors
/// If the rows are not of unit length.
pub fn rerank(probes: &Embeddings, gallery: &Embeddings) -> Result<Matrix, DeployError> {
    Ok(metrics::rerank(probes.view()?, gallery.view()?, &Rerank::default())?)
}

/// Rank-k and mAP of a search by the Market-1501 protocol, over the probes whose identity is known; `None` if
/// nobody's is.
///
/// Entries named by folders have no camera, so nothing is taken out for them.
///
/// # Errors
/// If metrics cannot be computed.
pub fn summary(
    distance: &Matrix,
    probes: &[Picture],
    gallery: &[Picture],
) -> Result<Option<RankingReport>, DeployError> {
    let identities = Identities::of(gallery);
    let label = |picture: &Picture, camera: i64| Label { identity: picture.identity, camera };
    let of_probe = |picture: &Picture| {
        if !identities.known(picture) {
            // Junk probes are left out of the means.
            Label { identity: metrics::JUNK, camera: 0 }
        } else if picture.named_by_folder() {
            label(picture, -2)
        } else {
            label(picture, picture.camera)
        }
    };
    let probe_labels: Vec<Label> = probes.iter().map(of_probe).collect();
    let gallery_labels: Vec<Label> = gallery.iter().map(|picture| label(picture, picture.camera)).collect();
    let report = metrics::rank(distance, &probe_labels, &gallery_labels)?;
    Ok((report.valid_queries > 0).then_some(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[[f32; 2]], identities: &[i64]) -> Embeddings {
        let picture = |identity: &i64| Picture {
            path: "p".into(),
            others: vec![],
            missing: vec![],
            identity: *identity,
            identity_name: String::new(),
            camera: 0,
        };
        Embeddings { values: values.concat(), dim: 2, pictures: identities.iter().map(picture).collect() }
    }

    #[test]
    fn order_threshold_and_filter() {
        let probes = rows(&[[1.0, 0.0]], &[1]);
        let gallery = rows(&[[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [1.0, 0.0]], &[1, 2, 3, 4]);
        let order = |found: &[Vec<Match>]| found[0].iter().map(|found| found.row).collect::<Vec<_>>();
        assert_eq!(order(&search(&probes, &gallery, 3, None).unwrap()), [1, 3, 2]);
        assert_eq!(order(&search(&probes, &gallery, 9, Some(0.7)).unwrap()), [1, 3]);
        let distance = metrics::cosine_distance(probes.view().unwrap(), gallery.view().unwrap()).unwrap();
        let found = search(&probes, &gallery, 9, None).unwrap();
        assert_eq!(nearest(&distance, &probes, &gallery, 9, false, |_, _| true), found);
        assert_eq!(order(&nearest(&distance, &probes, &gallery, 9, true, |_, row| row != 1)), [3, 2, 0]);
    }
}
