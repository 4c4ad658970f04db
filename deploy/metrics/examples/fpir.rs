//! Measures whether thresholds keep the false positive identification rate (FPIR) that they are asked for, on people
//! and galleries that they were not measured on. `ci/bench fpir` runs it.
//!
//! People are drawn as rows of 16 values: a direction of their own plus one of the row, whose size differs between
//! people, since some are harder to recognise than others. For galleries of 100, 1,000 and 10,000 subjects, prints
//! the FPIR asked for, the one measured on other people, and their ratio.

use metrics::open_set::{Fusion, OpenSetOptions, evaluate};
use metrics::{Rows, dot};
use rayon::prelude::*;

const DIM: usize = 16;
const CALIBRATION: usize = 12_000;
const GALLERIES: [usize; 3] = [100, 1_000, 10_000];
const STRANGERS: usize = 10_000;
const RATES: [f64; 3] = [0.1, 0.01, 0.003];

/// `[people * each, DIM]`, rows of unit length; equal names give equal people.
fn crowd(name: &str, people: usize, each: usize) -> Vec<f32> {
    let own = contract::fill::fill(&format!("input.{name}.own"), &[people, DIM]);
    let noise = contract::fill::fill(&format!("input.{name}.rows"), &[people * each, DIM]);
    let spread: Vec<f64> = contract::fill::unit(&format!("input.{name}.spread"), people).collect();
    let values: Vec<f32> = (0..people * each * DIM)
        .map(|at| {
            let (row, axis) = (at / DIM, at % DIM);
            own[row / each * DIM + axis] + (0.3 + spread[row / each]) as f32 * noise[at]
        })
        .collect();
    contract::embedding::embed(&values, &[], DIM, 1)
}

fn main() -> Result<(), metrics::MetricsError> {
    println!(
        "{:>9} {:>9} {:>7} {:>10} {:>7} {:>9} {:>6}",
        "templates", "fusion", "N", "similarity", "asked", "measured", "ratio"
    );
    let mut outside = 0;
    for (templates, fusion) in [(1, Fusion::Max), (3, Fusion::Max), (3, Fusion::Mean)] {
        let each = templates + 1;
        let rows = crowd("calibration", CALIBRATION, each);
        let labels: Vec<i64> = (0..CALIBRATION * each).map(|row| (row / each) as i64).collect();
        let options = OpenSetOptions {
            fpirs: RATES.to_vec(),
            galleries: GALLERIES.to_vec(),
            templates,
            fusion,
            resamples: 0,
            ..OpenSetOptions::default()
        };
        let report = evaluate(Rows::new(&rows, labels.len(), DIM)?, &labels, &options)?;
        let enrolled = crowd("enrolled", GALLERIES[2], templates);
        let strangers = crowd("strangers", STRANGERS, 1);
        for &gallery in &GALLERIES {
            // The highest score of each stranger decides for every threshold.
            let best: Vec<f32> = strangers
                .par_chunks(DIM)
                .map(|stranger| {
                    let people = enrolled.chunks(templates * DIM).take(gallery);
                    let scores = people.filter_map(|own| fusion.fuse(own.chunks(DIM).map(|row| dot(stranger, row))));
                    scores.fold(f32::MIN, f32::max)
                })
                .collect();
            for point in report.points.iter().filter(|point| point.gallery == gallery) {
                let found = best.iter().filter(|score| **score >= point.similarity).count();
                let measured = found as f64 / STRANGERS as f64;
                let ratio = measured / point.target;
                outside += usize::from(!(0.5..=2.0).contains(&ratio));
                println!(
                    "{templates:>9} {:>9} {gallery:>7} {:>10.4} {:>7} {measured:>9.4} {ratio:>6.2}",
                    format!("{fusion:?}").to_lowercase(),
                    point.similarity,
                    point.target,
                );
            }
        }
    }
    println!("{outside} of 27 outside of 0.5 to 2 times the rate");
    std::process::exit(i32::from(outside > 0));
}
