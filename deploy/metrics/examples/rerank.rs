//! The side of Vitrine in `ci/bench rerank`: k-reciprocal re-ranking of a gallery for all queries.
//!
//! usage: rerank QUERY.npy GALLERY.npy K [OUT.npy]
//!
//! Keeps the K nearest entries of each query, and writes their numbers, `[queries, K]`, where a file is named. Prints a
//! line of JSON: `seconds` of everything after reading, of which `neighbours` until the first query is ranked, and
//! `peak_mib`, the most memory of this process.

use std::error::Error;
use std::time::Instant;

use metrics::{Distances, Matrix, Rerank, nearer, rerank};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some([query, gallery, k]), out) = (arguments.first_chunk::<3>(), arguments.get(3)) else {
        return Err("usage: rerank QUERY.npy GALLERY.npy K [OUT.npy]".into());
    };
    let matrix = |path: &str| -> Result<Matrix, Box<dyn Error>> {
        let (values, rows, cols) = files::npy::Array::decode(&std::fs::read(path)?)?.into_matrix()?;
        Ok(Matrix::new(values, rows, cols)?)
    };
    let (query, gallery, k) = (matrix(query)?, matrix(gallery)?, k.parse::<usize>()?.min(16_384));
    let start = Instant::now();
    let distances = rerank(&query, &gallery, &Rerank::default())?;
    let neighbours = start.elapsed().as_secs_f64();
    let nearest = distances.each(|_, row| {
        let closer = |a: &u32, b: &u32| nearer((row[*a as usize], *a as usize), (row[*b as usize], *b as usize));
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        if k < order.len() {
            order.select_nth_unstable_by(k, closer);
            order.truncate(k);
            // What is kept of all queries must not be as large as all distances.
            order.shrink_to_fit();
        }
        order.sort_unstable_by(closer);
        order
    });
    let seconds = start.elapsed().as_secs_f64();
    if let Some(out) = out {
        let numbers: Vec<f32> = nearest.iter().flatten().map(|row| *row as f32).collect();
        std::fs::write(out, files::npy::encode(&[query.rows(), k.min(gallery.rows())], &numbers))?;
    }
    let result = serde_json::json!({ "seconds": seconds, "neighbours": neighbours, "peak_mib": peak() });
    println!("{result}");
    Ok(())
}

/// Largest resident size so far, in MiB; 0 where the system does not say.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok()).map_or(0, |kib| kib / 1024)
}
