//! The contract itself: serialisable, one JSON value per `metadata_props` key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::trained::TrainedOn;

mod form;
mod once;

pub use form::{Problem, schema};

/// Prefix of every metadata key of ours.
pub const KEY_PREFIX: &str = "vitrine.";

/// Names of the files beside a model: its contract again, its card for people, and its certificate.
pub const BESIDE: [&str; 3] = ["contract.json", "CARD.md", "certificate.json"];

/// Version of the contract's layout; a reader refuses a newer one.
///
/// Version 2 made contract ids of what a network computes instead of how its file is written. Models of version 1
/// keep their ids and their galleries; exported again they have another id, and their pictures are to be embedded
/// again.
///
/// Version 3 names decoder and resizer. Models of before were trained with, and their galleries hold, pictures that
/// another decoder and resizer had made, some grey levels off; they are used with the ones that version 3 names.
pub const VERSION: u32 = 3;

/// `layout` of pictures whose channels lie one after another.
pub const CHANNELS_FIRST: &str = "NCHW";

/// `layout` of pictures whose pixels lie one after another.
pub const CHANNELS_LAST: &str = "NHWC";

/// Largest contract in bytes of JSON, in a file or in a model. One with golden vectors has some 30 kB.
pub const LARGEST_FILE: u64 = 4 << 20;

/// Most numbers that a batch of a model's inputs may have, all together: 1 GiB in single precision. Of a contract that
/// fixes the size of a batch it is asked when the contract is read.
pub const LARGEST_BATCH: usize = 1 << 28;

/// Most numbers of the golden inputs, all together: 256 MiB. They are made whenever the model is opened.
pub const LARGEST_GOLDEN: usize = 1 << 26;

/// Everything a program needs to use a model as its training did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelContract {
    /// Layout of this structure, [`VERSION`].
    pub version: u32,
    /// Family: `reid`, `senet`, `controlnet`, `palm`.
    pub family: String,
    /// Network by its published name: `LMBN_n`.
    pub architecture: String,
    /// Inputs in the graph's order.
    pub input: Vec<InputSpec>,
    /// Outputs in the graph's order.
    pub output: Vec<OutputSpec>,
    /// How the outputs become an embedding; `None` for models that do not embed.
    #[serde(default)]
    pub embedding: Option<EmbeddingSpec>,
    /// Calibrated decision thresholds; `None` before calibration.
    #[serde(default)]
    pub threshold: Option<Vec<Threshold>>,
    /// Known inputs and outputs, for the self-test at opening.
    #[serde(default)]
    pub golden: Option<Golden>,
    /// Number format of the weights: `fp32`, `fp16`, `int8`.
    pub precision: String,
    /// How a model of another format was made from its float32 original; absent in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<Quantisation>,
    /// Where the weights come from.
    #[serde(default)]
    pub training: Training,
    /// What wrote the file.
    #[serde(default)]
    pub exporter: Exporter,
}

/// How a model's numbers became smaller than float32.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantisation {
    /// SHA-256 of the float32 model file.
    pub source_sha256: String,
    /// What it is made for: `cpu` or `tensorrt`; `gpu` for float16.
    pub target: String,
    /// How ranges were chosen: `minmax`, `percentile` or `entropy`.
    pub range: String,
    /// Bits of integer weights: 8, or 7 for processors without VNNI. 16 in float16.
    pub weight_bits: u8,
    /// Pictures that the ranges are of.
    pub pictures: usize,
    /// SHA-256 of their preprocessed values, in order.
    pub fingerprint: String,
    /// Nodes that compute in the format, and all nodes of the float32 model.
    pub nodes: [usize; 2],
}

/// One axis of a shape: a size, or a symbol that stands for the same size wherever it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a size from 0 or a symbol such as \"batch\"")]
pub enum Axis {
    /// A fixed size.
    Size(usize),
    /// A symbol such as `batch`.
    Symbol(String),
}

/// Order of colours in an input's channel axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luma.
    Grey,
}

impl Colour {
    /// Number of channels.
    pub fn channels(self) -> usize {
        if self == Colour::Grey { 1 } else { 3 }
    }
}

/// How a picture of another size is brought to the input's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Both axes scaled on their own; the aspect ratio is ignored.
    Stretch,
}

/// Whose JPEG pixels a network was trained on. Other formats have the same pixels in all libraries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decoder {
    /// libjpeg-turbo's with its defaults, which are Pillow's, OpenCV's and torchvision's: accurate integer transform,
    /// chroma interpolated.
    #[default]
    #[serde(rename = "libjpeg-turbo")]
    LibjpegTurbo,
}

/// Resizer and its filter, to the bit. Pillow's widen when the picture shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Pillow's triangle.
    #[serde(rename = "pillow-bilinear", alias = "bilinear")]
    Bilinear,
    /// Pillow's cubic, a = -0.5.
    #[serde(rename = "pillow-bicubic", alias = "bicubic")]
    Bicubic,
    /// Pillow's windowed sine of three lobes.
    #[serde(rename = "pillow-lanczos")]
    Lanczos,
    /// Pillow's mean of all pixels.
    #[serde(rename = "pillow-box")]
    Box,
    /// OpenCV's linear: between the two nearest pixels of each axis, in fixed point, also when the picture shrinks.
    #[serde(rename = "opencv-linear", alias = "opencv")]
    Opencv,
}

impl std::fmt::Display for Decoder {
    /// As in a contract.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.serialize(f)
    }
}

impl std::fmt::Display for Filter {
    /// As in a contract.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// Which way up a picture is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Orientation {
    /// Turned and mirrored as its EXIF orientation says, before anything else; upright without one.
    #[default]
    Exif,
    /// As it is stored, whatever EXIF says: Pillow's `Image.open` without `ImageOps.exif_transpose`.
    Stored,
}

/// An input of the graph: a picture, or plain numbers such as an embedding or a pose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Name in the graph.
    pub name: String,
    /// Shape, one entry per axis, the batch first.
    pub shape: Vec<Axis>,
    /// What the values are, with their unit, for people: `yaw, pitch, roll in degrees`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    /// How a picture becomes this input; absent where the input is no picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureSpec>,
    /// Value that fills the input when its picture is missing, for models trained with modality dropout; `None` if the
    /// picture is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<f32>,
    /// Smallest and largest value that numbers take: `[-90, 90]` for angles. What the model was compared over, and
    /// where its golden vectors lie; absent where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f32; 2]>,
}

