//! Open-set identification (1:N): which similarity says that a probe is somebody in the gallery?
//!
//! A stranger has as many chances to be found as there are people in the gallery, so a threshold is calibrated for a
//! size of gallery and a number of templates per person ([`metrics::open_set`]). It keeps its rate in smaller
//! galleries, and, where a person's score is the largest of the similarities, with fewer templates.

use contract::{Measured, Rate, Threshold};
use metrics::open_set::Fusion;

/// How many people and templates a probe is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// People; each template of nobody known counts as one.
    pub people: u64,
    /// Fewest templates of a person.
    pub fewest: u64,
    /// Most templates of a person.
    pub most: u64,
}

/// The calibrated threshold for a false positive identification rate of at most `fpir` in a gallery of this size: the
/// loosest for the smallest calibrated gallery that is as large; `None` if none was calibrated for it.
pub fn threshold(calibrated: &[Threshold], fpir: f64, size: Size, fusion: Fusion) -> Option<&Threshold> {
    let gallery = |threshold: &Threshold| match threshold.measured {
        Some(Measured { rate: Rate::Fpir { gallery }, .. }) => Some(gallery),
        _ => None,
    };
    let fits = |threshold: &&Threshold| {
        let Some(measured) = &threshold.measured else { return false };
        let of = u64::from(measured.templates);
        // The largest similarity of fewer templates is no larger; a mean of fewer is less steady.
        let counted = match (fusion, measured.fusion) {
            (Fusion::Max, contract::Fusion::Max) => size.most <= of,
            (Fusion::Mean, contract::Fusion::Mean) => size.fewest == of && size.most == of,
            // Of one template, both are its similarity.
            _ => size.most <= 1 && of == 1,
        };
        // A rate that is a quotient of two decimals may miss the other by rounding.
        counted && threshold.far <= fpir * (1.0 + 1e-9) && gallery(threshold).is_some_and(|of| of >= size.people)
    };
    let fitting = calibrated.iter().filter(fits);
    fitting.min_by(|a, b| gallery(a).cmp(&gallery(b)).then(b.far.total_cmp(&a.far)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_for_as_many_people_templates_and_one_rule() {
        let one = |far: f64, gallery: u64, templates: u32, fusion| Threshold {
            similarity: 0.5,
            far,
            tar: 0.9,
            measured: Some(Measured {
                rate: Rate::Fpir { gallery },
                fusion,
                templates,
                identities: 100,
                pairs: 100,
                far_interval: [0.0, 0.1],
                tar_interval: [0.8, 1.0],
            }),
        };
        use contract::Fusion::{Max, Mean};
        let pairwise = Measured { rate: Rate::Fmr, ..one(0.001, 9, 9, Max).measured.unwrap() };
        let calibrated = [
            Threshold { measured: Some(pairwise), ..one(0.001, 9, 9, Max) },
            Threshold { measured: None, ..one(0.001, 9, 9, Max) },
            one(0.01, 100, 2, Max),
            one(0.009, 10, 2, Max),
            one(0.008, 10, 2, Max),
            one(0.002, 10, 2, Max),
            one(0.01, 10, 3, Mean),
        ];
        let chosen = |fpir: f64, people: u64, [fewest, most]: [u64; 2], fusion| {
            let size = Size { people, fewest, most };
            threshold(&calibrated, fpir, size, fusion).map(|one| one.far)
        };
        assert_eq!(chosen(0.01, 10, [1, 2], Fusion::Max), Some(0.009), "the loosest of the smallest gallery");
        assert_eq!(chosen(0.01, 11, [1, 2], Fusion::Max), Some(0.01), "the next larger gallery");
        assert_eq!(chosen(0.005, 1, [1, 1], Fusion::Max), Some(0.002));
        assert_eq!(chosen(0.005, 11, [1, 1], Fusion::Max), None, "no such rate for so many");
        assert_eq!(chosen(0.5, 101, [1, 1], Fusion::Max), None, "more people than calibrated for");
        assert_eq!(chosen(0.5, 10, [1, 3], Fusion::Max), None, "more templates than calibrated for");
        assert_eq!(chosen(0.5, 10, [3, 3], Fusion::Mean), Some(0.01));
        assert_eq!(chosen(0.5, 10, [2, 3], Fusion::Mean), None, "a mean of fewer");
        assert_eq!(
            threshold(&[one(0.1, 5, 1, Max)], 0.1, Size { people: 5, fewest: 1, most: 1 }, Fusion::Mean)
                .map(|one| one.far),
            Some(0.1)
        );
    }
}
