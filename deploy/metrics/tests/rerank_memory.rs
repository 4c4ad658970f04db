//! Re-ranking of 24,000 rows needs far less memory than one matrix of all their distances, which takes 2.3 GB, or than
//! those of 4,000 queries to 20,000 entries, 320 MB. This test is a program of its own, because it measures the peak of
//! the process.

#![cfg(target_os = "linux")]

use metrics::{Label, Matrix, Rerank, rank, rerank};

const QUERIES: usize = 4_000;
const ENTRIES: usize = 20_000;
const DIM: usize = 16;

/// Largest resident size so far, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// Rows around 2,000 centres, each of a person.
fn rows(name: &str, count: usize) -> (Matrix, Vec<Label>) {
    let own = contract::fill::fill(&format!("input.rerank.{name}"), &[count, DIM]);
    let centres = contract::fill::fill("input.rerank.centres", &[2_000, DIM]);
    let value = |at: usize| centres[at / DIM % 2_000 * DIM + at % DIM] + 0.4 * own[at];
    let values: Vec<f32> = (0..count * DIM).map(value).collect();
    let values = contract::embedding::embed(&values, &[], DIM, 1);
    let camera = i64::from(name == "gallery");
    let labels = (0..count).map(|row| Label { identity: (row % 2_000) as i64, camera }).collect();
    (Matrix::new(values, count, DIM).unwrap(), labels)
}

#[test]
fn no_matrix_of_distances_is_made() {
    let ((query, query_labels), (gallery, gallery_labels)) = (rows("query", QUERIES), rows("gallery", ENTRIES));
    let before = peak();
    let reranking = rerank(&query, &gallery, &Rerank::default()).unwrap();
    let report = rank(&reranking, &query_labels, &gallery_labels).unwrap();
    println!("{} MiB before, {} MiB at the peak; mAP {:.3}", before, peak(), report.map);
    assert_eq!(report.valid_queries, QUERIES);
    assert!(report.map > 0.2, "people are near their centres: {}", report.map);
    assert!(peak() < 160, "{} MiB", peak());
}