impl InputSpec {
    /// A picture input; `batch` is its first axis.
    pub fn picture(name: &str, batch: Axis, picture: PictureSpec) -> Self {
        let shape = std::iter::once(batch).chain(picture.row().map(Axis::Size)).collect();
        Self { name: name.into(), shape, meaning: String::new(), picture: Some(picture), absent: None, range: None }
    }

    /// An input of `values` numbers a row; `batch` is its first axis.
    pub fn numbers(name: &str, batch: Axis, values: usize, meaning: &str) -> Self {
        let shape = vec![batch, Axis::Size(values)];
        Self { name: name.into(), shape, meaning: meaning.into(), picture: None, absent: None, range: None }
    }

    /// The same, of numbers from `low` to `high`.
    pub fn within(self, low: f32, high: f32) -> Self {
        Self { range: Some([low, high]), ..self }
    }

    /// Sizes of one row: `[channels, height, width]` of a picture, whatever its layout in the graph, else the axes
    /// after the batch. `None` if one of these axes is a symbol.
    pub fn row(&self) -> Option<Vec<usize>> {
        let size = |axis: &Axis| match axis {
            Axis::Size(size) => Some(*size),
            Axis::Symbol(_) => None,
        };
        match &self.picture {
            Some(picture) => Some(vec![picture.colour.channels(), picture.size[0], picture.size[1]]),
            None => self.shape.get(1..)?.iter().map(size).collect(),
        }
    }
}

/// How a picture enters the network: turned as `orientation` says, resized, and each pixel `p` of 0 to 255 brought to
/// `range` and normalised by its channel, `(range[0] + p / 255 * (range[1] - range[0]) - mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureSpec {
    /// Order of the axes in the graph: `NCHW`, or `NHWC`, where the channels of a pixel lie together. Whoever runs the
    /// model brings the values into this order; everything else here is about `[channels, height, width]`.
    pub layout: String,
    /// Order of the channels.
    pub colour: Colour,
    /// Values of black and of white before mean and std: `[0, 1]`, `[-1, 1]` or `[0, 255]`.
    pub range: [f32; 2],
    /// Mean per channel, in units of `range`.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, in units of `range`.
    pub std: Vec<f32>,
    /// Whose JPEG pixels they are.
    #[serde(default)]
    pub decoder: Decoder,
    /// Which way up the picture is.
    #[serde(default)]
    pub orientation: Orientation,
    /// How a picture of another size is resized.
    pub resize: Resize,
    /// Resizer and filter.
    pub filter: Filter,
    /// Height and width in pixels.
    pub size: [usize; 2],
}

impl PictureSpec {
    /// The graph wants the channels of a pixel together: `[height, width, channels]`.
    pub fn is_channels_last(&self) -> bool {
        self.layout == CHANNELS_LAST
    }

    /// The graph takes each pixel's 0 to 255 as it is, so that an input of bytes can take them.
    pub fn is_plain(&self) -> bool {
        self.range == [0.0, 255.0]
            && self.mean.iter().all(|mean| *mean == 0.0)
            && self.std.iter().all(|std| *std == 1.0)
    }

    /// The value of each of a channel's 256 levels, which are all it can have.
    pub(crate) fn levels(&self, channel: usize) -> [f32; 256] {
        let (mean, std, [black, white]) = (self.mean[channel], self.std[channel], self.range);
        // Multiplied first, so that 0 to 1 is exactly `pixel / 255`, and 0 to 255 exactly `pixel`.
        std::array::from_fn(|pixel| (pixel as f32 * (white - black) / 255.0 + black - mean) / std)
    }

    /// Sizes of one row in the graph's order.
    fn row(&self) -> [usize; 3] {
        let ([height, width], channels) = (self.size, self.colour.channels());
        if self.is_channels_last() { [height, width, channels] } else { [channels, height, width] }
    }

    /// RGB, stretched to `[height, width]` by the bilinear filter, with ImageNet's mean and standard deviation.
    pub fn imagenet(size: [usize; 2]) -> Self {
        Self {
            layout: CHANNELS_FIRST.into(),
            colour: Colour::Rgb,
            range: [0.0, 1.0],
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            decoder: Decoder::LibjpegTurbo,
            orientation: Orientation::Exif,
            resize: Resize::Stretch,
            filter: Filter::Bilinear,
            size,
        }
    }
}

/// An output of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Name in the graph.
    pub name: String,
    /// What the values are, for people: `features after the neck, one column per part`.
    pub meaning: String,
    /// Shape, one entry per axis.
    pub shape: Vec<Axis>,
    /// Whether each row already has L2 norm 1.
    pub unit_length: bool,
    /// How rows are compared: `cosine`. Empty where they are not.
    pub metric: String,
    /// How the values are shown, where they are a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureOutput>,
    /// Height and width of the map that the values form, row by row; `None` if they form none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<[usize; 2]>,
}

/// An output that is a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureOutput {
    /// Order of the axes; `NCHW` is the only one we write.
    pub layout: String,
    /// Order of the channels.
    pub colour: Colour,
    /// Values of black and of white: `[-1, 1]`.
    pub range: [f32; 2],
}

/// How one output becomes an embedding: mirrored view added, each part scaled to length 1, parts flattened, the row
/// scaled to length 1. See [`crate::embedding`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingSpec {
    /// Name of the output it is made from: `[batch, channels]` or `[batch, channels, parts]`.
    pub output: String,
    /// Values per row.
    pub dim: usize,
    /// Parts; each is normalised on its own. 1 for a plain vector.
    pub parts: usize,
    /// Whether the features of the mirrored picture are added before normalisation.
    pub flip: bool,
    /// Hash of everything that changes an embedding; galleries are pinned to it.
    pub contract_id: String,
}

