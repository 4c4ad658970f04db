//! What can go wrong between a model file and a ranked match.

use std::path::PathBuf;

use contract::{ContractError, preprocess::PictureError};
use onnxruntime::RuntimeError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// `ORT_DYLIB_PATH` is wrong.
    #[error("{}", onnxruntime::advice(std::path::Path::new(onnxruntime::LIBRARY)))]
    Locate(#[from] RuntimeError),
    /// The ONNX Runtime library does not load or is too old.
    #[error("{}", onnxruntime::advice(path))]
    Load {
        /// The library.
        path: PathBuf,
        /// The cause.
        source: ort::LoadDynamicError,
    },
    /// ONNX Runtime failed at something.
    #[error("ONNX Runtime cannot {what}")]
    Runtime {
        /// What it was asked to do.
        what: String,
        /// The cause.
        source: ort::Error,
    },
    /// What was asked for is not a part of this build of the program.
    #[error("`{what}` needs a program that was built with `--features {feature}`; this one was not")]
    NotBuiltIn {
        /// What was asked for.
        what: &'static str,
        /// The feature.
        feature: &'static str,
    },
    /// The runtime in Rust alone does not open or run a model.
    #[error(
        "rten cannot run model `{}`: {problem}; install ONNX Runtime with `{}`",
        path.display(),
        onnxruntime::install()
    )]
    Rten {
        /// The model file.
        path: PathBuf,
        /// What it says.
        problem: String,
    },
    /// The execution provider that was asked for does not run here.
    #[error("execution provider `{provider}` does not run with ONNX Runtime at `{}`; ask for `cpu` or `auto`, or: {}",
        library.display(), advice)]
    Provider {
        /// The provider.
        provider: String,
        /// What to do.
        advice: &'static str,
        /// The library.
        library: PathBuf,
        /// The cause.
        source: ort::Error,
    },
    /// The execution provider that was asked for leaves nodes to others.
    #[error(
        "execution provider `{provider}` does not run {missed} of model `{}`; ask for `auto`, which may leave nodes to \
         the CPU, or for `cpu`",
        path.display()
    )]
    Placement {
        /// The model file.
        path: PathBuf,
        /// The provider.
        provider: String,
        /// How many nodes it leaves, of how many, and the first of them.
        missed: String,
    },
    /// A combination that was to be measured failed in a process of its own, which said why.
    #[error("model `{}` on `{provider}` with threads {threads} and batch {batch} was not measured; see above",
        path.display())]
    Unmeasured {
        /// The model file.
        path: PathBuf,
        /// The provider.
        provider: String,
        /// Threads, as asked for.
        threads: usize,
        /// Pictures in a run.
        batch: usize,
    },
    /// The model file was refused before ONNX Runtime saw it.
    #[error(transparent)]
    ModelFile(#[from] onnx::ModelFileError),
    /// The pictures that are in memory at a time would take too much of it.
    #[error(
        "{lanes} batches of {batch_size} pictures at a time would take {bytes} bytes, {allowed} are allowed; ask for \
         fewer with --batch-size or --threads"
    )]
    BatchMemory {
        /// Batches at a time.
        lanes: usize,
        /// Pictures in each.
        batch_size: usize,
        /// Bytes of the network's inputs.
        bytes: u128,
        /// Most that are allowed.
        allowed: u128,
    },
    /// Poses that are malformed or do not go with what they are for.
    #[error("poses `{}`: {problem}", path.display())]
    Poses {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Embeddings in a `.npy` file that do not fit.
    #[error("embeddings `{}`: {problem}", path.display())]
    Features {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Several inputs where one file or folder of embeddings is needed.
    #[error("{found} inputs; one .npy or embeddings folder is needed, or pictures and an embedder with `--model`")]
    OneInput {
        /// How many.
        found: usize,
    },
    /// The model carries no contract.
    #[error("model `{0}` carries no contract; `deploy adopt {0}` makes a bundle of a foreign model, `--contract \
        FILE.json` describes one, and `export --onnx` exports one of ours", path.display())]
    NoContract {
        /// The model file.
        path: PathBuf,
    },
    /// The model carries a contract and another was given.
    #[error("model `{}` carries its own contract; leave `--contract {}` out", path.display(), given.display())]
    TwoContracts {
        /// The model file.
        path: PathBuf,
        /// The contract file.
        given: PathBuf,
    },
    /// Somebody else's model cannot be adopted.
    #[error("cannot adopt `{}`: {problem}", path.display())]
    Adopt {
        /// The model file.
        path: PathBuf,
        /// What is in the way, and what is possible.
        problem: String,
    },
    /// What a model's graph cannot say, and nobody has said.
    #[error(
        "the graph of `{}` does not say all that is needed; add{}{}",
        path.display(),
        questions.iter().map(|question| format!("\n  {question}")).collect::<String>(),
        if presets.is_empty() { String::new() } else {
            format!("\nor `--preset NAME`, which says how the models of a project see pictures: {presets}")
        }
    )]
    Unsaid {
        /// The model file.
        path: PathBuf,
        /// A flag and its meaning each.
        questions: Vec<String>,
        /// The presets that could answer them; none where one is given.
        presets: String,
    },
    /// The contract is malformed.
    #[error("contract in `{}`", path.display())]
    Contract {
        /// The model or the contract file.
        path: PathBuf,
        /// The cause.
        source: ContractError,
    },
    /// Contract and graph disagree.
    #[error(
        "model `{}`: contract and graph disagree on {what}: the contract says {declared}, the graph has {found}",
        path.display()
    )]
    Disagree {
        /// The model file.
        path: PathBuf,
        /// Which input or output, and what of it.
        what: String,
        /// What the contract says.
        declared: String,
        /// What the graph has.
        found: String,
    },
    /// Weights beside the model are not those it was written with.
    #[error(
        "`{file}` beside model `{}` is damaged or replaced: its SHA-256 is {sha256}, its name promises {promised}…; \
         copy both files again",
        path.display()
    )]
    Weights {
        /// The model file.
        path: PathBuf,
        /// The file with the weights.
        file: String,
        /// First digits of the SHA-256 that its name promises.
        promised: String,
        /// What it has.
        sha256: String,
    },
    /// The model's outputs for its golden input are not those it was exported with.
    #[error("model `{}` fails its self-test: output `{output}` differs by up to {max_diff:.3e} from the values it was \
        exported with, first at element {at}; {tolerance:.1e} is allowed. The file is damaged, or this runtime \
        computes wrongly", path.display())]
    SelfTest {
        /// The model file.
        path: PathBuf,
        /// The output.
        output: String,
        /// Largest difference; NaN when a value is not finite.
        max_diff: f32,
        /// Index of the first element that differs too much, in row-major order.
        at: usize,
        /// Allowed difference.
        tolerance: f32,
    },
    /// A model file of a newer format than the library reads.
    #[error(
        "model `{}` needs {wanted}, this ONNX Runtime reads at most {available}: export it again with an older \
         operator set (`export --opset`), or install a newer ONNX Runtime",
        path.display()
    )]
    TooNew {
        /// The model file.
        path: PathBuf,
        /// The version it has.
        wanted: String,
        /// The newest version that the library reads.
        available: String,
    },
    /// The model is of an operator set of which ONNX Runtime does not run all operators any more.
    #[error(
        "model `{0}` is of operator set {found}, of which ONNX Runtime does not run all; it does from {oldest} on: \
         export it again with a newer one, or in Python, \
         `onnx.save(onnx.version_converter.convert_version(onnx.load(\"{0}\"), 17), \"newer.onnx\")`",
        path.display()
    )]
    TooOld {
        /// The model file.
        path: PathBuf,
        /// Its operator set.
        found: i64,
        /// The oldest that is run whole.
        oldest: i64,
        /// What the library does not run.
        source: ort::Error,
    },
    /// A batch norm of an old operator set contradicts itself.
    #[error(
        "model `{}`: the BatchNormalization that gives `{output}` has `spatial` 0, which means a scale for each \
         value, and one for each channel; take the attribute away: in Python, `[n.attribute.remove(a) for n in \
         model.graph.node for a in [*n.attribute] if a.name == \"spatial\"]`",
        path.display()
    )]
    Spatial {
        /// The model file.
        path: PathBuf,
        /// What the node gives.
        output: String,
    },
    /// The golden vectors do not fit the model.
    #[error("model `{}`: its golden vectors {problem}", path.display())]
    Golden {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The model is for something else.
    #[error("model `{}` ({architecture}, family {family}) does not {task}: {problem}", path.display())]
    Task {
        /// The model file.
        path: PathBuf,
        /// The network.
        architecture: String,
        /// Its family.
        family: String,
        /// What is asked of it.
        task: &'static str,
        /// What is missing.
        problem: String,
    },
    /// A file name whose extension is that of a format that is not written.
    #[error("the extension of `{}` is not that of a format that can be written: {allowed}", path.display())]
    Ending {
        /// The name.
        path: PathBuf,
        /// Endings that can be written.
        allowed: &'static str,
    },
    /// A pose with the wrong number of angles.
    #[error("a pose has {found} angles, the model needs {needed}")]
    Pose {
        /// Angles given.
        found: usize,
        /// Angles needed.
        needed: usize,
    },
    /// The model gave a value that is not finite.
    #[error("the model's features of `{}` are not finite", path.display())]
    NotFinite {
        /// The picture.
        path: PathBuf,
    },
    /// A batch whose length does not match its rows.
    #[error("a batch of {rows} rows has {found} values, {needed} are needed")]
    Batch {
        /// Rows.
        rows: usize,
        /// Values given.
        found: usize,
        /// Values needed.
        needed: usize,
    },
    /// A model was given the wrong number of inputs.
    #[error("`{}` takes {needed} inputs, {found} given", path.display())]
    Inputs {
        /// The model.
        path: PathBuf,
        /// Inputs given.
        found: usize,
        /// Inputs it has.
        needed: usize,
    },
    /// A row with more or fewer pictures than the model has inputs.
    #[error(
        "the model takes {} a row ({}), `{}` comes with {found}; {}",
        if inputs.len() == 1 { "1 picture".to_owned() } else { format!("{} pictures", inputs.len()) },
        inputs.join(", "), path.display(),
        match inputs.len() {
            1 => "give one picture, or a folder of single pictures without `--pairs`",
            _ => "folders of pairs are read with `--pairs`",
        }
    )]
    Modalities {
        /// The row's first picture.
        path: PathBuf,
        /// Its pictures.
        found: usize,
        /// The model's inputs.
        inputs: Vec<String>,
    },
    /// A picture is missing that the model needs.
    #[error(
        "the model needs a {missing} picture: name it with `--{missing} FILE` (only a model trained with \
         --modality-dropout can do without)"
    )]
    MissingModality {
        /// The input.
        missing: String,
    },
    /// The model was exported without its attention weights, or has none.
    #[error(
        "`{}` gives no attention weights: export its checkpoint again with `export --onnx CHECKPOINT --attention`",
        path.display()
    )]
    NoAttention {
        /// The model file.
        path: PathBuf,
    },
    /// Attention weights that do not belong together.
    #[error(
        "`{}` gives {} values in output `{}` and {} in `{}`; both need the same number, at least 1",
        path.display(), found[0], outputs[0], found[1], outputs[1]
    )]
    AttentionValues {
        /// The model file.
        path: PathBuf,
        /// Its outputs for palm and vein.
        outputs: [String; 2],
        /// How many values each has.
        found: [usize; 2],
    },
    /// A drawing cannot be encoded.
    #[error("cannot encode `{}`", path.display())]
    Draw {
        /// The file it was for.
        path: PathBuf,
        /// The cause.
        source: image::ImageError,
    },
    /// Nobody of that name is enrolled.
    #[error("`{identity}` is not enrolled in `{}`", gallery.display())]
    NotEnrolled {
        /// The name.
        identity: String,
        /// The gallery.
        gallery: PathBuf,
    },
    /// There is no threshold to decide by.
    #[error(
        "the model's contract has no threshold for a false accept rate of {rate} or less{}{}; measure it with `deploy \
         calibrate --far {rate}`, or give one with `--threshold`",
        if *templates > 1 { format!(" ({far} over the {templates} templates)") } else { String::new() },
        if *unfit > 0 { format!(", and {unfit} measured for another decision") } else { String::new() },
        rate = three_digits(far / *templates as f64)
    )]
    NoThreshold {
        /// The rate asked for.
        far: f64,
        /// Templates of the person.
        templates: usize,
        /// Thresholds that are for another decision, and do not count.
        unfit: usize,
    },
    /// There is no threshold for a search in a gallery of this size.
    #[error(
        "the model's contract has no threshold for a false positive identification rate of {fpir} among {people} \
         people{}; measure it with `deploy calibrate --fpir {fpir}{}` on pictures of more than {people} people{}, or \
         give one with `--min-similarity`",
        match templates {
            Some(0 | 1) => " with 1 template each".to_owned(),
            Some(templates) => format!(" with up to {templates} templates each"),
            None => ", some with more templates than others, whose means differ".to_owned(),
        },
        several(*templates).map_or_else(String::new, |templates| format!(" --templates {templates}")),
        several(*templates).map_or_else(String::new, |templates| format!(", {templates} or more of each"))
    )]
    NoFpir {
        /// The rate asked for.
        fpir: f64,
        /// People in the gallery.
        people: u64,
        /// Most templates of a person; `None` if it matters that some have fewer.
        templates: Option<u64>,
    },
    /// A flag was given that changes nothing.
    #[error("`{flag}` changes nothing here: {why}; leave it out")]
    Unused {
        /// The flag.
        flag: &'static str,
        /// Why.
        why: String,
    },
    /// A pattern of file names that is none, or matches nothing.
    #[error("the pattern `{}` names no pictures: {problem}", path.display())]
    Pattern {
        /// The pattern.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A video or camera whose frames cannot be read.
    #[error("cannot read the video `{}`: {problem}", path.display())]
    Video {
        /// The file, device or address.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Pictures among which there is nothing to compare, or nobody to search for.
    #[error("`{}` cannot calibrate: {problem}", path.display())]
    Uncalibratable {
        /// Their folder.
        path: PathBuf,
        /// What is missing, and how it comes about.
        problem: String,
    },
    /// The data are too few for any of the rates.
    #[error(
        "{trials} pairs of people are too few to measure a false accept rate of {}; use more people, or a larger --far",
        easiest(far)
    )]
    NoCalibration {
        /// Pairs of two people; pairs of their pictures are not independent of each other.
        trials: u64,
        /// Rates asked for.
        far: Vec<f64>,
    },
    /// A picture is unreadable and `--strict` was given.
    #[error("{count} of {of} pictures cannot be used (--strict)")]
    Strict {
        /// Unusable pictures so far.
        count: usize,
        /// Pictures in all.
        of: usize,
        /// The first.
        source: PictureError,
    },
    /// The one picture that is asked about is unreadable.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Not one picture could be read.
    #[error("none of the {of} pictures can be used")]
    NoneReadable {
        /// Pictures in all.
        of: usize,
        /// What is wrong with the first.
        source: PictureError,
    },
    /// A mistake of ours, or of a library, that would else have ended the program.
    #[error("the program met a case it was not written for; please report it: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// More entries of a probe are to be re-ranked than is allowed.
    #[error("re-ranking {n} entries of each probe compares each with each; 1 to {most} are allowed")]
    RerankTop {
        /// Entries asked for.
        n: usize,
        /// Entries allowed.
        most: usize,
    },
    /// More rows are to be re-ranked together than is allowed.
    #[error(
        "re-ranking all of {probes} probes and {rows} entries compares each with each; at most {most} together are \
         allowed. `--rerank-top N` re-ranks the N nearest entries of each probe"
    )]
    RerankAll {
        /// Probes.
        probes: usize,
        /// Entries.
        rows: usize,
        /// Both together that are allowed.
        most: usize,
    },
    /// There is nothing to embed.
    #[error("there are no pictures to embed")]
    NoPictures,
    /// A file or folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// An embeddings folder is damaged.
    #[error("embeddings in `{}`: {problem}", path.display())]
    Embeddings {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file of an embeddings folder is not JSON of the right form.
    #[error("embeddings in `{}`: not the JSON this program writes", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// Another process changes the gallery.
    #[error("{0}; `--wait` waits until it is done")]
    Locked(files::lock::LockError),
    /// Another process changes the gallery, which migrates to another model.
    #[error("{0}; `--wait` waits until it is done")]
    Migrating(::gallery::GalleryError),
    /// A migration to another model was interrupted.
    #[error("{0}; finish it with its own model, or forget what it embedded with `--restart`")]
    OtherMigration(::gallery::GalleryError),
    /// Templates cannot be embedded again.
    #[error(
        "{lost} of {of} templates of `{}` cannot be embedded again, so it keeps its model; {}{}",
        path.display(),
        if *lost as u64 == *of {
            "a disk may not be mounted, or give their new folder with `--pictures`"
        } else {
            "repeat the command when their pictures are there, which goes on where it was, or remove them with \
             `--drop-missing`"
        },
        match changed {
            0 => String::new(),
            _ => format!("; `--take-changed` takes {changed} changed pictures as they are"),
        }
    )]
    NotMigrated {
        /// The gallery.
        path: PathBuf,
        /// How many.
        lost: usize,
        /// Of how many.
        of: u64,
        /// Those of them whose pictures changed.
        changed: usize,
    },
    /// A gallery cannot be locked.
    #[error(transparent)]
    Lock(files::lock::LockError),
    /// The folder that embeddings are written to holds some already.
    #[error(
        "`{}` holds embeddings already ({rows} rows); `--replace` removes them, `deploy enroll` adds to them",
        path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// Its rows, as far as they can be read.
        rows: String,
    },
    /// A gallery cannot do what it was asked for.
    #[error(transparent)]
    Gallery(::gallery::GalleryError),
    /// There is no gallery.
    #[error("{0}; `deploy enroll` makes one of pictures of people, `deploy embed` of a folder")]
    NoGallery(::gallery::GalleryError),
    /// A folder that is no bundle.
    #[error(
        "`{}` has no model.onnx{}",
        path.display(),
        match bundles.as_slice() {
            [] => "; a model file or the folder of a bundle is needed".to_owned(),
            names => format!("; name one of the bundles in it: {}", names.join(", ")),
        }
    )]
    NoBundle {
        /// The folder.
        path: PathBuf,
        /// Names of the bundles in it, some of many.
        bundles: Vec<String>,
    },
    /// The gallery is of the older layout and was to be changed.
    #[error(
        "`{0}` is a gallery of the older layout (embeddings.npy), which is only read; `deploy gallery import {0}` \
         converts it",
        path.display()
    )]
    Older {
        /// The gallery.
        path: PathBuf,
    },
    /// A gallery is to be searched approximately and has no index for it.
    #[error(
        "gallery `{0}` has no index for approximate searches; `deploy gallery index {0} --kind ann` makes one",
        path.display()
    )]
    NoIndex {
        /// The gallery.
        path: PathBuf,
    },
    /// A table of pictures that is malformed.
    #[error("table `{}`: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Files are written where some are already.
    #[error("`{}` is not empty; a new or an empty folder is needed", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Something is missing on the command line.
    #[error("`{flag}` is needed: {why}")]
    Needed {
        /// The flag.
        flag: &'static str,
        /// What for.
        why: String,
    },
    /// The gallery was embedded by another model.
    #[error(
        "gallery `{}` was embedded by another model: its contract id is `{gallery}`, that of `{}` is `{model}`{}",
        path.display(),
        model_path.display(),
        way_out(path, model_path)
    )]
    OtherModel {
        /// The gallery.
        path: PathBuf,
        /// The gallery's contract id.
        gallery: String,
        /// The model's contract id.
        model: String,
        /// The model file.
        model_path: PathBuf,
    },
    /// A service that other machines reach would let everybody in.
    #[error(
        "`--listen {listen}` can be reached from other machines, and nobody says who may: name keys with `--keys FILE` \
         (`deploy keys add` makes one), or listen on a loopback address such as 127.0.0.1:8080"
    )]
    NoKeys {
        /// Where it would listen.
        listen: std::net::SocketAddr,
    },
    /// A service cannot listen.
    #[error("cannot listen on `{listen}` (--listen)")]
    Listen {
        /// Where.
        listen: std::net::SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// Certificate or key of a service cannot be used.
    #[error("`{}`: {problem}; `--tls-cert` and `--tls-key` take PEM files that go together", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file of keys cannot be used.
    #[error("keys `{}`: {problem}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A dataset cannot be used.
    #[error(transparent)]
    Dataset(#[from] datasets::DatasetError),
    /// Metrics cannot be computed.
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
    /// A file cannot be written, by the crate that replaces files whole.
    #[error(transparent)]
    Files(#[from] files::WriteError),
}

/// A rate rounded down to three digits, as one would type it.
fn three_digits(rate: f64) -> f64 {
    let scale = 10_f64.powi(2 - rate.log10().floor() as i32);
    // A product of decimals may miss a whole number by rounding.
    (rate * scale + 1e-9).floor() / scale
}

/// A number of templates each, where it is more than one.
fn several(templates: Option<u64>) -> Option<u64> {
    templates.filter(|templates| *templates > 1)
}

/// What can be done with a gallery of another model.
fn way_out(gallery: &std::path::Path, model: &std::path::Path) -> String {
    if ::gallery::address(gallery).is_some() {
        return "; enrol its pictures in another gallery".to_owned();
    }
    let (gallery, model) = (gallery.display(), model.display());
    format!("; `deploy gallery migrate {gallery} --model {model}` embeds its pictures again")
}

/// The largest of the rates, which needs the fewest people.
fn easiest(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

impl From<::gallery::GalleryError> for DeployError {
    fn from(error: ::gallery::GalleryError) -> Self {
        match error {
            ::gallery::GalleryError::Locked(error) => error.into(),
            none @ ::gallery::GalleryError::NoGallery { .. } => Self::NoGallery(none),
            migrating @ ::gallery::GalleryError::Migrating { .. } => Self::Migrating(migrating),
            ::gallery::GalleryError::KeyNeeded { path } => {
                Self::Needed { flag: "--key-file", why: format!("`{}` is encrypted", path.display()) }
            }
            other @ ::gallery::GalleryError::OtherMigration { .. } => Self::OtherMigration(other),
            other => Self::Gallery(other),
        }
    }
}

impl From<files::lock::LockError> for DeployError {
    fn from(error: files::lock::LockError) -> Self {
        match error {
            files::lock::LockError::Held { .. } => Self::Locked(error),
            other => Self::Lock(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_typed_with_three_digits_and_never_above() {
        for (rate, typed) in
            [(0.001 / 3.0, 0.000333), (0.1 / 11.0, 0.00909), (0.01 / 4.0, 0.0025), (0.29, 0.29), (0.5, 0.5)]
        {
            assert_eq!(three_digits(rate), typed);
        }
        for step in 1..2000 {
            let rate = f64::from(step) / 2003.0;
            let typed = three_digits(rate);
            assert!(typed <= rate && typed > 0.99 * rate, "{rate}: {typed}");
            assert!(typed.to_string().trim_start_matches(['0', '.']).len() <= 3, "{typed}");
        }
    }
}
