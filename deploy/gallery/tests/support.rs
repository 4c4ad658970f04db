//! Rows and templates that are the same in every run.

use std::path::Path;

use gallery::{Engine, Filter, Model, NewTemplate, Rows, Snapshot, TemplateId};

/// A folder in memory where there is one: a process that is killed leaves the same on any disk, and waiting for a real
/// one thousands of times takes minutes.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Numbers that look random.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number (SplitMix64, Steele et al. 2014).
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    /// -1 to 1.
    pub fn value(&mut self) -> f32 {
        (self.roll() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

pub fn model(dim: usize) -> Model {
    Model { contract_id: "0123456789abcdef".into(), dim, architecture: "Tiny".into(), sha256: String::new() }
}

/// Rows of unit length, some of them near each other and some equal.
pub fn unit_rows(dice: &mut Dice, rows: usize, dim: usize) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        let near = (row > 0).then(|| dice.below(row) * dim);
        match (dice.below(8), near) {
            (0, Some(at)) => values.extend_from_within(at..at + dim),
            (1, Some(at)) => {
                let near: Vec<f32> = values[at..at + dim].iter().map(|value| value + 0.05 * dice.value()).collect();
                values.extend(near);
            }
            _ => values.extend((0..dim).map(|_| dice.value())),
        }
        normalise(&mut values[row * dim..]);
    }
    values
}

pub fn normalise(row: &mut [f32]) {
    let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length < 1e-6 {
        row.fill(0.0);
        row[0] = 1.0;
        return;
    }
    row.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
}

/// The row that belongs to a name, so that a test can tell whose row it has.
pub fn row_of(name: &str, dim: usize) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    let mut dice = Dice(seed);
    let mut row: Vec<f32> = (0..dim).map(|_| dice.value()).collect();
    normalise(&mut row);
    row
}

pub fn named(name: &str) -> NewTemplate {
    NewTemplate { subject: Some(name.into()), source: format!("{name}.jpg"), ..NewTemplate::default() }
}

/// Enrols one template for each name, with the row of the name.
pub fn enrol(engine: &dyn Engine, names: &[&str], dim: usize) -> Result<Vec<TemplateId>, gallery::GalleryError> {
    let values: Vec<f32> = names.iter().flat_map(|name| row_of(name, dim)).collect();
    let templates: Vec<NewTemplate> = names.iter().map(|name| named(name)).collect();
    engine.enrol(&templates, Rows::new(&values, names.len(), dim).unwrap())
}

/// The names of all templates in order of their ids, after every row was found to be the one it was enrolled with: of
/// the name in its source.
pub fn names(snapshot: &dyn Snapshot, dim: usize) -> Vec<String> {
    let ids = snapshot.select(&Filter::default()).unwrap();
    let values = snapshot.vectors(&ids).unwrap().unwrap();
    let templates = snapshot.templates(&ids).unwrap();
    for (template, row) in templates.iter().zip(values.chunks_exact(dim)) {
        let name = template.about.source.strip_suffix(".jpg").unwrap();
        assert_eq!(row, row_of(name, dim), "the row of {name}");
    }
    templates.into_iter().map(|template| template.about.subject.unwrap()).collect()
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}