/// A similarity above which two rows count as one identity, and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Cosine similarity.
    pub similarity: f64,
    /// False accept rate at it, on the calibration data.
    pub far: f64,
    /// True accept rate at it.
    pub tar: f64,
    /// The decision it was measured for, and on how much. Absent in models calibrated before this was stored: their
    /// rates are those of comparisons with one template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// What a threshold's rates are rates of, and on how much they were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// What is counted.
    pub rate: Rate,
    /// How the similarities to the templates of a person become one.
    pub fusion: Fusion,
    /// Templates of a person.
    pub templates: u32,
    /// Independent trials of the true accept rate: identities with at least two pictures; in searches, people enrolled.
    pub identities: usize,
    /// Independent trials of the false accept rate: pairs of two identities (those of their pictures are not); in
    /// searches, identities with a probe.
    pub pairs: u64,
    /// 95 % interval of the false accept rate.
    pub far_interval: [f64; 2],
    /// 95 % interval of the true accept rate.
    pub tar_interval: [f64; 2],
}

/// What a false accept rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rate {
    /// False match rate, 1:1: strangers accepted among comparisons of a probe with one person.
    Fmr,
    /// False positive identification rate, 1:N: probes of strangers with a match in a gallery. It grows with the
    /// gallery.
    Fpir {
        /// People in the gallery.
        gallery: u64,
    },
}

/// How the similarities of a probe to the templates of a person become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    /// The largest.
    Max,
    /// The mean.
    Mean,
}

/// Known outputs for known inputs, for the self-test. [`Golden::input`] makes the inputs. Of each output, the row-major
/// elements 0, `every`, 2·`every`, … are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Each input is the fill of a tensor called `<seed>.<name of the input>`.
    pub seed: String,
    /// Rows in the batch.
    pub batch: usize,
    /// Edge of a block of equal pixels in picture inputs.
    pub block: usize,
    /// Whether picture inputs are pictures: each value is made a level of 0 to 255 and normalised as the input says.
    /// Else they are the fill's own values, -1 to 1, which an input of plain pixels hardly tells from black.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pixels: bool,
    /// Largest absolute difference allowed.
    pub tolerance: f32,
    /// Stride of the stored elements.
    pub every: usize,
    /// Per output name: the stored elements.
    pub output: BTreeMap<String, Vec<f32>>,
}

impl Golden {
    /// Shape and values of an input: [`crate::fill::blocks`] for a picture, `[batch, channels, height, width]`,
    /// [`crate::fill::fill`] for numbers. None where the blocks do not tile the picture, an axis after the first has no
    /// fixed size, or there would be more than [`LARGEST_GOLDEN`] values.
    pub fn input(&self, spec: &InputSpec) -> Option<(Vec<usize>, Vec<f32>)> {
        let row = spec.row()?;
        numbers(self.batch, spec).filter(|&numbers| numbers <= LARGEST_GOLDEN)?;
        let shape: Vec<usize> = std::iter::once(self.batch).chain(row).collect();
        let name = format!("{}.{}", self.seed, spec.name);
        let values = match (&spec.picture, shape.as_slice()) {
            (Some(picture), &[batch, channels, height, width]) => {
                let tiles = self.block > 0 && height.is_multiple_of(self.block) && width.is_multiple_of(self.block);
                let mut values =
                    tiles.then(|| crate::fill::blocks(&name, [batch, channels, height, width], self.block))?;
                if self.pixels {
                    for (at, plane) in values.chunks_exact_mut(height * width).enumerate() {
                        let levels = picture.levels(at % channels);
                        plane.iter_mut().for_each(|value| *value = levels[((*value + 1.0) * 128.0) as usize]);
                    }
                }
                values
            }
            _ => match spec.range {
                Some([low, high]) => {
                    let place = |u: f64| (f64::from(low) + u * (f64::from(high) - f64::from(low))) as f32;
                    crate::fill::unit(&name, shape.iter().product()).map(place).collect()
                }
                None => crate::fill::fill(&name, &shape),
            },
        };
        Some((shape, values))
    }
}

/// Where weights come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Command line of the run.
    pub command: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Hash of the dataset's file list.
    pub dataset_fingerprint: String,
    /// Finished epochs.
    pub epoch: usize,
    /// Metrics at that epoch.
    pub metrics: BTreeMap<String, f64>,
    /// Licence of data and weights, as far as known.
    pub licence: String,
    /// The people it was trained on, as far as known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub people: Option<TrainedOn>,
}

/// What wrote the model file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exporter {
    /// Version of Vitrine.
    pub version: String,
    /// Operator set.
    pub opset: i64,
    /// Version of Burn.
    pub burn: String,
    /// SHA-256 of the checkpoint the weights were read from.
    pub checkpoint_sha256: String,
}

/// Why metadata is not a contract.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// No key of ours at all.
    #[error("the model carries no Vitrine contract (no metadata key starts with `{KEY_PREFIX}`)")]
    Missing,
    /// It has more bytes of JSON than [`LARGEST_FILE`].
    #[error("the contract has {found} bytes, {LARGEST_FILE} are allowed")]
    TooLarge {
        /// Its size.
        found: u64,
    },
    /// The document, or the value of a metadata key, is not JSON.
    #[error("{place} is not JSON")]
    NotJson {
        /// `the contract`, or the key.
        place: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// Keys that are missing or unknown, values of another form or out of range, parts that contradict each other: all
    /// that is found, at least one.
    #[error("{}", form::listed(problems))]
    Wrong {
        /// Each of them.
        problems: Vec<Problem>,
    },
    /// Written by a newer Vitrine.
    #[error("the contract has version {found}, this program reads up to {VERSION}")]
    Version {
        /// Version in the file.
        found: u32,
    },
}

