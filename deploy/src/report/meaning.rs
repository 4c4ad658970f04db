//! What a threshold means, in words that follow from the record that it carries.

use contract::{Fusion, Measured, Rate, Threshold};
use serde::Serialize;

use super::text::thousands;

/// By what it is decided whether a probe is somebody.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// What the threshold means, or that there is none: whole sentences.
    pub meaning: Vec<String>,
    /// The false positive identification rate that a search asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fpir: Option<f64>,
    /// People in the gallery that was searched, where the threshold depends on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub people: Option<u64>,
    /// The calibrated threshold, as the model's contract has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
}

impl Decision {
    /// Of a search without a threshold.
    pub fn none() -> Self {
        let meaning = vec![
            "No threshold was used: this only ranks and decides nothing.".to_owned(),
            "Somebody comes first for a stranger, too; `--fpir RATE` decides by a calibrated threshold.".to_owned(),
        ];
        Self { meaning, fpir: None, people: None, threshold: None }
    }

    /// By a similarity that the user chose with a `flag`; `calibrate` measures others with the flag `rate`.
    pub fn chosen(similarity: f32, flag: &str, rate: &str) -> Self {
        let meaning = vec![
            format!("A similarity of {similarity:.4} or more counts as the same person."),
            format!(
                "It was chosen with `{flag}`: how many strangers reach it is not known, `deploy calibrate {rate} RATE` \
                 measures that."
            ),
        ];
        Self { meaning, fpir: None, people: None, threshold: None }
    }

    /// Of a comparison with a person whose templates make so many `sets` of as many as the threshold is for.
    pub fn verification(threshold: &Threshold, sets: usize) -> Self {
        let mut meaning = meaning(threshold);
        if sets > 1 {
            meaning.push(format!(
                "This person has more templates than that: a stranger is accepted at most {} times as often.",
                thousands(sets as u64)
            ));
        }
        Self { meaning, fpir: None, people: None, threshold: Some(threshold.clone()) }
    }

    /// Of a search among `people` people by the calibrated threshold that keeps the rate `fpir`.
    pub fn calibrated(fpir: f64, people: u64, threshold: &Threshold) -> Self {
        let mut meaning = meaning(threshold);
        let asked = Share::of(fpir, [fpir; 2]);
        let [count, of] = [asked.count, asked.of].map(thousands);
        let here = if people == 1 { "1 person".to_owned() } else { format!("{} people", thousands(people)) };
        meaning.push(format!("At most {count} of {of} were asked for (`--fpir {fpir}`); this gallery has {here}."));
        Self { meaning, fpir: Some(fpir), people: Some(people), threshold: Some(threshold.clone()) }
    }
}

/// What a threshold means, as whole sentences: the decision it is for, what was measured, and on how many people.
pub fn meaning(threshold: &Threshold) -> Vec<String> {
    let Threshold { similarity, far, tar, measured } = threshold;
    let Some(Measured { rate, fusion, templates, identities, pairs, far_interval, tar_interval }) = measured else {
        let strangers = told(*far, None, ["picture of somebody else", "pictures of other people"], "accepted");
        let own = told(1.0 - tar, None, ["picture", "pictures"], "refused");
        return vec![
            format!("A similarity of {similarity:.4} or more is a match."),
            format!(
                "In comparisons with one template, {strangers}; in comparisons with one template of the same person, \
                 {own}."
            ),
            "The model does not say on how many people that was measured.".to_owned(),
        ];
    };
    let counts = match (templates, fusion) {
        (1, _) => "",
        (_, Fusion::Max) => ", of which the most similar counts",
        (_, Fusion::Mean) => ", of which the mean similarity counts",
    };
    let templates = counted(u64::from(*templates), "template", "templates");
    let [low, high] = *tar_interval;
    let (missed, missed_interval) = (1.0 - tar, Some([1.0 - high, 1.0 - low]));
    match rate {
        Rate::Fpir { gallery } => {
            let strangers = told(*far, Some(*far_interval), ["stranger", "strangers"], "taken for somebody");
            let own = ["picture of an enrolled person", "pictures of enrolled people"];
            let own = told(missed, missed_interval, own, "missed");
            let (gallery, enrolled) =
                (counted(*gallery, "person", "people"), counted(*identities as u64, "person", "people"));
            vec![
                format!("A similarity of {similarity:.4} or more counts as found."),
                format!("In galleries of {gallery} with {templates} each{counts}, {strangers}, and {own}."),
                format!(
                    "Measured on {enrolled} enrolled and pictures of {}; it holds for people and pictures like these.",
                    thousands(*pairs)
                ),
            ]
        }
        Rate::Fmr => {
            let strangers = told(*far, Some(*far_interval), ["picture", "pictures"], "accepted");
            let own = told(missed, missed_interval, ["picture", "pictures"], "refused");
            let (people, pairs) =
                (counted(*identities as u64, "person", "people"), counted(*pairs, "pair of people", "pairs of people"));
            vec![
                format!("A similarity of {similarity:.4} or more is a match."),
                format!(
                    "In comparisons with {templates} of somebody else{counts}, {strangers}; in comparisons with the \
                     person's own, {own}."
                ),
                format!(
                    "Measured on {people} with two pictures or more, and on {pairs}; it holds for people and pictures \
                     like these."
                ),
                "It is for verification (1:1): in a search, a stranger is compared with everybody, and finds somebody \
                 more often."
                    .to_owned(),
            ]
        }
    }
}

