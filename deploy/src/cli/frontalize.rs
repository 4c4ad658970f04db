//! `deploy frontalize`: embeddings of any view to embeddings of the frontal view.

use std::path::PathBuf;
use std::process::ExitCode;

use files::npy::{Array, encode};
use files::table::Writer;

use super::args::{FrontalizeArgs, ModelArgs, PairArgs, RunArgs};
use super::shared::{collect, embed_options, list, open, print};
use crate::DeployError;
use crate::frontalize::Frontalizer;
use crate::gallery::{self, Embeddings, Gallery};
use crate::poses::Poses;

/// Why there is no key file.
const PLAIN: &str = "frontal embeddings are written as a .npy, which is not encrypted";

pub(crate) fn run(args: &FrontalizeArgs) -> Result<ExitCode, DeployError> {
    if args.key_file.is_some() {
        return Err(DeployError::Unused { flag: "--key-file", why: PLAIN.to_owned() });
    }
    // The contract that is given is that of the foreign model: the embedder where there is one.
    let contract = if args.model.is_some() { None } else { args.run.contract.clone() };
    let frontalizer = ModelArgs { model: args.frontalize.clone(), run: RunArgs { contract, ..args.run.clone() } };
    let frontalizer = open(&frontalizer, 1)?;
    let frontalizer = Frontalizer::new(&frontalizer)?;
    let poses = Poses::read(&args.poses, frontalizer.angles())?;
    let (before, after, pictures) = match &args.model {
        None => {
            let values = read(&args.input, frontalizer.dim())?;
            let after = frontalizer.apply(&values, poses.all(values.len() / frontalizer.dim())?)?;
            (values, after, None)
        }
        Some(model) => {
            let pictures = list(&args.input, &PairArgs::default(), None, args.reading.strict)?;
            let embedder = ModelArgs { model: model.clone(), run: args.run.clone() };
            let options = embed_options(&embedder, &args.reading);
            let embedder = open(&embedder, pictures.len())?;
            let mut embeddings = collect(&embedder, &pictures, "embed", &options)?.embeddings;
            let before = embeddings.values.clone();
            frontalizer.apply_to(&mut embeddings, &pictures, &poses)?;
            (before, embeddings.values, Some(embeddings.templates))
        }
    };
    let rows = after.len() / frontalizer.dim();
    files::write_private(&args.out, encode(&[rows, frontalizer.dim()], &after))?;
    if let Some(templates) = &pictures {
        // Pictures that cannot be used have no row, so the number of a row does not say whose it is.
        let mut table = Writer::for_people(&["row", "picture"]);
        for (row, template) in templates.iter().enumerate() {
            table.row([row.to_string(), template.path.to_string_lossy().into_owned()]);
        }
        files::write_private(&args.out.with_extension("csv"), table.finish())?;
    }
    let cosine = |(a, b): (&[f32], &[f32])| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
    };
    let pairs = before.chunks_exact(frontalizer.dim()).zip(after.chunks_exact(frontalizer.dim()));
    let mean = pairs.map(cosine).sum::<f64>() / rows.max(1) as f64;
    print(&format!(
        "{rows} frontal embeddings of {} values in {}; mean cosine to what they were {mean:.4}\n",
        frontalizer.dim(),
        args.out.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Embeddings of `dim` values from one `.npy`, or from a folder that `deploy embed` wrote.
fn read(input: &[PathBuf], dim: usize) -> Result<Vec<f32>, DeployError> {
    let [path] = input else { return Err(DeployError::OneInput { found: input.len() }) };
    let wrong = |problem: String| DeployError::Features { path: path.clone(), problem };
    let (values, rows, found) = if gallery::is_gallery(path) {
        if gallery::is_encrypted(path)? {
            let meant = "`deploy gallery export` writes its rows in plain, if that is what is meant";
            return Err(wrong(format!("it is encrypted, and {PLAIN}; {meant}")));
        }
        let Embeddings { values, templates, dim, .. } = Gallery::open(path)?.load()?;
        (values, templates.len(), dim)
    } else {
        let bytes = files::read_limited(path, files::LARGEST_ARRAY);
        let bytes = bytes.map_err(|source| DeployError::Read { path: path.clone(), source })?;
        Array::decode(&bytes).and_then(Array::into_matrix).map_err(|error| wrong(error.to_string()))?
    };
    if found != dim || rows == 0 {
        return Err(wrong(format!("shape [{rows}, {found}]; [rows, {dim}] with at least one row is needed")));
    }
    for (at, row) in values.chunks_exact(dim).enumerate() {
        if !row.iter().all(|value| value.is_finite()) {
            return Err(wrong(format!("row {at} is not finite")));
        }
        if row.iter().all(|value| *value == 0.0) {
            return Err(wrong(format!("row {at} is only zeros; an embedding has a direction")));
        }
    }
    Ok(values)
}
