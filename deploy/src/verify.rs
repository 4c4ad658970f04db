//! Verification (1:1): is this the claimed person?
//!
//! A person may have several templates. The similarity to the person is that to the most similar template, so a
//! stranger has as many chances to be accepted as there are templates. A calibrated threshold says for how many
//! templates its false accept rate was measured, usually one. With at most as many, a stranger is accepted no more
//! often. With more, they are divided into as few sets of that size as hold them; by the union bound, the rate is at
//! most the sum of those of the sets. [`threshold`] therefore selects a calibrated threshold whose rate times the
//! number of sets is at most the requested rate. The bound holds for any templates; for very similar ones it is
//! stricter than necessary. Thresholds of another decision, such as on the mean of the similarities or in a search, do
//! not count.

use contract::{Fusion, Measured, Rate, Threshold};

/// The similarity of a probe to the most similar of a person's templates, rows of unit length; `None` without one.
pub fn similarity<'a>(probe: &[f32], templates: impl IntoIterator<Item = &'a [f32]>) -> Option<f32> {
    templates.into_iter().map(|template| metrics::dot(probe, template)).reduce(f32::max)
}

/// The loosest calibrated threshold that accepts strangers at a rate of at most `far` when a probe is compared with
/// `templates` templates; `None` if none is calibrated for so low a rate.
pub fn threshold(calibrated: &[Threshold], far: f64, templates: usize) -> Option<&Threshold> {
    // A rate that is a quotient of two decimals may miss the other by rounding.
    let keeps = |one: &&Threshold| sets(one, templates).is_some_and(|sets| one.far * sets as f64 <= far * (1.0 + 1e-9));
    calibrated.iter().filter(keeps).max_by(|a, b| a.far.total_cmp(&b.far))
}

/// Sets of templates whose false accept rate is that of the threshold, and which hold `templates` together; `None` if
/// it is for another decision.
pub fn sets(threshold: &Threshold, templates: usize) -> Option<usize> {
    match threshold.measured {
        None => Some(templates),
        Some(Measured { rate: Rate::Fpir { .. }, .. }) => None,
        Some(Measured { fusion: Fusion::Max, templates: of, .. }) => Some(templates.div_ceil(of.max(1) as usize)),
        // The mean of one is the largest of one.
        Some(Measured { fusion: Fusion::Mean, templates: 1, .. }) => Some(templates),
        Some(Measured { fusion: Fusion::Mean, .. }) => None,
    }
}

#[cfg(test)]
mod tests {
    use metrics::Matrix;
    use metrics::verification::{VerificationOptions, evaluate};

    use super::*;

    const DIM: usize = 8;

    #[test]
    fn the_loosest_threshold_that_keeps_the_rate() {
        let one = |far: f64| Threshold { similarity: 1.0 - far, far, tar: 0.5, measured: None };
        let calibrated = [one(0.1), one(0.001), one(0.01)];
        let far = |far, templates| threshold(&calibrated, far, templates).map(|one| one.far);
        assert_eq!(far(0.1, 1), Some(0.1));
        assert_eq!(far(0.099, 1), Some(0.01));
        assert_eq!(far(0.1, 2), Some(0.01));
        assert_eq!(far(0.1, 10), Some(0.01), "0.1 / 10 is not 0.01 in binary");
        assert_eq!(far(0.003, 3), Some(0.001));
        assert_eq!(far(0.1, 101), None);
        assert_eq!(threshold(&[], 1.0, 1), None);
        let templates: [&[f32]; 2] = [&[1.0, 0.0], &[0.6, 0.8]];
        assert_eq!(similarity(&[0.0, 1.0], templates), Some(0.8));
        assert_eq!(similarity(&[0.0, 1.0], []), None);
    }

