//! How well embeddings find people again, and where a threshold lies. `cargo run --example ranking`
//!
//! Two people before three cameras, as angles on a circle: ada at about 0°, ben at about 60°. In bad light each was
//! once taken for the other.

use metrics::verification::Roc;
use metrics::{Label, Matrix, cosine_distance, dot, rank};

/// Rows of unit length at these angles, `[angles, 2]`.
fn rows(degrees: &[f32]) -> Vec<f32> {
    degrees.iter().flat_map(|angle| [angle.to_radians().cos(), angle.to_radians().sin()]).collect()
}

fn main() -> Result<(), metrics::MetricsError> {
    let (ada, ben) = (1, 2);
    let (queries, gallery) = (rows(&[0.0, 60.0]), rows(&[3.0, 5.0, 58.0, 64.0]));
    let label = |identity, camera| Label { identity, camera };
    let asked = [label(ada, 0), label(ben, 0)];
    let enrolled = [label(ada, 1), label(ben, 1), label(ben, 2), label(ada, 2)];

    let (probes, entries) = (Matrix::new(queries.clone(), 2, 2)?, Matrix::new(gallery.clone(), 4, 2)?);
    let distance = cosine_distance(&probes, &entries)?;
    let report = rank(&distance, &asked, &enrolled)?;
    println!("Rank-1 {:.2}, mAP {:.4}", report.rank(1), report.map);

    // All pairs of a query and an entry: of one person, or of two.
    let (mut genuine, mut impostor) = (vec![], vec![]);
    for (query, who) in queries.chunks_exact(2).zip(asked) {
        for (entry, other) in gallery.chunks_exact(2).zip(enrolled) {
            let pairs = if who.identity == other.identity { &mut genuine } else { &mut impostor };
            pairs.push(dot(query, entry));
        }
    }
    let roc = Roc::new(&genuine, &impostor)?;
    let point = roc.tar_at_far(0.25)?;
    println!(
        "EER {:.2}; at most 25 % of others pass from {:.4} on, and so do {:.0} % of pairs of one person",
        roc.eer().rate,
        point.threshold,
        100.0 * point.tar
    );
    // ada's second picture lies at ben's, ben's first at ada's: each query has one of its two before the others.
    assert_eq!(report.rank(1), 1.0);
    assert!(report.map < 1.0 && point.far <= 0.25);
    Ok(())
}
