//! The side of Vitrine in `ci/bench search`: opens a gallery and does what standard input says, line by line, so that
//! its turns can be taken between those of others. Each answer is a line of JSON on standard output.
//!
//! usage: search GALLERY ROWS.npy PROBES.npy
//!
//! ```text
//! enrol [N]     makes the gallery from N rows (default all) in one enrolment      seconds
//! reduce        makes the copy in eight bits, for the snapshots after it          seconds
//! index         makes the graph of neighbours (feature `ann`)                     seconds
//! open          opens it and takes a snapshot                                     seconds
//! filter WHAT   for the searches after it: `window` or `scattered` passes a tenth  seconds
//!               of the rows, `none` all
//! batch K       the K nearest to all probes                                       seconds
//! one K N       the K nearest to each of N probes, one after the other            seconds
//! ids K         the ids of the K nearest to all probes                            ids, [probes, K]
//! effort N      opens it for approximate searches with this effort                seconds
//! product       the bare matrix product of probes and rows, kept nowhere          seconds
//! read          every byte of the rows, once                                      seconds
//! memory        the most memory that this process has had                         bytes
//! ```
//!
//! The file of rows is read by `enrol`, `product` and `read` only.

use std::cell::OnceCell;
use std::error::Error;
use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use gallery::{Ask, Engine, Filter, Model, NewTemplate, Rows, Snapshot, Store};
use macerator::{AutoArch, Simd, WithSimd};
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, rows, probes] = &arguments[..] else {
        return Err("usage: search GALLERY ROWS.npy PROBES.npy".into());
    };
    let folder = Path::new(folder);
    let matrix = |path: &str| -> Result<(Vec<f32>, usize, usize), Box<dyn Error>> {
        Ok(files::npy::Array::decode(&std::fs::read(path)?)?.into_matrix()?)
    };
    let (values, count, dim) = matrix(probes)?;
    let probes = Rows::new(&values, count, dim)?;
    let all: OnceCell<Vec<f32>> = OnceCell::new();
    let rows = || -> Result<Rows<'_>, Box<dyn Error>> {
        if all.get().is_none() {
            let _ = all.set(matrix(rows)?.0);
        }
        let values = all.get().expect("just set");
        Ok(Rows::new(values, values.len() / dim, dim)?)
    };
    let mut now: Option<Box<dyn Snapshot>> = None;
    let mut filter = Filter::default();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize, default: usize| words.get(at).map_or(Ok(default), |word| word.parse());
        if ["enrol", "product", "read"].iter().any(|word| line.starts_with(word)) {
            rows()?;
        }
        let start = Instant::now();
        let opened = |now: &'_ Option<Box<dyn Snapshot>>| if now.is_some() { Ok(()) } else { Err("not open yet") };
        match words.first().copied().unwrap_or_default() {
            "enrol" => {
                let rows = rows()?;
                let count = number(1, rows.rows())?.min(rows.rows());
                let name = |row: usize| format!("{:06}_c1s1_{row:06}_01.jpg", row / 4);
                let template = |row: usize| NewTemplate {
                    source: name(row),
                    taken: Some(row as i64),
                    tags: if is_scattered(row) { vec![SCATTERED.to_owned()] } else { Vec::new() },
                    ..NewTemplate::default()
                };
                let templates: Vec<NewTemplate> = (0..count).map(template).collect();
                let model = Model { contract_id: "bench".into(), dim, ..Model::default() };
                let gallery = if folder.join("gallery.db").exists() {
                    Store::write(folder, true)?
                } else {
                    Store::create(folder, &model)?
                };
                let start = Instant::now();
                gallery.enrol(&templates, rows.slice(0..count))?;
                println!("{}", start.elapsed().as_secs_f64());
                continue;
            }
            "reduce" => drop(Store::write(folder, true)?.reduce()?),
            #[cfg(feature = "ann")]
            "index" => drop(gallery::Approximate::new(Store::write(folder, true)?, 0).index()?),
            #[cfg(feature = "ann")]
            "effort" => {
                let effort = number(1, 128)?;
                now = Some(gallery::Approximate::new(Store::open(folder)?, effort).snapshot()?);
            }
            "memory" => {
                let status = std::fs::read_to_string("/proc/self/status")?;
                let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
                println!("{}", most.ok_or("no VmHWM")?.parse::<u64>()? * 1024);
                continue;
            }
            "filter" => {
                let all = opened(&now).map(|()| now.as_ref().expect("open").count(&Filter::default()))??;
                let (from, tenth) = ((all / 2) as i64, (all / 10) as i64);
                filter = match words.get(1).copied().unwrap_or_default() {
                    "window" => Filter { from: Some(from), until: Some(from + tenth), ..Filter::default() },
                    "scattered" => Filter { tags: vec![SCATTERED.to_owned()], ..Filter::default() },
                    "none" => Filter::default(),
                    other => return Err(format!("`{other}`: not a filter").into()),
                };
            }
            "open" => now = Some(Store::open(folder)?.snapshot()?),
            "batch" => {
                opened(&now)?;
                let ask = Ask { filter: filter.clone(), ..Ask::nearest(number(1, 10)?) };
                now.as_ref().expect("open").search(probes, &ask)?;
            }
            "one" => {
                opened(&now)?;
                let ask = Ask { filter: filter.clone(), ..Ask::nearest(number(1, 10)?) };
                for probe in 0..number(2, 10)?.min(probes.rows()) {
                    now.as_ref().expect("open").search(probes.slice(probe..probe + 1), &ask)?;
                }
            }
            "ids" => {
                opened(&now)?;
                let ask = Ask { filter: filter.clone(), ..Ask::nearest(number(1, 10)?) };
                let found = now.as_ref().expect("open").search(probes, &ask)?;
                let ids: Vec<Vec<u64>> =
                    found.iter().map(|hits| hits.iter().map(|hit| hit.id.0 - 1).collect()).collect();
                println!("{}", serde_json::to_string(&ids)?);
                continue;
            }
            "product" => product(probes, rows()?),
            "read" => read(rows()?),
            other => return Err(format!("`{other}`: not a command").into()),
        }
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The tag of about a tenth of the rows.
const SCATTERED: &str = "scattered";