/// `1 person`, `1,200 people`.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { many })
}

/// A rate and its interval as counts of a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// What is counted.
    count: u64,
    /// The power of ten.
    of: u64,
    /// Ends of the interval, rounded outwards.
    low: u64,
    high: u64,
}

impl Share {
    /// Counts in the smallest power of ten, from 100, of which the rate is a whole number to two percent of it; of a
    /// rate of 0, the upper end of its interval.
    fn of(rate: f64, [low, high]: [f64; 2]) -> Self {
        let leading = if rate > 0.0 { rate } else { high };
        let whole = |of: &u64| {
            let (exact, of) = (leading * *of as f64, *of as f64);
            let count = exact.round();
            // What is not certain is not called so.
            count >= 1.0 && (count < of || leading >= 1.0) && (count - exact).abs() <= 0.02 * exact
        };
        let of = (2..12).map(|power| 10_u64.pow(power)).find(whole).unwrap_or(10_u64.pow(12));
        let scaled = |share: f64| share * of as f64;
        let (low, high) = ((scaled(low) + 1e-6).floor().max(0.0), (scaled(high) - 1e-6).ceil().min(of as f64));
        Self { count: scaled(rate).round() as u64, of, low: low as u64, high: high as u64 }
    }
}

/// How many of the things called `one` or `many` something is done to, with the interval.
fn told(rate: f64, interval: Option<[f64; 2]>, [one, many]: [&str; 2], done: &str) -> String {
    let Share { count, of, low, high } = Share::of(rate, interval.unwrap_or([rate; 2]));
    let [counted, of, low, high] = [count, of, low, high].map(thousands);
    let (who, interval_words) = match count {
        0 => (format!("no {one} is"), format!("at most {high} of {of}")),
        _ if rate >= 1.0 => (format!("every {one} is"), format!("at least {low} of {of}")),
        1 => (format!("1 of {of} {many} is"), format!("{low} to {high}")),
        _ => (format!("{counted} of {of} {many} are"), format!("{low} to {high}")),
    };
    let words = interval.map(|_| format!(" (95 %: {interval_words})")).unwrap_or_default();
    format!("{who} {done}{words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(rate: Rate, fusion: Fusion, templates: u32) -> Threshold {
        let measured = Measured {
            rate,
            fusion,
            templates,
            identities: 412,
            pairs: 398,
            far_interval: [0.0012, 0.0057],
            tar_interval: [0.85, 0.91],
        };
        Threshold { similarity: 0.43119, far: 0.003, tar: 0.88, measured: Some(measured) }
    }

    #[test]
    fn words_say_what_the_record_says() {
        let search = threshold(Rate::Fpir { gallery: 100 }, Fusion::Max, 1);
        assert_eq!(
            Decision::calibrated(0.005, 87, &search).meaning,
            [
                "A similarity of 0.4312 or more counts as found.",
                "In galleries of 100 people with 1 template each, 3 of 1,000 strangers are taken for somebody (95 %: 1 \
                 to 6), and 12 of 100 pictures of enrolled people are missed (95 %: 9 to 15).",
                "Measured on 412 people enrolled and pictures of 398; it holds for people and pictures like these.",
                "At most 5 of 1,000 were asked for (`--fpir 0.005`); this gallery has 87 people.",
            ]
        );
        for (fusion, words) in [
            (Fusion::Max, "1 person with 3 templates each, of which the most similar counts, 3 of 1,000 strangers"),
            (Fusion::Mean, "1 person with 3 templates each, of which the mean similarity counts, 3 of 1,000 strangers"),
        ] {
            let told = meaning(&threshold(Rate::Fpir { gallery: 1 }, fusion, 3));
            assert!(told[1].starts_with(&format!("In galleries of {words}")), "{}", told[1]);
        }
        assert_eq!(
            meaning(&threshold(Rate::Fmr, Fusion::Max, 1)),
            [
                "A similarity of 0.4312 or more is a match.",
                "In comparisons with 1 template of somebody else, 3 of 1,000 pictures are accepted (95 %: 1 to 6); in \
                 comparisons with the person's own, 12 of 100 pictures are refused (95 %: 9 to 15).",
                "Measured on 412 people with two pictures or more, and on 398 pairs of people; it holds for people and \
                 pictures like these.",
                "It is for verification (1:1): in a search, a stranger is compared with everybody, and finds somebody \
                 more often.",
            ]
        );
        let old = Threshold { measured: None, ..search.clone() };
        assert_eq!(
            meaning(&old),
            [
                "A similarity of 0.4312 or more is a match.",
                "In comparisons with one template, 3 of 1,000 pictures of other people are accepted; in comparisons \
                 with one template of the same person, 12 of 100 pictures are refused.",
                "The model does not say on how many people that was measured.",
            ]
        );
        let more = Decision::verification(&old, 4).meaning;
        assert_eq!(more[..3], meaning(&old));
        assert!(more[3].contains("at most 4 times as often"), "{more:?}");
        assert_eq!(Decision::verification(&old, 1).meaning, meaning(&old));
        let chosen = Decision::chosen(0.6, "--min-similarity", "--fpir").meaning.join(" ");
        assert!(chosen.contains("0.6000 or more") && chosen.contains("is not known"), "{chosen}");
        let none = Decision::none().meaning.join(" ");
        assert!(none.contains("only ranks and decides nothing"), "{none}");
    }

    #[test]
    fn what_did_not_happen_has_a_bound_and_what_always_happened_too() {
        let strangers = |rate, interval| told(rate, Some(interval), ["stranger", "strangers"], "found");
        assert_eq!(strangers(0.0, [0.0, 0.0074]), "no stranger is found (95 %: at most 74 of 10,000)");
        assert_eq!(strangers(1.0, [0.931, 1.0]), "every stranger is found (95 %: at least 93 of 100)");
        assert_eq!(strangers(0.996, [0.9951, 0.999]), "996 of 1,000 strangers are found (95 %: 995 to 999)");
        assert_eq!(strangers(0.01, [0.0, 0.029]), "1 of 100 strangers is found (95 %: 0 to 3)");
        assert_eq!(strangers(0.0000312, [0.0, 0.0001]), "31 of 1,000,000 strangers are found (95 %: 0 to 100)");
        assert_eq!(told(0.0, None, ["stranger", "strangers"], "found"), "no stranger is found");
    }

    /// Read back, the counts are the rate to two percent and no end of the interval is inside of it.
    #[test]
    fn counts_are_the_rates() {
        for step in 1..=4000 {
            let rate = 10_f64.powf(-f64::from(step) / 500.0);
            let interval = [rate * 0.7, (rate * 1.4).min(1.0)];
            let Share { count, of, low, high } = Share::of(rate, interval);
            let back = |count: u64| count as f64 / of as f64;
            assert!((back(count) - rate).abs() <= 0.02 * rate, "{rate}: {count} of {of}");
            assert!(count < of && back(low) <= interval[0] + 1e-8 && back(high) >= interval[1] - 1e-8, "{rate}");
            let exact = |end: f64, shown: u64| (back(shown) - end).abs() <= 1.0 / of as f64 + 1e-8;
            assert!(exact(interval[0], low) && exact(interval[1], high), "{rate}: {low} to {high} of {of}");
        }
    }
}
