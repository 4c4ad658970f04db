//! A tiny network with its own reference in plain Rust, pictures, and the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use contract::{Axis, EmbeddingSpec, Exporter, Golden, InputSpec, ModelContract, OutputSpec, PictureSpec, Training};
use image::RgbImage;
use onnx::{
    AttributeProto, AttributeType, DataLocation, DataType, Dimension, DimensionProto, GraphProto, Message, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use tempfile::TempDir;

/// Height and width of the input.
pub(crate) const SIZE: [usize; 2] = [32, 16];

/// Channels after the convolution.
const CHANNELS: usize = 8;

/// Edge of a pooled square.
const POOL: usize = 4;

/// Values of an embedding: the convolution halves both axes, pooling quarters them.
pub(crate) const DIM: usize = CHANNELS * (SIZE[0] / 2 / POOL) * (SIZE[1] / 2 / POOL);

/// Largest difference between the reference and ONNX Runtime: both add 27 products in float32.
pub(crate) const TOLERANCE: f32 = 1e-5;

/// What the program answered.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// Stdout of a run that must succeed.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// Stderr of a run that must be an error that names every one of `facts`: see [`fixtures::assert_names`].
    #[track_caller]
    pub(crate) fn error(self, facts: &[&str]) -> String {
        let said = self.refused();
        fixtures::assert_names(fixtures::error_message(&said), facts);
        said
    }

    /// Stderr of a run that must be an error with this part of a sentence in it. For what has no name, flag or number
    /// of its own, so that only words tell it from another error of the same line: that a thing is a pipe, or damaged.
    #[track_caller]
    pub(crate) fn error_saying(self, sentence: &str) -> String {
        let said = self.refused();
        assert!(fixtures::error_message(&said).contains(sentence), "`{sentence}` is not in: {said}");
        said
    }

    /// Stderr of a run that must be an error and no panic.
    #[track_caller]
    fn refused(self) -> String {
        assert_eq!(self.code, 2, "{}\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

/// A folder with a model, and the program.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(fixture.path("model.onnx"), model().encode_to_vec()).unwrap();
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `deploy`; words that start with `@` are paths in the folder.
    pub(crate) fn run(&self, line: &str) -> Answer {
        self.run_with(line, &[])
    }

    pub(crate) fn run_with(&self, line: &str, environment: &[(&str, &str)]) -> Answer {
        let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None => word.into(),
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_deploy"));
        let output = command.args(words).envs(environment.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Saves a picture of a person: the same name and variation give the same pixels.
    pub(crate) fn picture(&self, path: &str, person: &str, variation: f32) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        person_picture(person, variation).save(&path).unwrap();
        path
    }

    /// Names of the files in a folder, hidden ones too.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Names of the files in the folder of a gallery, but for those of SQLite's log, which readers leave.
    pub(crate) fn gallery_files(&self, folder: &str) -> Vec<String> {
        let mut names = self.files(folder);
        names.retain(|name| !["gallery.db-shm", "gallery.db-wal"].contains(&&name[..]));
        names
    }

    /// Rows of a gallery, and what is said about each.
    pub(crate) fn rows(&self, folder: &str) -> (ndarray::Array2<f32>, Vec<serde_json::Value>) {
        let all = deploy::gallery::Gallery::open(&self.path(folder)).unwrap().load().unwrap();
        let array = ndarray::Array2::from_shape_vec((all.templates.len(), all.dim), all.values).unwrap();
        (array, all.templates.iter().map(|template| serde_json::to_value(template).unwrap()).collect())
    }

    /// Writes a model of one's own.
    pub(crate) fn write_model(&self, name: &str, model: &ModelProto) {
        std::fs::write(self.path(name), model.encode_to_vec()).unwrap();
    }
}

/// Blocks of colour by `person`, with single pixels moved by up to `variation` of 255.
pub(crate) fn person_picture(person: &str, variation: f32) -> RgbImage {
    let [height, width] = [64, 32];
    let plane = height * width;
    let base = contract::fill::blocks(&format!("input.{person}"), [1, 3, height, width], 8);
    let noise = contract::fill::fill(&format!("input.noise.{person}"), &[3 * plane]);
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        image::Rgb([0, 1, 2].map(|channel| {
            let value = base[channel * plane + at] + variation * noise[channel * plane + at];
            ((value + 1.0) * 127.5).clamp(0.0, 255.0) as u8
        }))
    })
}

pub(crate) fn weights() -> (Vec<f32>, Vec<f32>) {
    (contract::fill::fill("conv.weight", &[CHANNELS, 3, 3, 3]), contract::fill::fill("conv.bias", &[CHANNELS]))
}

/// The network in plain Rust: a convolution of 3×3 with stride 2 and padding 1, ReLU, mean of 4×4 squares, flattened.
pub(crate) fn reference(picture: &[f32]) -> Vec<f32> {
    let (weight, bias) = weights();
    let [height, width] = SIZE;
    let [rows, columns] = [height / 2, width / 2];
    let pixel = |channel: usize, y: usize, x: usize, dy: usize, dx: usize| {
        // One less for the padding.
        let (y, x) = ((2 * y + dy).checked_sub(1)?, (2 * x + dx).checked_sub(1)?);
        (y < height && x < width).then(|| picture[(channel * height + y) * width + x])
    };
    let convolved = |out: usize, y: usize, x: usize| {
        let mut sum = bias[out];
        for (index, weight) in weight[out * 27..][..27].iter().enumerate() {
            sum += weight * pixel(index / 9, y, x, index / 3 % 3, index % 3).unwrap_or(0.0);
        }
        sum.max(0.0)
    };
    let mut features = Vec::new();
    for out in 0..CHANNELS {
        for (row, column) in (0..rows / POOL).flat_map(|row| (0..columns / POOL).map(move |column| (row, column))) {
            let square = (0..POOL * POOL).map(|at| convolved(out, row * POOL + at / POOL, column * POOL + at % POOL));
            features.push(square.sum::<f32>() / (POOL * POOL) as f32);
        }
    }
    features
}

/// The embedding of a picture file, by the reference network.
pub(crate) fn reference_embedding(path: &Path) -> Vec<f32> {
    let contract = contract();
    let input = contract.input[0].picture.as_ref().unwrap();
    let mut batch = vec![0.0; 3 * SIZE[0] * SIZE[1]];
    contract::preprocess::load(path, input, &mut batch).unwrap();
    let mut mirrored = batch.clone();
    contract::preprocess::mirror(&batch, SIZE[1], &mut mirrored);
    contract::embedding::embed(&reference(&batch), &reference(&mirrored), DIM, 1)
}

pub(crate) fn contract() -> ModelContract {
    let batch = || Axis::Symbol("batch".into());
    let picture = PictureSpec { mean: vec![0.5, 0.45, 0.4], std: vec![0.25, 0.22, 0.2], ..PictureSpec::imagenet(SIZE) };
    let input = InputSpec::picture("image", batch(), picture);
    let contract_id = "0123456789abcdef".into();
    let embedding = EmbeddingSpec { output: "features".into(), dim: DIM, parts: 1, flip: true, contract_id };
    let [block, every, rows] = [4, 3, 2];
    let pictures = contract::fill::blocks("input.golden.image", [rows, 3, SIZE[0], SIZE[1]], block);
    let features = pictures.chunks_exact(3 * SIZE[0] * SIZE[1]).flat_map(reference);
    ModelContract {
        version: contract::VERSION,
        family: "reid".into(),
        architecture: "Tiny".into(),
        input: vec![input],
        output: vec![OutputSpec {
            name: "features".into(),
            meaning: "pooled colours".into(),
            shape: vec![batch(), Axis::Size(DIM)],
            unit_length: false,
            metric: "cosine".into(),
            picture: None,
            map: None,
        }],
        embedding: Some(embedding),
        threshold: None,
        golden: Some(Golden {
            seed: "input.golden".into(),
            batch: rows,
            block,
            pixels: false,
            tolerance: TOLERANCE,
            every,
            output: BTreeMap::from([("features".into(), features.step_by(every).collect())]),
        }),
        precision: "fp32".into(),
        quantisation: None,
        training: Training { dataset: "nothing".into(), epoch: 7, ..Training::default() },
        exporter: Exporter::default(),
    }
}

/// The network with its contract.
pub(crate) fn model() -> ModelProto {
    with_contract(graph(), &contract())
}

pub(crate) fn with_contract(mut model: ModelProto, contract: &ModelContract) -> ModelProto {
    let entry = |(key, value)| StringStringEntryProto { key, value };
    model.metadata_props = contract.to_metadata().into_iter().map(entry).collect();
    model
}

/// A float initialiser.
pub(crate) fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..Default::default()
    }
}

pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints: ints.to_vec(), ..Default::default() }
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i: Some(value), ..Default::default() }
}

pub(crate) fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(|input| (*input).into()).collect(),
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

/// An input or output with a batch axis before these.
pub(crate) fn value(name: &str, sizes: &[usize]) -> ValueInfoProto {
    let batch = Dimension::Symbol("batch".into());
    let sizes = sizes.iter().map(|size| Dimension::Value(*size as i64));
    let dim = std::iter::once(batch).chain(sizes).map(|value| DimensionProto { value: Some(value) }).collect();
    let tensor_type = TensorTypeProto { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor_type) });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

/// The network alone.
pub(crate) fn graph() -> ModelProto {
    let (weight, bias) = weights();
    let pool = POOL as i64;
    ModelProto {
        ir_version: 10,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 20 }],
        producer_name: "test".into(),
        graph: Some(GraphProto {
            name: "tiny".into(),
            node: vec![
                node(
                    "Conv",
                    &["image", "conv.weight", "conv.bias"],
                    "convolved",
                    vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])],
                ),
                node("Relu", &["convolved"], "rectified", vec![]),
                node(
                    "AveragePool",
                    &["rectified"],
                    "pooled",
                    vec![ints("kernel_shape", &[pool, pool]), ints("strides", &[pool, pool])],
                ),
                node("Flatten", &["pooled"], "features", vec![]),
            ],
            initializer: vec![
                tensor("conv.weight", &[CHANNELS as i64, 3, 3, 3], &weight),
                tensor("conv.bias", &[CHANNELS as i64], &bias),
            ],
            input: vec![value("image", &[3, SIZE[0], SIZE[1]])],
            output: vec![value("features", &[DIM])],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The network behind a node that makes `inside` of an input `image` of this type and these sizes after the batch.
