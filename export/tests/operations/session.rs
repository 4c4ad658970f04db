//! Runs ONNX Runtime on arrays of any type. Independent of the exporter's own comparison, which converts to f64.

use burn::tensor::{BoolStore, DType, TensorData};
use export::ExportedModel;
use ort::session::Session;
use ort::value::{DynValue, Tensor};

/// Runs a model on inputs in order and gives its outputs in order.
pub fn run(model: &ExportedModel, inputs: &[TensorData]) -> Result<Vec<TensorData>, String> {
    let bytes = model.to_bytes(&[]).map_err(|error| error.to_string())?;
    let names = model.inputs().into_iter().map(|(name, _)| name);
    let outputs: Vec<String> = model.outputs().into_iter().map(|(name, _)| name).collect();
    answers(&bytes, &names.zip(inputs.iter().cloned()).collect::<Vec<_>>(), &outputs)
}

/// Runs an encoded model on named inputs and returns the requested outputs.
pub fn answers(bytes: &[u8], inputs: &[(String, TensorData)], outputs: &[String]) -> Result<Vec<TensorData>, String> {
    let text = |error: ort::Error| error.to_string();
    let mut session = Session::builder(crate::runtime().environment())
        .and_then(|builder| Ok(builder.with_intra_threads(1)?))
        .and_then(|mut builder| builder.commit_from_memory(bytes))
        .map_err(text)?;
    let feeds = inputs.iter().map(|(name, data)| Ok((name.as_str(), feed(data)?)));
    let feeds = feeds.collect::<Result<Vec<_>, ort::Error>>().map_err(text)?;
    let given = session.run(feeds).map_err(text)?;
    outputs.iter().map(|name| fetch(&given[name.as_str()]).map_err(text)).collect()
}

fn feed(data: &TensorData) -> Result<DynValue, ort::Error> {
    let shape: Vec<i64> = data.shape().iter().map(|&size| size as i64).collect();
    Ok(match data.dtype() {
        DType::F32 => Tensor::from_array((shape, data.iter::<f32>().collect::<Vec<_>>()))?.into_dyn(),
        DType::I64 => Tensor::from_array((shape, data.iter::<i64>().collect::<Vec<_>>()))?.into_dyn(),
        DType::Bool(_) => Tensor::from_array((shape, data.iter::<bool>().collect::<Vec<_>>()))?.into_dyn(),
        other => panic!("rows are given no {other:?}"),
    })
}

fn fetch(value: &DynValue) -> Result<TensorData, ort::Error> {
    macro_rules! fetch {
        ($($t:ty),+) => {
            $(
                if let Ok((shape, values)) = value.try_extract_tensor::<$t>() {
                    let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
                    return Ok(TensorData::new(values.to_vec(), shape));
                }
            )+
        };
    }
    fetch!(f32, f64, i64, i32, i16, i8, u64, u32, u16, u8, burn::tensor::f16, burn::tensor::bf16);
    let (shape, values) = value.try_extract_tensor::<bool>()?;
    let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    Ok(TensorData::new(values.to_vec(), shape).convert_dtype(DType::Bool(BoolStore::Native)))
}
