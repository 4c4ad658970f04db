//! Burn's element types and arrays as ONNX's.

use burn::tensor::{BoolStore, DType as BurnType, TensorData};
use graph::{DType, Tensor};

/// The ONNX type of a Burn type; none for quantised ones.
pub(crate) fn dtype(burn: BurnType) -> Option<DType> {
    Some(match burn {
        BurnType::F64 => DType::Double,
        BurnType::F32 | BurnType::Flex32 => DType::Float,
        BurnType::F16 => DType::Float16,
        BurnType::BF16 => DType::Bfloat16,
        BurnType::I64 => DType::Int64,
        BurnType::I32 => DType::Int32,
        BurnType::I16 => DType::Int16,
        BurnType::I8 => DType::Int8,
        BurnType::U64 => DType::Uint64,
        BurnType::U32 => DType::Uint32,
        BurnType::U16 => DType::Uint16,
        BurnType::U8 => DType::Uint8,
        BurnType::Bool(_) => DType::Bool,
        BurnType::QFloat(_) => return None,
    })
}

/// Burn's array as ONNX's.
pub(crate) fn tensor(data: &TensorData) -> Option<Tensor> {
    let dims: Vec<usize> = data.shape().iter().copied().collect();
    let native = match data.dtype() {
        BurnType::Bool(BoolStore::U32) => data.clone().convert_dtype(BurnType::Bool(BoolStore::Native)),
        BurnType::Flex32 => data.clone().convert_dtype(BurnType::F32),
        _ => return Tensor::new(dtype(data.dtype())?, dims, data.as_bytes().to_vec()),
    };
    Tensor::new(dtype(native.dtype())?, dims, native.as_bytes().to_vec())
}