pub(crate) fn behind(first: NodeProto, ty: DataType, sizes: &[i64]) -> ModelProto {
    behind_all(vec![first], ty, sizes)
}

/// [`behind`] several nodes, the last of which makes `inside`.
pub(crate) fn behind_all(nodes: Vec<NodeProto>, ty: DataType, sizes: &[i64]) -> ModelProto {
    let mut model = graph();
    let parts = model.graph.as_mut().unwrap();
    parts.node[0].input[0] = "inside".into();
    parts.node.splice(0..0, nodes);
    retype(&mut parts.input[0], ty, sizes);
    model
}

/// Gives an input or output another type and other sizes after its batch.
pub(crate) fn retype(value: &mut ValueInfoProto, ty: DataType, sizes: &[i64]) {
    let tensor = value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    tensor.elem_type = ty as i32;
    let dim = &mut tensor.shape.as_mut().unwrap().dim;
    dim.truncate(1);
    dim.extend(sizes.iter().map(|size| DimensionProto { value: Some(Dimension::Value(*size)) }));
}

/// The model with the weights of its convolution in a file `name` beside it.
pub(crate) fn apart(fixture: &Fixture, folder: &str, name: &str, mut model: ModelProto) -> Vec<u8> {
    let weight = &mut model.graph.as_mut().unwrap().initializer[0];
    let bytes = std::mem::take(&mut weight.raw_data);
    weight.data_location = DataLocation::External as i32;
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    weight.external_data = vec![entry("location", name), entry("length", &bytes.len().to_string())];
    std::fs::create_dir_all(fixture.path(folder)).unwrap();
    std::fs::write(fixture.path(folder).join(name), &bytes).unwrap();
    fixture.write_model(&format!("{folder}/model.onnx"), &model);
    bytes
}
