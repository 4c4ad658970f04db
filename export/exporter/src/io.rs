//! The inputs and outputs that a forward function may have: tensors of any rank and kind, and tuples, arrays and
//! vectors of them.

use burn::backend::ir::TensorId;
use burn::tensor::{Bool, BoolStore, DType as BurnType, Device, Float, Int, Tensor, TensorData};

use burn::backend::capture::CaptureBackend;

/// Kind of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Floating point.
    Float,
    /// Integers.
    Int,
    /// Booleans.
    Bool,
}

/// Rank and kind of one input of a forward function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// Number of axes.
    pub rank: usize,
    /// Kind.
    pub kind: Kind,
}

/// The values that an input may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Values {
    /// Floats: in the declared range, or in that of normalised pictures.
    Floats(Option<[f32; 2]>),
    /// Integers in `low..high`.
    Integers([i64; 2]),
    /// Booleans.
    Booleans,
}

impl Values {
    /// Valid values to record with, all equal.
    pub(crate) fn blank(self, shape: Vec<usize>) -> TensorData {
        match self {
            Values::Floats(range) => {
                let [low, high] = range.unwrap_or([-1.0, 1.0]);
                TensorData::full(shape, 0.0f32.clamp(low, high))
            }
            Values::Integers([low, _]) => TensorData::full(shape, low),
            Values::Booleans => TensorData::full_dtype(shape, false, BurnType::Bool(BoolStore::Native)),
        }
    }

    /// Valid values that differ from element to element.
    pub(crate) fn varied(self, shape: Vec<usize>) -> TensorData {
        let count = shape.iter().product::<usize>();
        match self {
            Values::Floats(range) => {
                let [low, high] = range.unwrap_or([-1.0, 1.0]);
                let step = |index: usize| high - (high - low) * (index as f32 / count as f32);
                TensorData::new((0..count).map(step).collect(), shape)
            }
            Values::Integers([low, high]) => {
                let span = i128::from(high) - i128::from(low);
                let step = |index: usize| (i128::from(high) - 1 - index as i128 % span) as i64;
                TensorData::new((0..count).map(step).collect(), shape)
            }
            Values::Booleans => {
                let values: Vec<bool> = (0..count).map(|index| index % 2 == 0).collect();
                TensorData::new(values, shape).convert_dtype(BurnType::Bool(BoolStore::Native))
            }
        }
    }
}

/// A tensor of any rank and kind: an input or output of a forward function.
#[derive(Debug, Clone)]
pub struct AnyTensor {
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// On the capture device: only the tensor's id.
    Recorded(TensorId),
    /// Anywhere else: its values.
    Values(TensorData),
}

impl AnyTensor {
    pub(crate) fn recorded(&self) -> Option<TensorId> {
        match self.content {
            Content::Recorded(id) => Some(id),
            Content::Values(_) => None,
        }
    }

    pub(crate) fn into_values(self) -> Option<TensorData> {
        match self.content {
            Content::Recorded(_) => None,
            Content::Values(values) => Some(values),
        }
    }
}

/// The inputs of a forward function: a tensor, a tuple of up to eight, or an array, nested to any depth.
pub trait Inputs: Sized {
    /// Rank and kind of each tensor, in order.
    fn signatures() -> Vec<Signature>;

    /// Puts the next arrays of `data`, one for each signature, on `device`.
    ///
    /// # Panics
    /// If `data` ends early or an array has another rank. The exporter checks both first.
    fn take(data: &mut dyn Iterator<Item = TensorData>, device: &Device) -> Self;

    /// The tensors, in order.
    fn tensors(&self) -> Vec<AnyTensor>;
}

/// The outputs of a forward function: a tensor, or tuples, arrays, vectors and options of tensors, nested to any
/// depth.
pub trait Outputs {
    /// The tensors, in order.
    fn tensors(&self) -> Vec<AnyTensor>;
}

macro_rules! tensor {
    ($kind:ident) => {
        impl<const D: usize> Inputs for Tensor<D, $kind> {
            fn signatures() -> Vec<Signature> {
                vec![Signature { rank: D, kind: Kind::$kind }]
            }

            fn take(data: &mut dyn Iterator<Item = TensorData>, device: &Device) -> Self {
                Tensor::from_data(data.next().expect("one array per signature"), device)
            }

            fn tensors(&self) -> Vec<AnyTensor> {
                let content = match self.clone().try_into_primitive::<CaptureBackend>() {
                    Ok(recorded) => Content::Recorded(recorded.id()),
                    Err(_) => Content::Values(self.to_data()),
                };
                vec![AnyTensor { content }]
            }
        }

        impl<const D: usize> Outputs for Tensor<D, $kind> {
            fn tensors(&self) -> Vec<AnyTensor> {
                <Self as Inputs>::tensors(self)
            }
        }
    };
}

tensor!(Float);
tensor!(Int);
tensor!(Bool);

impl<T: Inputs, const N: usize> Inputs for [T; N] {
    fn signatures() -> Vec<Signature> {
        (0..N).flat_map(|_| T::signatures()).collect()
    }

    fn take(data: &mut dyn Iterator<Item = TensorData>, device: &Device) -> Self {
        std::array::from_fn(|_| T::take(data, device))
    }

    fn tensors(&self) -> Vec<AnyTensor> {
        self.iter().flat_map(T::tensors).collect()
    }
}

impl<T: Outputs, const N: usize> Outputs for [T; N] {
    fn tensors(&self) -> Vec<AnyTensor> {
        self.iter().flat_map(T::tensors).collect()
    }
}

impl<T: Outputs> Outputs for Vec<T> {
    fn tensors(&self) -> Vec<AnyTensor> {
        self.iter().flat_map(T::tensors).collect()
    }
}

impl<T: Outputs> Outputs for Option<T> {
    fn tensors(&self) -> Vec<AnyTensor> {
        self.iter().flat_map(T::tensors).collect()
    }
}

macro_rules! tuple {
    ($($name:ident),+) => {
        impl<$($name: Inputs),+> Inputs for ($($name,)+) {
            fn signatures() -> Vec<Signature> {
                [$($name::signatures()),+].concat()
            }

            fn take(data: &mut dyn Iterator<Item = TensorData>, device: &Device) -> Self {
                ($($name::take(data, device),)+)
            }

            #[allow(non_snake_case)]
            fn tensors(&self) -> Vec<AnyTensor> {
                let ($($name,)+) = self;
                [$($name.tensors()),+].concat()
            }
        }

        impl<$($name: Outputs),+> Outputs for ($($name,)+) {
            #[allow(non_snake_case)]
            fn tensors(&self) -> Vec<AnyTensor> {
                let ($($name,)+) = self;
                [$($name.tensors()),+].concat()
            }
        }
    };
}

tuple!(A);
tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);
tuple!(A, B, C, D, E);
tuple!(A, B, C, D, E, F);
tuple!(A, B, C, D, E, F, G);
tuple!(A, B, C, D, E, F, G, H);
