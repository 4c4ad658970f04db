//! Verification of 20,000 rows needs far less memory than storing its 200 million pairs. This test is a program of its
//! own, because it measures the peak of the process.

#![cfg(target_os = "linux")]

use std::time::Instant;

use metrics::Matrix;
use metrics::verification::{VerificationOptions, evaluate};

const ROWS: usize = 20_000;
const DIM: usize = 16;

/// Largest resident size so far, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
fn twenty_thousand_rows_stay_below_a_gibibyte() {
    let values: Vec<f32> = contract::fill::unit("input.memory", ROWS * DIM).map(|u| 2.0 * u as f32 - 1.0).collect();
    let embeddings = contract::embedding::embed(&values, &[], DIM, 1);
    let embeddings = Matrix::new(embeddings, ROWS, DIM).unwrap();
    let labels: Vec<i64> = (0..ROWS).map(|row| (row % 1000) as i64).collect();
    let options = VerificationOptions { resamples: 2, ..VerificationOptions::default() };
    let start = Instant::now();
    let report = evaluate(&embeddings, &labels, &options).unwrap();
    println!("{:.1} s, peak {} MiB", start.elapsed().as_secs_f64(), peak());
    assert_eq!(report.genuine + report.impostor, (ROWS * (ROWS - 1) / 2) as u64);
    assert!((report.auc - 0.5).abs() < 0.01, "rows are random: {}", report.auc);
    assert!(peak() < 256, "{} MiB", peak());
}
