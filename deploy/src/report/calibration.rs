//! A calibration as text and as a page with its curves.

use ::report::{charts, numbers, page, rows, tradeoffs};
use contract::{Fusion, Measured, Rate, Threshold};
use maud::{Markup, html};
use metrics::open_set::{self, OpenSetPoint, OpenSetReport};
use metrics::verification::{Interval, TarAtFar, VerificationReport};

use super::html::sentence_with_code;
use super::{ModelFacts, aligned, meaning, thousands};
use crate::trained::Overlap;

/// A calibration: what was measured, and the thresholds that follow from it.
pub struct Calibration {
    /// The model.
    pub model: ModelFacts,
    /// The pictures: their folder, and which of them.
    pub data: String,
    /// Pictures that could not be used.
    pub skipped: usize,
    /// How many of the people the model was trained on, if it stores that.
    pub people: Option<Overlap>,
    /// Comparisons (1:1).
    pub verification: VerificationReport,
    /// Searches (1:N), if they were asked for.
    pub open_set: Option<OpenSetReport>,
}

impl Calibration {
    /// Thresholds of comparisons that these people can tell.
    pub fn of_comparisons(&self) -> Vec<Threshold> {
        let trials = self.verification.trials;
        // Every pair of pictures is a comparison of a probe with a person of one template.
        let one = |of: &TarAtFar| Threshold {
            similarity: of.point.threshold.into(),
            far: of.point.far,
            tar: of.point.tar,
            measured: Some(Measured {
                rate: Rate::Fmr,
                fusion: Fusion::Max,
                templates: 1,
                identities: trials.genuine,
                pairs: trials.impostor,
                far_interval: ends(of.far_interval, of.point.far),
                tar_interval: ends(of.interval, of.point.tar),
            }),
        };
        self.verification.tar.iter().filter(|of| untold(of, trials.impostor).is_none()).map(one).collect()
    }

    /// Thresholds of searches that these people can tell.
    pub fn of_searches(&self) -> Vec<Threshold> {
        let Some(open) = &self.open_set else { return Vec::new() };
        let one = |point: &OpenSetPoint| Threshold {
            similarity: point.similarity.into(),
            far: point.fpir,
            tar: 1.0 - point.fnir,
            measured: Some(Measured {
                rate: Rate::Fpir { gallery: point.gallery as u64 },
                fusion: match open.fusion {
                    open_set::Fusion::Max => Fusion::Max,
                    open_set::Fusion::Mean => Fusion::Mean,
                },
                templates: open.templates as u32,
                identities: open.subjects,
                pairs: open.trials as u64,
                far_interval: ends(point.fpir_interval, point.fpir),
                tar_interval: {
                    let [low, high] = ends(point.fnir_interval, point.fnir);
                    [1.0 - high, 1.0 - low]
                },
            }),
        };
        open.points.iter().filter(|point| !point.below_resolution).map(one).collect()
    }

    /// The rates that were asked for and cannot be measured on these people, a sentence each.
    pub fn left_out(&self) -> Vec<String> {
        let pairs = self.verification.trials.impostor;
        let mut sentences: Vec<String> = self.verification.tar.iter().filter_map(|of| untold(of, pairs)).collect();
        if let Some(open) = &self.open_set {
            let mut untold: Vec<f64> =
                open.points.iter().filter(|one| one.below_resolution).map(|one| one.target).collect();
            untold.dedup();
            sentences.extend(untold.into_iter().map(|rate| {
                format!(
                    "probes of {} people are too few to measure a false positive identification rate of {rate}, which \
                     takes {}: left out",
                    open.trials,
                    (1.0 / rate).ceil()
                )
            }));
        }
        sentences
    }

    /// What these measurements do not say, a sentence each.
    pub fn unclaimed(&self) -> Vec<String> {
        let mut sentences = self.left_out();
        match &self.open_set {
            Some(OpenSetReport { subjects, templates, .. }) => {
                let most = thousands(subjects.saturating_sub(1) as u64);
                sentences.push(format!(
                    "searches in galleries of more than {most} people, or with other than {} a person and this rule of \
                     fusion, were not measured",
                    of_templates(*templates)
                ));
            }
            None => sentences.push(
                "searches (1:N) were not measured: thresholds of comparisons say little about them, `--fpir` measures \
                 them"
                    .to_owned(),
            ),
        }
        if let Some(Overlap { trained_on, tested, .. }) = self.people.filter(|people| people.trained_on > 0) {
            sentences.push(format!(
                "{trained_on} of the {tested} people are among those the model was trained on: for other people, all \
                 rates are worse"
            ));
        }
        sentences.push("other people, cameras and light have other rates than those measured here".to_owned());
        sentences
    }

    /// Tables of the thresholds, for the terminal.
    pub fn table(&self) -> String {
        let mut text = format!("{}{}\n", aligned(&comparisons(&self.of_comparisons())), self.trials_of_comparisons());
        if let Some(open) = &self.open_set {
            text.push_str(&format!("\n{}{}\n", aligned(&searches(&self.of_searches())), trials_of_searches(open)));
        }
        text
    }

    fn trials_of_comparisons(&self) -> String {
        let trials = self.verification.trials;
        format!(
            "one comparison with one template; {} identities with two pictures, {} pairs of identities",
            trials.genuine, trials.impostor
        )
    }