impl ModelContract {
    /// The metadata entries, keys with prefix, in a fixed order.
    pub fn to_metadata(&self) -> Vec<(String, String)> {
        let serde_json::Value::Object(fields) = serde_json::to_value(self).expect("a contract is plain data") else {
            unreachable!("a struct serialises to an object")
        };
        fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (format!("{KEY_PREFIX}{key}"), value.to_string()))
            .collect()
    }

    /// Reads a contract from metadata entries; keys of others are skipped.
    ///
    /// # Errors
    /// See [`ContractError`].
    pub fn from_metadata<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ContractError> {
        let mut fields = serde_json::Map::new();
        let mut bytes = 0;
        for (key, value) in entries {
            if let Some(key) = key.strip_prefix(KEY_PREFIX) {
                bytes += key.len() + value.len();
                small(bytes)?;
                let (value, mut repeated) = once::read(value, key)
                    .map_err(|source| ContractError::NotJson { place: format!("`{KEY_PREFIX}{key}`"), source })?;
                if fields.insert(key.to_owned(), value).is_some() {
                    repeated = Some(format!("{KEY_PREFIX}{key}"));
                }
                said_once(repeated)?;
            }
        }
        if fields.is_empty() {
            return Err(ContractError::Missing);
        }
        Self::from_fields(fields)
    }

    /// Reads a contract from a JSON document, the form of `contract.json` and `--contract FILE`.
    ///
    /// # Errors
    /// See [`ContractError`].
    pub fn from_json(text: &str) -> Result<Self, ContractError> {
        small(text.len())?;
        let not_json = |source| ContractError::NotJson { place: "the contract".into(), source };
        let (document, repeated) = once::read(text, "").map_err(not_json)?;
        let fields = serde_json::from_value(document).map_err(not_json)?;
        said_once(repeated)?;
        Self::from_fields(fields)
    }

    fn from_fields(fields: serde_json::Map<String, serde_json::Value>) -> Result<Self, ContractError> {
        let version = fields.get("version").and_then(serde_json::Value::as_u64);
        if let Some(found) = version.and_then(|version| u32::try_from(version).ok()).filter(|found| *found > VERSION) {
            return Err(ContractError::Version { found });
        }
        let problems = form::problems(&fields);
        if !problems.is_empty() {
            return Err(ContractError::Wrong { problems });
        }
        let document = serde_json::Value::Object(fields);
        let contract: Self = serde_path_to_error::deserialize(&document).map_err(|error| {
            let found = at(&document, error.path()).map_or_else(|| "absent".into(), form::shortened);
            let (field, allowed) = (error.path().to_string(), error.into_inner().to_string());
            ContractError::Wrong { problems: vec![Problem { field, found, allowed }] }
        })?;
        contract.check()?;
        Ok(contract)
    }

    /// Checks that the fields agree with each other and are in range.
    ///
    /// # Errors
    /// [`ContractError::Wrong`] with all that are wrong.
    pub fn check(&self) -> Result<(), ContractError> {
        let mut checked = Checked::default();
        if self.input.is_empty() || self.output.is_empty() {
            checked.wrong("input/output".into(), "empty", "at least one of each is needed");
        }
        self.input.iter().for_each(|input| checked.input(input, self.input.len() == 1));
        let fixed = |input: &InputSpec| match input.shape.first() {
            Some(Axis::Size(rows)) => numbers(*rows, input),
            _ => numbers(1, input),
        };
        // What cannot be counted because a shape is wrong is told above.
        if checked.problems.is_empty() {
            checked.bounded("input", "batch of inputs", LARGEST_BATCH, &self.input, fixed);
        }
        self.output.iter().for_each(|output| checked.output(output));
        self.threshold.iter().flatten().for_each(|threshold| checked.threshold(threshold));
        if let Some(people) = &self.training.people
            && let Some(problem) = people.problem()
        {
            let found = format!("{} digits for {} people", people.fingerprints.len(), people.people);
            checked.wrong("training.people.fingerprints".into(), found, problem.to_string());
        }
        if let Some(embedding) = &self.embedding {
            if !self.output.iter().any(|output| output.name == embedding.output) {
                checked.wrong("embedding.output".into(), embedding.output.clone(), "it must name an output");
            }
            if embedding.parts == 0 || embedding.dim == 0 || embedding.dim % embedding.parts != 0 {
                let found = format!("dim {} in {} parts", embedding.dim, embedding.parts);
                checked.wrong("embedding".into(), found, "dim must be a multiple of parts, both above 0");
            }
        }
        if let Some(golden) = &self.golden {
            if !(1..=64).contains(&golden.batch) || golden.every == 0 || !(1..=8192).contains(&golden.block) {
                let found = format!("batch {}, every {}, block {}", golden.batch, golden.every, golden.block);
                checked.wrong("golden".into(), found, "batch 1 to 64, every and block above 0 are allowed");
            } else if checked.problems.is_empty() {
                let count = |input: &InputSpec| numbers(golden.batch, input);
                checked.bounded("golden.batch", "golden inputs", LARGEST_GOLDEN, &self.input, count);
            }
        }
        if checked.problems.is_empty() { Ok(()) } else { Err(ContractError::Wrong { problems: checked.problems }) }
    }

    /// Hash of everything that changes an embedding, and of nothing else: the network, how pictures become its
    /// inputs, which of its outputs is taken and how that becomes an embedding. The size of a batch, names and texts
    /// are no part of it. None for models that do not embed.
    ///
    /// `network_sha256` is the hash of what the network computes, weights included; of a foreign model that of its
    /// file.
    pub fn embedding_id(&self, network_sha256: &str) -> Option<String> {
        let embedding = self.embedding.as_ref()?;
        let output = self.output.iter().position(|output| output.name == embedding.output)?;
        let inputs: Vec<_> = self
            .input
            .iter()
            .map(|input| (input.shape.get(1..).unwrap_or_default(), &input.picture, input.absent))
            .collect();
        let how = (output, embedding.dim, embedding.parts, embedding.flip);
        let parts = ("embedding 2", inputs, how, &self.precision, network_sha256);
        let json = serde_json::to_vec(&parts).expect("a contract is plain data");
        Some(hex::encode(Sha256::digest(json))[..16].to_owned())
    }
}

/// What [`ModelContract::check`] finds.
#[derive(Default)]
struct Checked {
    problems: Vec<Problem>,
}

impl Checked {
    fn wrong(&mut self, field: String, found: impl Into<String>, allowed: impl Into<String>) {
        self.problems.push(Problem { field, found: found.into(), allowed: allowed.into() });
    }

