//! Keeps the models of tests for other programs, each with an input and its output, in the layout of ONNX's own test
//! data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use burn::tensor::{DType, TensorData};
use export::ExportedModel;
use onnx::{DataType, Message, TensorProto};

/// The folder named by the environment variable `VITRINE_TEST_MODELS`; without it nothing is kept.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os("VITRINE_TEST_MODELS").map(PathBuf::from)
}

/// Keeps a model with Burn's output as `NAME-OPSET`, or `NAME-OPSET-raw` if it is not optimised.
pub fn keep(model: &ExportedModel) {
    let Some(folder) = folder() else { return };
    let form = if model.optimised() { "" } else { "-raw" };
    let inputs = model.two_rows();
    let outputs = model.reference(inputs.iter().map(|(_, data)| data.clone()).collect());
    let names = model.outputs().into_iter().map(|(name, _)| name);
    let folder = folder.join(format!("{}-{}{form}", model.name(), model.opset()));
    write(&folder, &model.to_bytes(&[]).unwrap(), inputs, names.zip(outputs).collect());
}

/// Keeps the model of a bundle, which the program has verified, with ONNX Runtime's output on the golden input.
pub fn keep_bundle(bundle: &Path, name: &str) {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(bundle.join("contract.json")).unwrap();
    let contract = contract::ModelContract::from_json(&text).unwrap();
    let golden = contract.golden.as_ref().unwrap();
    let drawn = contract.input.iter().map(|spec| {
        let (shape, values) = golden.input(spec).unwrap();
        (spec.name.clone(), TensorData::new(values, shape))
    });
    let inputs: Vec<(String, TensorData)> = drawn.collect();
    let bytes = std::fs::read(bundle.join("model.onnx")).unwrap();
    let names: Vec<String> = contract.output.iter().map(|output| output.name.clone()).collect();
    let outputs = crate::operations::session::answers(&bytes, &inputs, &names).unwrap();
    write(&folder.join(name), &bytes, inputs, names.into_iter().zip(outputs).collect());
}

/// `model.onnx` and `test_data_set_0/{input,output}_N.pb`.
///
/// # Panics
/// If another test keeps a model of the same name, since their files would mix.
fn write(folder: &Path, model: &[u8], inputs: Vec<(String, TensorData)>, outputs: Vec<(String, TensorData)>) {
    static KEPT: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let other = KEPT.lock().unwrap().insert(folder.to_owned(), test.clone());
    assert!(other.as_ref().is_none_or(|other| *other == test), "{other:?} and {test} both keep {}", folder.display());
    let data = folder.join("test_data_set_0");
    std::fs::create_dir_all(&data).unwrap();
    files::write(&folder.join("model.onnx"), model).unwrap();
    for (side, arrays) in [("input", inputs), ("output", outputs)] {
        for (index, (name, array)) in arrays.into_iter().enumerate() {
            let path = data.join(format!("{side}_{index}.pb"));
            files::write(&path, tensor(name, &array).encode_to_vec()).unwrap();
        }
    }
}

fn tensor(name: String, data: &TensorData) -> TensorProto {
    let kind = match data.dtype() {
        DType::F32 => DataType::Float,
        DType::F64 => DataType::Double,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::Bool(_) => DataType::Bool,
        other => panic!("`{name}`: no test keeps values of {other:?}"),
    };
    TensorProto {
        dims: data.shape().iter().map(|&size| size as i64).collect(),
        data_type: kind as i32,
        name,
        raw_data: data.as_bytes().to_vec(),
        ..TensorProto::default()
    }
}
