//! What goes into a graph and comes out of it, where that is not float32 in the order of the contract.
//!
//! Everywhere else a picture is `[channels, height, width]` in single precision. Here it is brought to the order and
//! the type of the graph's input, and outputs back to single precision.

use std::borrow::Cow;

use contract::InputSpec;
use half::f16;
use ort::session::SessionInputValue;
use ort::value::{DynValue, Tensor, TensorElementType, TensorRef};

/// Type of the values of an input or output that is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// Single precision.
    Float,
    /// Half precision: values are rounded.
    Half,
    /// Pixels as they are.
    Byte,
}

impl Element {
    /// The type of an input or output; what is allowed, where it cannot be run.
    pub(super) fn of(ty: TensorElementType, input: bool) -> Result<Self, &'static str> {
        match ty {
            TensorElementType::Float32 => Ok(Self::Float),
            TensorElementType::Float16 => Ok(Self::Half),
            TensorElementType::Uint8 if input => Ok(Self::Byte),
            _ if input => Err("float32, float16 or uint8"),
            _ => Err("float32 or float16"),
        }
    }
}

/// A batch of `rows` rows, `values` in the contract's order, as the graph takes it.
///
/// # Errors
/// If ONNX Runtime cannot make the tensor.
pub(super) fn input<'v>(
    spec: &InputSpec,
    element: Element,
    rows: usize,
    values: &'v [f32],
) -> ort::Result<SessionInputValue<'v>> {
    let row = spec.row().unwrap_or_default();
    let last = spec.picture.as_ref().is_some_and(contract::PictureSpec::is_channels_last);
    let (shape, values): (Vec<usize>, _) = match row.as_slice() {
        &[channels, height, width] if last => {
            (vec![rows, height, width, channels], Cow::Owned(channels_last(values, channels, height * width)))
        }
        _ => (std::iter::once(rows).chain(row).collect(), Cow::Borrowed(values)),
    };
    Ok(match (element, values) {
        (Element::Float, Cow::Borrowed(values)) => TensorRef::from_array_view((shape, values))?.into(),
        (Element::Float, Cow::Owned(values)) => Tensor::from_array((shape, values))?.into(),
        (Element::Half, values) => {
            let values: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
            Tensor::from_array((shape, values))?.into()
        }
        (Element::Byte, values) => {
            let values: Vec<u8> = values.iter().map(|value| value.round() as u8).collect();
            Tensor::from_array((shape, values))?.into()
        }
    })
}

/// `[rows, channels, pixels]` as `[rows, pixels, channels]`.
fn channels_last(values: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    let mut moved = vec![0.0; values.len()];
    let size = (channels * pixels).max(1);
    for (row, moved) in values.chunks_exact(size).zip(moved.chunks_exact_mut(size)) {
        for (channel, plane) in row.chunks_exact(pixels).enumerate() {
            moved.iter_mut().skip(channel).step_by(channels).zip(plane).for_each(|(to, from)| *to = *from);
        }
    }
    moved
}

/// Shape and values of an output in single precision.
///
/// # Errors
/// If it is no tensor of floats.
pub(super) fn output(value: &DynValue) -> ort::Result<(Vec<usize>, Vec<f32>)> {
    let sizes = |shape: &[i64]| shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
    if let Ok((shape, values)) = value.try_extract_tensor::<f16>() {
        return Ok((sizes(shape), values.iter().map(|value| value.to_f32()).collect()));
    }
    let (shape, values) = value.try_extract_tensor::<f32>()?;
    Ok((sizes(shape), values.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_a_pixel_lie_together() {
        // Two rows of two channels and three pixels.
        let planes: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let expected = [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0];
        assert_eq!(channels_last(&planes, 2, 3), expected);
        assert!(channels_last(&[], 3, 4).is_empty());
    }
}
