//! Constant tensors: little-endian bytes with a type and a shape.

use half::{bf16, f16};

/// Element types, under ONNX's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    Float,
    Double,
    Float16,
    Bfloat16,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Bool,
}

impl DType {
    /// Bytes per element.
    pub fn bytes(self) -> usize {
        match self {
            DType::Int8 | DType::Uint8 | DType::Bool => 1,
            DType::Float16 | DType::Bfloat16 | DType::Int16 | DType::Uint16 => 2,
            DType::Float | DType::Int32 | DType::Uint32 => 4,
            DType::Double | DType::Int64 | DType::Uint64 => 8,
        }
    }

    /// Whether it is an integer of 8 or 16 bits, for which ONNX has few operators.
    pub fn is_narrow(self) -> bool {
        matches!(self, DType::Int8 | DType::Int16 | DType::Uint8 | DType::Uint16)
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::Float | DType::Double | DType::Float16 | DType::Bfloat16)
    }
}

/// A constant tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of little-endian bytes; `None` if their number does not match the shape.
    pub fn new(dtype: DType, dims: Vec<usize>, bytes: Vec<u8>) -> Option<Self> {
        (dims.iter().product::<usize>() * dtype.bytes() == bytes.len()).then_some(Self { dtype, dims, bytes })
    }

    /// A vector of 64-bit integers, as used for shapes and axes.
    pub fn int64s(values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: DType::Int64, dims: vec![values.len()], bytes }
    }

    /// Converts values to `dtype`. Floats are rounded to the nearest; integers are truncated towards 0 and wrap around
    /// if they do not fit. `None` if the number of values does not match the shape.
    pub fn from_f64s(dtype: DType, dims: Vec<usize>, values: &[f64]) -> Option<Self> {
        fn pack<const N: usize>(values: &[f64], convert: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
            values.iter().flat_map(|&value| convert(value)).collect()
        }
        let bytes = match dtype {
            DType::Float => pack(values, |v| (v as f32).to_le_bytes()),
            DType::Double => pack(values, f64::to_le_bytes),
            DType::Int8 => pack(values, |v| (v as i128 as i8).to_le_bytes()),
            DType::Int16 => pack(values, |v| (v as i128 as i16).to_le_bytes()),
            DType::Int32 => pack(values, |v| (v as i128 as i32).to_le_bytes()),
            DType::Int64 => pack(values, |v| (v as i128 as i64).to_le_bytes()),
            DType::Uint8 => pack(values, |v| (v as i128 as u8).to_le_bytes()),
            DType::Uint16 => pack(values, |v| (v as i128 as u16).to_le_bytes()),
            DType::Uint32 => pack(values, |v| (v as i128 as u32).to_le_bytes()),
            DType::Uint64 => pack(values, |v| (v as i128 as u64).to_le_bytes()),
            DType::Bool => pack(values, |v| [u8::from(v != 0.0)]),
            DType::Float16 => pack(values, |v| f16::from_f64(v).to_le_bytes()),
            DType::Bfloat16 => pack(values, |v| bf16::from_f64(v).to_le_bytes()),
        };
        Self::new(dtype, dims, bytes)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Shape.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }

    /// The values as f64; `None` for integers that would be rounded.
    pub fn to_f64s(&self) -> Option<Vec<f64>> {
        fn unpack<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)).collect()
        }
        let bytes = &self.bytes;
        Some(match self.dtype {
            DType::Float => unpack(bytes, |b| f64::from(f32::from_le_bytes(b))),
            DType::Double => unpack(bytes, f64::from_le_bytes),
            DType::Int8 => unpack(bytes, |b| f64::from(i8::from_le_bytes(b))),
            DType::Int16 => unpack(bytes, |b| f64::from(i16::from_le_bytes(b))),
            DType::Int32 => unpack(bytes, |b| f64::from(i32::from_le_bytes(b))),
            DType::Uint8 | DType::Bool => unpack(bytes, |[b]| f64::from(b)),
            DType::Uint16 => unpack(bytes, |b| f64::from(u16::from_le_bytes(b))),
            DType::Uint32 => unpack(bytes, |b| f64::from(u32::from_le_bytes(b))),
            DType::Int64 => {
                let exact = |value: &i64| value.unsigned_abs() <= 1 << 53;
                return self.to_i64s()?.into_iter().map(|value| exact(&value).then_some(value as f64)).collect();
            }
            DType::Uint64 => {
                let values = bytes.as_chunks::<8>().0.iter().map(|&chunk| u64::from_le_bytes(chunk));
                return values.map(|value| (value <= 1 << 53).then_some(value as f64)).collect();
            }
            DType::Float16 => unpack(bytes, |b| f16::from_le_bytes(b).to_f64()),
            DType::Bfloat16 => unpack(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        })
    }

    /// The values, if the type is 64-bit integers.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        (self.dtype == DType::Int64)
            .then(|| self.bytes.as_chunks::<8>().0.iter().map(|&chunk| i64::from_le_bytes(chunk)).collect())
    }

    /// The same values in another shape; `None` if the number of elements differs.
    pub fn reshaped(&self, dims: Vec<usize>) -> Option<Self> {
        Self::new(self.dtype, dims, self.bytes.clone())
    }

    /// The tensor with its axes permuted: axis `i` of the result is axis `order[i]` of `self`.
    pub fn transposed(&self, order: &[usize]) -> Option<Self> {
        let rank = self.dims.len();
        if order.len() != rank || order.iter().any(|&axis| axis >= rank) {
            return None;
        }
        let mut strides = vec![1; rank];
        for axis in (0..rank.saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1] * self.dims[axis + 1];
        }
        let dims: Vec<_> = order.iter().map(|&axis| self.dims[axis]).collect();
        let steps: Vec<_> = order.iter().map(|&axis| strides[axis]).collect();
        let width = self.dtype.bytes();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut index = vec![0; rank];
        for _ in 0..self.count() {
            let from = index.iter().zip(&steps).map(|(i, step)| i * step).sum::<usize>() * width;
            bytes.extend_from_slice(&self.bytes[from..from + width]);
            for axis in (0..rank).rev() {
                index[axis] += 1;
                if index[axis] < dims[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Some(Self { dtype: self.dtype, dims, bytes })
    }

    /// Flips the sign bit of one element of a float tensor, to plant a fault; `false` if there is no such element.
    pub fn flip_sign(&mut self, index: usize) -> bool {
        let width = self.dtype.bytes();
        match self.bytes.get_mut((index + 1) * width - 1) {
            Some(top) if self.dtype.is_float() => {
                *top ^= 0x80;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_moves_values() {
        let tensor = Tensor::from_f64s(DType::Float, vec![2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let turned = tensor.transposed(&[1, 0]).unwrap();
        assert_eq!(turned.dims(), [3, 2]);
        assert_eq!(turned.to_f64s().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(turned.transposed(&[1, 0]).unwrap(), tensor);
    }

    #[test]
    fn every_type_holds_what_it_is_given() {
        use DType::{Bfloat16, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
        for dtype in [Bfloat16, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64]
        {
            let tensor = Tensor::from_f64s(dtype, vec![3], &[0.0, 1.0, 1.0]).unwrap();
            assert_eq!(tensor.to_f64s().unwrap(), [0.0, 1.0, 1.0], "{dtype:?}");
        }
        let wrapped = |dtype, value| Tensor::from_f64s(dtype, vec![1], &[value]).unwrap().to_f64s().unwrap()[0];
        assert_eq!([wrapped(Int8, 200.0), wrapped(Uint8, -1.0), wrapped(Int32, 4_294_967_295.0)], [-56.0, 255.0, -1.0]);
        assert_eq!([wrapped(Float16, 1.0 / 3.0), wrapped(Bfloat16, 1.0 / 3.0)], [0.333_251_953_125, 0.333_984_375]);
    }

    #[test]
    fn a_flipped_sign_is_one_value() {
        let mut tensor = Tensor::from_f64s(DType::Float, vec![3], &[1.0, 2.0, 3.0]).unwrap();
        assert!(tensor.flip_sign(1));
        assert_eq!(tensor.to_f64s().unwrap(), [1.0, -2.0, 3.0]);
        assert!(!tensor.flip_sign(3));
    }
}