    #[test]
    fn a_threshold_counts_for_the_decision_it_was_measured_for() {
        let one = |rate, fusion, templates| {
            let (far_interval, tar_interval) = ([0.0, 0.1], [0.9, 1.0]);
            let (identities, pairs) = (100, 4950);
            let measured = Measured { rate, fusion, templates, identities, pairs, far_interval, tar_interval };
            Threshold { similarity: 0.5, far: 0.01, tar: 0.95, measured: Some(measured) }
        };
        let of = |rate, fusion, templates, of: usize| sets(&one(rate, fusion, templates), of);
        assert_eq!([1, 4, 5, 6, 11].map(|n| of(Rate::Fmr, Fusion::Max, 5, n)), [1, 1, 1, 2, 3].map(Some));
        assert_eq!([1, 3].map(|n| of(Rate::Fmr, Fusion::Max, 1, n)), [Some(1), Some(3)]);
        assert_eq!([1, 3].map(|n| of(Rate::Fmr, Fusion::Mean, 1, n)), [Some(1), Some(3)]);
        assert_eq!(of(Rate::Fmr, Fusion::Mean, 5, 5), None);
        assert_eq!(of(Rate::Fpir { gallery: 9 }, Fusion::Max, 1, 1), None);
        assert_eq!(sets(&Threshold { measured: None, ..one(Rate::Fpir { gallery: 9 }, Fusion::Max, 1) }, 7), Some(7));
        let calibrated = [one(Rate::Fpir { gallery: 9 }, Fusion::Max, 1), one(Rate::Fmr, Fusion::Max, 5)];
        assert_eq!(threshold(&calibrated, 0.01, 5), Some(&calibrated[1]));
        assert_eq!(threshold(&calibrated, 0.01, 6), None);
        assert_eq!(threshold(&calibrated[..1], 1.0, 1), None);
    }

    /// Rows of `people` people, `each` pictures of each: a direction of their own and, as large, one of the picture.
    fn crowd(name: &str, people: usize, each: usize) -> Vec<f32> {
        let own = contract::fill::fill(&format!("input.{name}.own"), &[people, DIM]);
        let pictures = contract::fill::fill(&format!("input.{name}.pictures"), &[people * each, DIM]);
        let row = |at: usize| (0..DIM).map(move |axis| (at / each * DIM + axis, at * DIM + axis));
        let values: Vec<f32> =
            (0..people * each).flat_map(row).map(|(person, picture)| own[person] + pictures[picture]).collect();
        contract::embedding::embed(&values, &[], DIM, 1)
    }

    /// The rate is measured on people that were not calibrated on, each stranger against each person's templates. One
    /// comparison's threshold would not keep it.
    #[test]
    fn strangers_are_accepted_no_more_often_than_asked_however_many_templates() {
        let (people, each) = (300, 10);
        let calibration = Matrix::new(crowd("calibration", people, 4), people * 4, DIM).unwrap();
        let labels: Vec<i64> = (0..people * 4).map(|row| (row / 4) as i64).collect();
        let fars: Vec<f64> =
            [0.1, 0.01].into_iter().flat_map(|far| [1, 2, 5, 10].map(|n| far / f64::from(n))).collect();
        let options = VerificationOptions { fars, resamples: 0, ..VerificationOptions::default() };
        let measured = evaluate(&calibration, &labels, &options).unwrap();
        let point = |tar: &metrics::verification::TarAtFar| tar.point;
        let calibrated: Vec<Threshold> = measured
            .tar
            .iter()
            .map(point)
            .map(|point| Threshold {
                similarity: point.threshold.into(),
                far: point.far,
                tar: point.tar,
                measured: None,
            })
            .collect();
        let enrolled = crowd("enrolled", people, each);
        let strangers = crowd("strangers", 1000, 1);
        for far in [0.1, 0.01] {
            for templates in [1, 2, 5, 10] {
                let accepted = |threshold: &Threshold| {
                    let accepts = |stranger: &[f32], person: &[f32]| {
                        let rows = person.chunks_exact(DIM).take(templates);
                        f64::from(similarity(stranger, rows).unwrap()) >= threshold.similarity
                    };
                    let of = |stranger: &[f32]| {
                        enrolled.chunks_exact(each * DIM).filter(|person| accepts(stranger, person)).count()
                    };
                    strangers.chunks_exact(DIM).map(of).sum::<usize>() as f64 / (1000 * people) as f64
                };
                let rate = accepted(threshold(&calibrated, far, templates).unwrap());
                // The two crowds are samples: one comparison's rate differs by some percent.
                assert!(rate <= 1.1 * far, "{templates} templates at {far}: {rate}");
                let naive = accepted(threshold(&calibrated, far, 1).unwrap());
                assert!(templates < 5 || naive > 1.5 * far, "{templates} templates at {far}, as if one: {naive}");
            }
        }
    }
}