    fn input(&mut self, input: &InputSpec, only: bool) {
        let field = |name: &str| format!("input[{}].{name}", input.name);
        if input.absent.is_some_and(|absent| !absent.is_finite() || only) {
            let allowed = "a finite number is allowed, where another input is left";
            self.wrong(field("absent"), format!("{:?}", input.absent), allowed);
        }
        if let Some([low, high]) = input.range
            && (input.picture.is_some() || !low.is_finite() || !high.is_finite() || low >= high)
        {
            let allowed = "two finite numbers, the first the smaller, are allowed for an input of numbers";
            self.wrong(field("range"), format!("{low} to {high}"), allowed);
        }
        if let Some(picture) = &input.picture {
            self.picture(input, picture);
            return;
        }
        let values =
            input.row().and_then(|row| row.iter().try_fold(1usize, |product, size| product.checked_mul(*size)));
        // A row of numbers is an embedding or a pose; a million values would be a mistake.
        if input.shape.is_empty() || !values.is_some_and(|values| (1..=1 << 20).contains(&values)) {
            let allowed = "a batch axis and fixed sizes of at most 2²⁰ values a row are allowed";
            self.wrong(field("shape"), format!("{:?}", input.shape), allowed);
        }
    }

    fn picture(&mut self, input: &InputSpec, picture: &PictureSpec) {
        let field = |name: &str| format!("input[{}].{name}", input.name);
        let channels = picture.colour.channels();
        if ![CHANNELS_FIRST, CHANNELS_LAST].contains(&picture.layout.as_str()) {
            self.wrong(field("layout"), picture.layout.clone(), "`NCHW` or `NHWC` is allowed");
        }
        let [black, white] = picture.range;
        let width = white - black;
        let ordered = black.is_finite() && white.is_finite() && width.is_finite() && width > 0.0;
        if !ordered {
            let allowed = "two finite numbers are allowed, black below white, such as [0, 1] or [0, 255]";
            self.wrong(field("range"), format!("{:?}", picture.range), allowed);
        }
        if picture.mean.len() != channels || picture.std.len() != channels {
            let found = format!("{} means, {} stds", picture.mean.len(), picture.std.len());
            self.wrong(field("mean/std"), found, "one per channel is needed");
        }
        // Constants of another range make every embedding nearly the same.
        let scale = format!(
            "with `range` {:?} means are from {black} to {white} and deviations up to {width}; constants for pixels of \
             0 to 255, such as 127.5, go with `range` [0, 255], those for 0 to 1, such as 0.5, with [0, 1]",
            picture.range
        );
        if !picture.mean.iter().all(|mean| mean.is_finite()) {
            self.wrong(field("mean"), format!("{:?}", picture.mean), "finite numbers are allowed");
        } else if ordered && !picture.mean.iter().all(|mean| (black..=white).contains(mean)) {
            self.wrong(field("mean"), format!("{:?}", picture.mean), scale.clone());
        }
        if !picture.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            self.wrong(field("std"), format!("{:?}", picture.std), "finite and above 0 are allowed");
        } else if ordered && !picture.std.iter().all(|std| *std <= width) {
            self.wrong(field("std"), format!("{:?}", picture.std), scale);
        }
        let [height, width] = picture.size;
        if !(1..=8192).contains(&height) || !(1..=8192).contains(&width) {
            self.wrong(field("size"), format!("{height}×{width}"), "1 to 8192 pixels an axis are allowed");
        }
        let row = picture.row();
        let fits = |(axis, size): (&Axis, usize)| !matches!(axis, Axis::Size(found) if *found != size);
        if input.shape.len() != 4 || !input.shape.iter().skip(1).zip(row).all(fits) {
            let [one, two, three] = row;
            let allowed = format!("by layout, colour and size it must be [batch, {one}, {two}, {three}]");
            self.wrong(field("shape"), format!("{:?}", input.shape), allowed);
        }
    }

    fn output(&mut self, output: &OutputSpec) {
        let field = |name: &str| format!("output[{}].{name}", output.name);
        if output.shape.is_empty() {
            self.wrong(field("shape"), "[]", "a batch axis is needed, as in [\"batch\", 512]");
        }
        if !["", "cosine"].contains(&output.metric.as_str()) {
            let allowed = "`cosine` is known, and nothing where rows are not compared";
            self.wrong(field("metric"), format!("`{}`", output.metric), allowed);
        }
    }

    fn threshold(&mut self, threshold: &Threshold) {
        let Threshold { similarity, far, tar, measured } = threshold;
        let numbers = [("similarity", *similarity, -1.0), ("far", *far, 0.0), ("tar", *tar, 0.0)];
        for (name, found, least) in numbers {
            if !(least..=1.0).contains(&found) {
                self.wrong(format!("threshold.{name}"), found.to_string(), format!("{least} to 1 is allowed"));
            }
        }
        let Some(measured) = measured else { return };
        if measured.templates == 0 {
            self.wrong("threshold.measured.templates".into(), "0", "1 or more are allowed");
        }
        let intervals = [("far_interval", measured.far_interval), ("tar_interval", measured.tar_interval)];
        for (name, [low, high]) in intervals {
            if !(0.0..=high).contains(&low) || high > 1.0 {
                let allowed = "two rates from 0 to 1, the smaller first, are allowed";
                self.wrong(format!("threshold.measured.{name}"), format!("{low} to {high}"), allowed);
            }
        }
    }

    /// Refuses inputs that have more than `most` numbers together, before any of them is made.
    fn bounded(
        &mut self,
        field: &str,
        what: &str,
        most: usize,
        inputs: &[InputSpec],
        count: impl Fn(&InputSpec) -> Option<usize>,
    ) {
        let all = inputs.iter().try_fold(0usize, |sum, input| sum.checked_add(count(input)?));
        if all.is_some_and(|all| all <= most) {
            return;
        }
        let bytes = |numbers: usize| (numbers as u128) * size_of::<f32>() as u128;
        let found = match all {
            Some(all) => format!("{} bytes for the {what}", bytes(all)),
            None => format!("more bytes for the {what} than can be counted"),
        };
        self.wrong(field.to_owned(), found, format!("{} are allowed", bytes(most)));
    }
}