    /// The page: thresholds with their meaning in words, curves, and what was not measured. Model and data go by their
    /// names alone, without the folders of the machine that made it.
    pub fn html(&self) -> String {
        let facts = [
            ("Model", self.model.summary()),
            ("Contract", self.model.contract_id.clone()),
            ("Data", terminal::printable(&self.data).into_owned()),
            ("Left out", format!("{} that cannot be used", pictures(self.skipped))),
        ];
        let (of_comparisons, of_searches) = (self.of_comparisons(), self.of_searches());
        let body = html! {
            (rows(&facts))
            h2 { "Thresholds of comparisons (1:1), for verify" }
            (table(&comparisons(&of_comparisons)))
            p.note { (self.trials_of_comparisons()) }
            (in_words(&of_comparisons))
            @if let Some(open) = &self.open_set {
                h2 { "Thresholds of searches (1:N), for search --fpir" }
                (table(&searches(&of_searches)))
                p.note { (trials_of_searches(open)) }
                (in_words(&largest(&of_searches, open)))
            }
            h2 { "What was not measured" }
            ul { @for sentence in &self.unclaimed() { li { (sentence_with_code(sentence)) } } }
            h2 { "Curves" }
            div.charts {
                @for chart in &charts(&self.verification) { (chart) }
                @if let Some(open) = &self.open_set { (tradeoffs(open)) }
            }
            (numbers(&self.verification))
        };
        page("Calibration", &body)
    }
}

fn ends(interval: Option<Interval>, rate: f64) -> [f64; 2] {
    interval.map_or([rate; 2], |of| [of.low, of.high])
}

/// Why a rate of comparisons is left out; `None` if it is not.
fn untold(of: &TarAtFar, pairs: u64) -> Option<String> {
    let rate = of.target;
    if of.below_resolution {
        let needed = (1.0 / rate).ceil();
        return Some(format!(
            "{pairs} pairs of people are too few to measure a false accept rate of {rate}, which takes {needed}: left \
             out"
        ));
    }
    let no_threshold = || {
        format!(
            "no threshold keeps a false accept rate of {rate}, because two people are as similar as any pictures: left \
             out"
        )
    };
    (!of.point.threshold.is_finite()).then(no_threshold)
}

fn pictures(count: usize) -> String {
    if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") }
}

fn of_templates(count: usize) -> String {
    if count == 1 { "1 template".to_owned() } else { format!("{count} templates") }
}

fn trials_of_searches(open: &OpenSetReport) -> String {
    let rule = match open.fusion {
        open_set::Fusion::Max => "the largest similarity",
        open_set::Fusion::Mean => "the mean similarity",
    };
    format!(
        "searches with {} a person, {rule} of them; {} people enrolled, probes of {}",
        of_templates(open.templates),
        open.subjects,
        open.trials
    )
}

fn percent(rate: f64, digits: usize) -> String {
    format!("{:.digits$} %", 100.0 * rate)
}

fn interval(ends: [f64; 2], digits: usize) -> String {
    ends.map(|rate| percent(rate, digits)).join(" to ")
}

/// Thresholds of comparisons, a head and a line each.
fn comparisons(thresholds: &[Threshold]) -> Vec<Vec<String>> {
    let head = ["similarity from", "FAR", "95 % interval", "TAR", "95 % interval"];
    let line = |Threshold { similarity, far, tar, measured }: &Threshold| {
        let of = |ends: fn(&Measured) -> [f64; 2], digits| {
            measured.as_ref().map_or_else(String::new, |measured| interval(ends(measured), digits))
        };
        let (of_far, of_tar) = (of(|of| of.far_interval, 4), of(|of| of.tar_interval, 2));
        vec![format!("{similarity:.4}"), percent(*far, 4), of_far, percent(*tar, 2), of_tar]
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(thresholds.iter().map(line)).collect()
}

/// Thresholds of searches, a head and a line each.
fn searches(thresholds: &[Threshold]) -> Vec<Vec<String>> {
    let head = ["people searched", "similarity from", "FPIR", "95 % interval", "FNIR", "95 % interval"];
    let line = |Threshold { similarity, far, tar, measured }: &Threshold| {
        let Some(Measured { rate: Rate::Fpir { gallery }, far_interval, tar_interval: [low, high], .. }) = measured
        else {
            return None;
        };
        Some(vec![
            gallery.to_string(),
            format!("{similarity:.4}"),
            percent(*far, 4),
            interval(*far_interval, 4),
            percent(1.0 - tar, 2),
            interval([1.0 - high, 1.0 - low], 2),
        ])
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(thresholds.iter().filter_map(line)).collect()
}

/// Of each rate, the threshold for the largest gallery.
fn largest(thresholds: &[Threshold], open: &OpenSetReport) -> Vec<Threshold> {
    let most = open.curves.iter().map(|curve| curve.gallery as u64).max();
    let is_largest = |of: &&Threshold| {
        of.measured.as_ref().is_some_and(|of| matches!(of.rate, Rate::Fpir { gallery } if Some(gallery) == most))
    };
    thresholds.iter().filter(is_largest).cloned().collect()
}

fn table(lines: &[Vec<String>]) -> Markup {
    let (head, lines) = lines.split_first().map_or((&[][..], &[][..]), |(head, lines)| (head.as_slice(), lines));
    html! {
        div.scroll {
            table.numbers {
                thead { tr { @for name in head { th { (name) } } } }
                tbody { @for line in lines { tr { @for cell in line { td { (cell) } } } } }
            }
        }
    }
}

fn in_words(thresholds: &[Threshold]) -> Markup {
    html! { ul { @for one in thresholds { li { (meaning(one).join(" ")) } } } }
}
