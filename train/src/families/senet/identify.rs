//! What frontalisation is for: profile views that find their person among frontal pictures.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor, TensorData};
use metrics::verification::Roc;
use metrics::{Distances, Label, Matrix, MetricsError};
use serde::Serialize;

use crate::families::faces::gather;
use crate::families::senet::net::{SenetOutput, SenetTripletNetwork};
use crate::nn::dropout::Masks;
use crate::nn::vector::unit_values;

use super::data::FacePairs;

/// Frames turned at least this far, in degrees, are profile views.
const PROFILE: f32 = 45.0;

/// False accept rate at which the true accept rate is told.
const FAR: f64 = 1e-3;

/// Rows in the network at a time.
const BATCH: usize = 256;

/// Figures of profile probes against frontal pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identification {
    /// Profile views of the people that are looked for.
    pub probes: usize,
    /// Frontal pictures of everybody.
    pub gallery: usize,
    /// Embeddings, unchanged.
    pub untouched: Way,
    /// Frontalised probes against untouched frontal pictures.
    pub frontalised: Way,
    /// Identity features of both.
    pub identity: Way,
}

/// One way to compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// Mean cosine of a probe and the frontal pictures of its person.
    pub cosine: f64,
    /// Share of the probes whose most similar picture is of their person.
    pub rank1: f64,
    /// True accept rate at a false accept rate of 0.001.
    pub tar: f64,
}

/// Looks for profile views of `wanted` people among the frontal pictures of everybody; none where there is no such
/// view.
pub fn identify(
    net: &SenetTripletNetwork,
    pairs: &FacePairs,
    wanted: &[usize],
    device: &Device,
) -> Result<Option<Identification>, MetricsError> {
    let profile = |row: &usize| pairs.poses.row(*row)[0].abs() >= PROFILE;
    // A frame is in as many pairs as its person has frontal pictures.
    let probes: BTreeSet<(usize, usize)> = pairs
        .pairs
        .iter()
        .filter(|[_, video, person]| wanted.contains(person) && profile(video))
        .map(|[_, video, person]| (*person, *video))
        .collect();
    if probes.is_empty() {
        return Ok(None);
    }
    let (of_probe, video): (Vec<usize>, Vec<usize>) = probes.into_iter().unzip();
    let people = pairs.people.met.iter().enumerate();
    let gallery = people.flat_map(|(person, met)| met.front.iter().map(move |row| (person, *row)));
    let (of_entry, front): (Vec<usize>, Vec<usize>) = gallery.unzip();
    let through = |features: &Matrix, poses: &Matrix, rows: &[usize]| {
        let (mut frontal, mut identity) = (Vec::new(), Vec::new());
        for rows in rows.chunks(BATCH) {
            let input = |matrix: &Matrix| {
                let values = gather(matrix, rows.iter().copied());
                Tensor::<2>::from_data(TensorData::new(values, [rows.len(), matrix.cols()]), device)
            };
            let SenetOutput { front_features, identity_features, .. } =
                net.forward(input(features), input(poses), &mut Masks::none());
            frontal.extend(front_features.into_data().iter::<f32>());
            identity.extend(identity_features.into_data().iter::<f32>());
        }
        (frontal, identity)
    };
    let (frontal, probe_identity) = through(&pairs.video, &pairs.poses, &video);
    let (_, entry_identity) = through(&pairs.front, &pairs.front_poses, &front);
    let untouched = gather(&pairs.video, video);
    let entries = gather(&pairs.front, front);
    let compare = |probes: &[f32], entries: &[f32]| compare(probes, &of_probe, entries, &of_entry);
    Ok(Some(Identification {
        probes: of_probe.len(),
        gallery: of_entry.len(),
        untouched: compare(&untouched, &entries)?,
        frontalised: compare(&frontal, &entries)?,
        identity: compare(&probe_identity, &entry_identity)?,
    }))
}

fn compare(probes: &[f32], of_probe: &[usize], entries: &[f32], of_entry: &[usize]) -> Result<Way, MetricsError> {
    let unit = |values: &[f32], rows: usize| {
        let dim = (values.len() / rows).max(1);
        Matrix::new(unit_values(values, dim), rows, dim)
    };
    let (rows, entry_rows) = (unit(probes, of_probe.len())?, unit(entries, of_entry.len())?);
    let distance = metrics::cosine_distance(&rows, &entry_rows)?.matrix();
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    for (probe, person) in of_probe.iter().enumerate() {
        for (other, distance) in of_entry.iter().zip(distance.row(probe)) {
            if person == other { genuine.push(1.0 - distance) } else { impostor.push(1.0 - distance) }
        }
    }
    let label = |camera: i64| move |person: &usize| Label { identity: *person as i64 + 1, camera };
    let probes: Vec<Label> = of_probe.iter().map(label(1)).collect();
    let entries: Vec<Label> = of_entry.iter().map(label(2)).collect();
    Ok(Way {
        cosine: genuine.iter().copied().map(f64::from).sum::<f64>() / genuine.len().max(1) as f64,
        rank1: metrics::rank(&distance, &probes, &entries)?.rank(1),
        tar: Roc::new(&genuine, &impostor)?.tar_at_far(FAR)?.tar,
    })
}