/// Refuses what would become too much memory once it is parsed: a number of two characters is some 70 bytes.
fn small(bytes: usize) -> Result<(), ContractError> {
    let found = bytes as u64;
    if found <= LARGEST_FILE { Ok(()) } else { Err(ContractError::TooLarge { found }) }
}

/// Refuses a contract with a key that is there twice.
fn said_once(repeated: Option<String>) -> Result<(), ContractError> {
    let Some(field) = repeated else { return Ok(()) };
    let (found, allowed) = ("there twice".to_owned(), "each key once is allowed".to_owned());
    Err(ContractError::Wrong { problems: vec![Problem { field, found, allowed }] })
}

/// Numbers in `rows` rows of an input; none where a row has no fixed size or they cannot be counted.
fn numbers(rows: usize, input: &InputSpec) -> Option<usize> {
    input.row()?.into_iter().try_fold(rows, usize::checked_mul)
}

/// The value at a path; none where the path leads to a field that is absent.
fn at<'a>(document: &'a serde_json::Value, path: &serde_path_to_error::Path) -> Option<&'a serde_json::Value> {
    use serde_path_to_error::Segment;
    path.iter().try_fold(document, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => Some(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contract that has every key.
    pub(super) fn full() -> ModelContract {
        let batch = || Axis::Symbol("batch".into());
        let mut full = contract();
        full.input[0].absent = Some(0.0);
        full.input[0].meaning = "a person".into();
        full.input.push(InputSpec::numbers("pose", batch(), 3, "degrees").within(-90.0, 90.0));
        // Of both kinds of inputs in one, so that one object has every key.
        full.input[0].range = Some([-1.0, 1.0]);
        full.output[0].picture = Some(PictureOutput { layout: "NCHW".into(), colour: Colour::Rgb, range: [-1.0, 1.0] });
        full.output[0].map = Some([8, 4]);
        full.threshold = Some(vec![Threshold {
            similarity: 0.5,
            far: 0.01,
            tar: 0.9,
            measured: Some(Measured {
                rate: Rate::Fpir { gallery: 100 },
                fusion: Fusion::Mean,
                templates: 2,
                identities: 100,
                pairs: 4950,
                far_interval: [0.0, 0.1],
                tar_interval: [0.8, 1.0],
            }),
        }]);
        full.golden = Some(Golden {
            seed: "golden".into(),
            batch: 2,
            block: 16,
            pixels: true,
            tolerance: 1e-3,
            every: 14,
            output: BTreeMap::from([("features".into(), vec![0.5; 4])]),
        });
        full.quantisation = Some(Quantisation {
            source_sha256: "0".into(),
            target: "cpu".into(),
            range: "minmax".into(),
            weight_bits: 8,
            pictures: 100,
            fingerprint: "0".into(),
            nodes: [50, 80],
        });
        full.training.people = Some(TrainedOn { split: "all".into(), people: 1, fingerprints: "0123456789ab".into() });
        full.training.metrics.insert("mAP".into(), 0.5);
        full
    }

    /// A contract as the exporter of LMBN_n writes it.
    fn contract() -> ModelContract {
        ModelContract {
            version: VERSION,
            family: "reid".into(),
            architecture: "LMBN_n".into(),
            input: vec![InputSpec::picture("image", Axis::Symbol("batch".into()), PictureSpec::imagenet([384, 128]))],
            output: vec![OutputSpec {
                name: "features".into(),
                meaning: "after the neck".into(),
                shape: vec![Axis::Symbol("batch".into()), Axis::Size(512), Axis::Size(7)],
                unit_length: false,
                metric: "cosine".into(),
                picture: None,
                map: None,
            }],
            embedding: Some(EmbeddingSpec {
                output: "features".into(),
                dim: 3584,
                parts: 7,
                flip: true,
                contract_id: "0".into(),
            }),
            threshold: None,
            golden: None,
            precision: "fp32".into(),
            quantisation: None,
            training: Training::default(),
            exporter: Exporter::default(),
        }
    }

    /// The field that a check refuses, and what it says.
    fn refused(contract: &ModelContract) -> [String; 2] {
        match contract.check() {
            Err(ContractError::Wrong { mut problems }) => {
                let Problem { field, found, .. } = problems.swap_remove(0);
                [field, found]
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn metadata_round_trip() {
        let contract = contract();
        let metadata = contract.to_metadata();
        let entries = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let foreign = std::iter::once(("author", "somebody"));
        assert_eq!(ModelContract::from_metadata(entries.chain(foreign)).unwrap(), contract);
    }

    #[test]
    fn contradictions_are_named() {
        let mut wrong_size = contract();
        wrong_size.input[0].picture.as_mut().unwrap().size = [256, 128];
        assert_eq!(refused(&wrong_size)[0], "input[image].shape");
        let mut wrong_std = contract();
        wrong_std.input[0].picture.as_mut().unwrap().std[1] = 0.0;
        assert_eq!(refused(&wrong_std), ["input[image].std", "[0.229, 0.0, 0.225]"]);
        let mut wrong_output = contract();
        wrong_output.embedding.as_mut().unwrap().output = "other".into();
        assert_eq!(refused(&wrong_output), ["embedding.output", "other"]);
        assert!(matches!(ModelContract::from_metadata([("author", "x")]), Err(ContractError::Missing)));
        let newer = [("vitrine.version", "99")];
        assert!(matches!(ModelContract::from_metadata(newer), Err(ContractError::Version { found: 99 })));
    }

    #[test]
    fn what_is_unknown_or_impossible_is_named_with_what_is_allowed() {
        let document = |pointer: &str, value: serde_json::Value| {
            let mut document = serde_json::to_value(contract()).unwrap();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match document.pointer_mut(parent).unwrap() {
                serde_json::Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
                object => object[key] = value,
            }
            ModelContract::from_json(&document.to_string())
        };
        let threshold =
            |similarity: f64, far: f64| serde_json::json!([{ "similarity": similarity, "far": far, "tar": 1 }]);
        let measured = |fusion: &str, templates: u32, far_interval: [f64; 2]| {
            let mut threshold = threshold(0.5, 0.05);
            threshold[0]["measured"] = serde_json::json!({
                "rate": "fmr", "fusion": fusion, "templates": templates, "identities": 100, "pairs": 4950,
                "far_interval": far_interval, "tar_interval": [0.9, 1],
            });
            threshold
        };
        // Models of before have no record.
        for (value, has) in [(threshold(0.5, 0.1), false), (measured("mean", 4, [0.0, 1.0]), true)] {
            let contract = document("/threshold", value).unwrap();
            let again = ModelContract::from_json(&serde_json::to_string(&contract).unwrap()).unwrap();
            assert_eq!((&again, again.threshold.as_ref().unwrap()[0].measured.is_some()), (&contract, has));
        }
        let cases = [
            ("/sizes", 3.into(), ["sizes", "3", "architecture"]),
            ("/input/0/picture/sizes", 3.into(), ["input[0].picture.sizes", "3", "colour"]),
            ("/output/0/metric", "blah".into(), ["output[0].metric", "blah", "cosine"]),
            ("/input/0/picture/colour", "RGB".into(), ["input[0].picture.colour", "RGB", "bgr"]),
            ("/input/0/shape/1", (-1).into(), ["input[0].shape[1]", "-1", "symbol such as"]),
            ("/input/0/picture/range", serde_json::json!([1, 0]), ["input[image].range", "[1.0, 0.0]", "[0, 255]"]),
            ("/input/0/picture/mean", vec![127.5; 3].into(), ["input[image].mean", "127.5", "`range` [0, 255]"]),
            ("/input/0/picture/std", vec![58.0; 3].into(), ["input[image].std", "58", "`range` [0, 255]"]),
            ("/input/0/picture/orientation", "none".into(), ["picture.orientation", "none", "exif"]),
            ("/input/0/picture/decoder", "zune".into(), ["picture.decoder", "zune", "libjpeg-turbo"]),
            ("/input/0/picture/filter", "nearest".into(), ["picture.filter", "nearest", "pillow-box"]),
            ("/threshold", threshold(5.0, 0.1), ["threshold.similarity", "5", "-1 to 1"]),
            ("/threshold", threshold(0.5, -0.1), ["threshold.far", "-0.1", "0 to 1"]),
            ("/threshold", measured("median", 1, [0.0, 0.1]), ["threshold[0].measured.fusion", "median", "`max`"]),
            ("/threshold", measured("max", 0, [0.0, 0.1]), ["threshold.measured.templates", "0", "1 or more"]),
            ("/threshold", measured("max", 1, [0.2, 0.1]), ["measured.far_interval", "0.2 to 0.1", "smaller first"]),
            ("/threshold", measured("max", 1, [0.0, 1.1]), ["measured.far_interval", "0 to 1.1", "0 to 1"]),
        ];
        for (pointer, value, expected) in cases {
            let error = document(pointer, value).unwrap_err();
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let message = format!("{error}: {cause}");
            assert!(expected.iter().all(|part| message.contains(part)), "{pointer}: {message}");
        }
        for (range, mean, std) in [([0.0, 255.0], 127.5, 128.0), ([-1.0, 1.0], 0.0, 1.0), ([0.0, 255.0], 0.0, 1.0)] {
            let mut contract = contract();
            let picture = contract.input[0].picture.as_mut().unwrap();
            (picture.range, picture.mean, picture.std) = (range, vec![mean; 3], vec![std; 3]);
            contract.check().unwrap();
        }
        let error = ModelContract::from_metadata([("vitrine.family", "{")]).unwrap_err();
        assert!(matches!(&error, ContractError::NotJson { place, .. } if place == "`vitrine.family`"), "{error}");
    }

    /// A reader that takes the last of two values and one that takes the first would embed differently.
    #[test]
    fn a_key_that_is_there_twice_is_refused_by_name() {
        let contract = ModelContract { threshold: full().threshold, ..contract() };
        let text = serde_json::to_string(&contract).unwrap();
        ModelContract::from_json(&text).unwrap();
        let twice = |place: &str, more: &str| {
            assert_eq!(text.matches(place).count(), 1, "{place} in {text}");
            ModelContract::from_json(&text.replace(place, &format!("{place}{more}"))).unwrap_err().to_string()
        };
        for (place, more, field) in [
            ("\"family\":", "\"other\",\"family\":", "`family` is there twice"),
            ("\"resize\":\"stretch\",", "\"mean\":[0,0,0],", "`input[0].picture.mean` is there twice"),
            ("\"fusion\":\"mean\",", "\"fusion\":\"max\",", "`threshold[0].measured.fusion` is there twice"),
        ] {
            let said = twice(place, more);
            assert!(said.contains(field) && said.contains("once"), "{said}");
        }
        let entries = contract.to_metadata();
        let metadata = |more: (&str, &str)| {
            let entries = entries.iter().map(|(key, value)| (&key[..], &value[..]));
            ModelContract::from_metadata(entries.chain([more]))
        };
        metadata(("other", "1")).unwrap();
        for (more, field) in [
            (("vitrine.family", "\"reid\""), "`vitrine.family`"),
            (("vitrine.embedding", "{\"dim\": 1, \"dim\": 2}"), "`embedding.dim`"),
        ] {
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (&key[..], &value[..])).collect();
            if field.contains("dim") {
                entries.retain(|(key, _)| *key != more.0);
            }
            let said = ModelContract::from_metadata(entries.into_iter().chain([more])).unwrap_err().to_string();
            assert!(said.contains(&format!("{field} is there twice")), "{said}");
        }
        // Long keys, and many of them, take no more time and memory than they have bytes.
        let long = format!("{{\"{0}\": [{1}1], \"{0}\": 1}}", "k".repeat(100_000), "1,".repeat(100_000));
        let said = ModelContract::from_json(&long).unwrap_err().to_string();
        assert!(said.contains("kkk") && said.len() < 500, "{} characters", said.len());
    }

    #[test]
    fn what_would_take_too_much_memory_is_refused_in_bytes() {
        let refused = |change: &dyn Fn(&mut ModelContract)| {
            let mut contract = contract();
            change(&mut contract);
            refused(&contract)
        };
        let large = |contract: &mut ModelContract, edge: usize, batch: Axis| {
            contract.input[0].shape = vec![batch, Axis::Size(3), Axis::Size(edge), Axis::Size(edge)];
            contract.input[0].picture.as_mut().unwrap().size = [edge, edge];
        };
        let golden = |batch| Golden {
            seed: "golden".into(),
            batch,
            block: 16,
            pixels: false,
            tolerance: 1.0,
            every: 1,
            output: BTreeMap::new(),
        };
        let bomb = refused(&|contract| {
            large(contract, 8192, Axis::Symbol("batch".into()));
            contract.golden = Some(golden(64));
        });
        assert_eq!(bomb, ["golden.batch", "51539607552 bytes for the golden inputs"]);
        let bomb = refused(&|contract| large(contract, 1024, Axis::Size(100)));
        assert_eq!(bomb, ["input", "1258291200 bytes for the batch of inputs"]);
        let bomb = refused(&|contract| large(contract, 8192, Axis::Size(usize::MAX)));
        assert_eq!(bomb, ["input", "more bytes for the batch of inputs than can be counted"]);
        let error = {
            let mut contract = contract();
            large(&mut contract, 1024, Axis::Size(100));
            contract.check().unwrap_err().to_string()
        };
        assert!(error.contains("`input` is 1258291200 bytes") && error.contains("1073741824 are allowed"), "{error}");
        let long = "[".to_owned() + &"0,".repeat(LARGEST_FILE as usize / 2) + "0]";
        assert!(matches!(ModelContract::from_json(&long), Err(ContractError::TooLarge { .. })));
        let half = [("vitrine.a", &long[..long.len() / 2]), ("vitrine.b", &long[..long.len() / 2])];
        let quoted = half.map(|(key, text)| (key, format!("\"{text}\"")));
        let entries = quoted.iter().map(|(key, text)| (*key, text.as_str()));
        assert!(matches!(ModelContract::from_metadata(entries), Err(ContractError::TooLarge { .. })));
        let scalar = refused(&|contract| contract.output[0].shape.clear());
        assert_eq!(scalar, ["output[features].shape", "[]"]);

        let mut usual = contract();
        usual.golden = Some(golden(2));
        usual.check().unwrap();
        large(&mut usual, 8192, Axis::Size(1));
        assert!(golden(1).input(&usual.input[0]).is_none(), "asked without a check");
    }

    #[test]
    fn an_input_of_numbers_needs_fixed_sizes() {
        let mut contract = contract();
        let batch = || Axis::Symbol("batch".into());
        let pose = |shape| InputSpec { shape, ..InputSpec::numbers("pose", batch(), 3, "degrees") };
        contract.input.push(InputSpec::numbers("pose", batch(), 3, "degrees"));
        contract.check().unwrap();
        let metadata = contract.to_metadata();
        let entries = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        assert_eq!(ModelContract::from_metadata(entries).unwrap(), contract);
        let golden = Golden {
            seed: "golden".into(),
            batch: 2,
            block: 16,
            pixels: false,
            tolerance: 1.0,
            every: 1,
            output: BTreeMap::new(),
        };
        let (shape, values) = golden.input(&contract.input[1]).unwrap();
        assert_eq!((shape, values), (vec![2, 3], crate::fill::fill("golden.pose", &[2, 3])));
        assert_eq!(golden.input(&contract.input[0]).unwrap().0, [2, 3, 384, 128]);
        let degrees = InputSpec::numbers("pose", batch(), 3, "degrees").within(-90.0, 90.0);
        let (_, values) = golden.input(&degrees).unwrap();
        assert!(values.iter().all(|value| (-90.0..=90.0).contains(value)), "{values:?}");
        assert!(values.iter().any(|value| value.abs() > 10.0), "{values:?}");
        for shape in [vec![], vec![batch(), batch()], vec![batch(), Axis::Size(0)], vec![batch(), Axis::Size(1 << 21)]]
        {
            contract.input[1] = pose(shape);
            assert_eq!(refused(&contract)[0], "input[pose].shape");
        }
    }

    #[test]
    fn the_id_changes_with_what_changes_an_embedding() {
        let id = |change: &dyn Fn(&mut ModelContract), network: &str| {
            let mut contract = contract();
            change(&mut contract);
            contract.embedding_id(network).unwrap()
        };
        let reference = id(&|_| {}, "a");
        fn picture(contract: &mut ModelContract) -> &mut PictureSpec {
            contract.input[0].picture.as_mut().unwrap()
        }
        fn embedding(contract: &mut ModelContract) -> &mut EmbeddingSpec {
            contract.embedding.as_mut().unwrap()
        }
        let same: [&dyn Fn(&mut ModelContract); 7] = [
            &|c| embedding(c).contract_id = "x".into(),
            &|c| c.input[0].shape[0] = Axis::Size(1),
            &|c| c.input[0].meaning = "a person".into(),
            &|c| c.input[0].name = "picture".into(),
            &|c| c.exporter.opset = 17,
            &|c| c.training.epoch = 3,
            &|c| c.output[0].meaning = "features".into(),
        ];
        for (index, change) in same.into_iter().enumerate() {
            assert_eq!(id(change, "a"), reference, "change {index}");
        }
        let other: [&dyn Fn(&mut ModelContract); 12] = [
            &|c| picture(c).colour = Colour::Bgr,
            &|c| picture(c).mean[1] = 0.5,
            &|c| picture(c).std[2] = 0.5,
            &|c| picture(c).range = [0.0, 255.0],
            &|c| picture(c).filter = Filter::Bicubic,
            &|c| picture(c).orientation = Orientation::Stored,
            &|c| picture(c).size = [192, 128],
            &|c| c.input[0].absent = Some(0.0),
            &|c| embedding(c).flip = false,
            &|c| embedding(c).parts = 1,
            &|c| embedding(c).dim = 512,
            &|c| c.precision = "fp16".into(),
        ];
        for (index, change) in other.into_iter().enumerate() {
            assert_ne!(id(change, "a"), reference, "change {index}");
        }
        assert_ne!(id(&|_| {}, "b"), reference);
        let mut none = contract();
        none.embedding = None;
        assert_eq!(none.embedding_id("a"), None);
    }
}