/// Whether a row has it: those that have look random.
fn is_scattered(row: usize) -> bool {
    row as u64 * 2_654_435_761 % (1 << 32) < (1 << 32) / 10
}

/// The product of all probes and rows with the library that the search uses, in its tiles and threads: what a search
/// cannot be faster than without computing less.
fn product(probes: Rows<'_>, rows: Rows<'_>) {
    let groups = probes.rows().div_ceil(256).next_multiple_of(rayon::current_num_threads());
    let size = probes.rows().div_ceil(groups);
    (0..groups).into_par_iter().for_each(|group| {
        let probes = probes.slice((group * size).min(probes.rows())..probes.rows().min((group + 1) * size));
        let left = ArrayView2::from_shape((probes.rows(), probes.cols()), probes.data()).expect("its shape");
        let mut out = vec![0.0; probes.rows() * 1024];
        for start in (0..rows.rows()).step_by(1024) {
            let rows = rows.slice(start..rows.rows().min(start + 1024));
            let right = ArrayView2::from_shape((rows.rows(), rows.cols()), rows.data()).expect("its shape");
            let out = &mut out[..probes.rows() * rows.rows()];
            let mut out = ArrayViewMut2::from_shape((probes.rows(), rows.rows()), out).expect("its shape");
            general_mat_mul(1.0, &left, &right.t(), 0.0, &mut out);
        }
        std::hint::black_box(&out);
    });
}

/// Reads every value: what one probe's search cannot be faster than.
fn read(rows: Rows<'_>) {
    let sums = rows.data().par_chunks(1 << 18).map(|values| AutoArch::new().dispatch(Read(values)));
    std::hint::black_box(sums.sum::<f32>());
}

struct Read<'a>(&'a [f32]);

impl WithSimd for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> f32 {
        let mut sums = [0.0; 128];
        let (chunks, _) = self.0.as_chunks::<128>();
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
        }
        sums.iter().sum()
    }
}
