//! Cascaded group attention in windows, Liu et al. 2023 (arXiv:2305.07027), as the reference's older EfficientViT has
//! it: each head reads its share of the channels plus what the head before it gave.

use burn::module::{Module, Param};
use burn::nn::Relu;
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::layers::ConvBn;

/// Side of the convolution over each head's queries.
const KERNEL: usize = 5;

/// Attention in windows. A map whose size is not a multiple of the window's is padded with zeros on the right and at
/// the bottom.
#[derive(Module, Debug)]
pub struct LocalWindow {
    attn: CascadedAttention,
    #[module(skip)]
    side: usize,
}

impl LocalWindow {
    /// Windows of `side`×`side` places.
    pub fn new(channels: usize, key_dim: usize, heads: usize, side: usize, device: &Device) -> Self {
        Self { attn: CascadedAttention::new(channels, key_dim, heads, side, device), side }
    }

    /// `[batch, channels, height, width]` to the same.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = input.dims();
        let side = self.side;
        if [height, width] == [side, side] {
            return self.attn.forward(input);
        }
        let (rows, columns) = (height.div_ceil(side), width.div_ceil(side));
        let padded = input.pad((0, columns * side - width, 0, rows * side - height), 0.0);
        let windows = padded
            .reshape([batch, channels, rows, side, columns, side])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * rows * columns, channels, side, side]);
        self.attn
            .forward(windows)
            .reshape([batch, rows, columns, channels, side, side])
            .permute([0, 3, 1, 4, 2, 5])
            .reshape([batch, channels, rows * side, columns * side])
            .narrow(2, 0, height)
            .narrow(3, 0, width)
    }
}

/// The attention of one window.
#[derive(Module, Debug)]
pub struct CascadedAttention {
    qkvs: Vec<ConvBn>,
    dws: Vec<ConvBn>,
    proj: (Relu, ConvBn),
    /// Added to a pair's similarity by the distance of its places, `[heads, side²]`.
    attention_biases: Param<Tensor<2>>,
    /// For the reference's files only: what is computed uses `columns`, whatever a file holds.
    attention_bias_idxs: Param<Tensor<2, Int>>,
    #[module(skip)]
    columns: Vec<i64>,
    #[module(skip)]
    key_dim: usize,
}

/// Column of the bias for each pair of a window's places: |Δrow| · side + |Δcolumn|, row-major over (query, key).
pub fn bias_columns(side: usize) -> Vec<i64> {
    let places = || (0..side).flat_map(move |row| (0..side).map(move |column| (row, column)));
    let column = |(a, b): (usize, usize), (c, d): (usize, usize)| (a.abs_diff(c) * side + b.abs_diff(d)) as i64;
    places().flat_map(|query| places().map(move |key| column(query, key))).collect()
}

impl CascadedAttention {
    fn new(channels: usize, key_dim: usize, heads: usize, side: usize, device: &Device) -> Self {
        let share = channels / heads;
        let places = side * side;
        let columns = bias_columns(side);
        let index = Tensor::from_data(TensorData::new(columns.clone(), [places, places]), device);
        Self {
            qkvs: (0..heads).map(|_| ConvBn::pointwise(share, 2 * key_dim + share, device)).collect(),
            dws: (0..heads).map(|_| ConvBn::depthwise(key_dim, KERNEL, 1, device)).collect(),
            proj: (Relu::new(), ConvBn::pointwise(channels, channels, device)),
            attention_biases: Param::from_tensor(Tensor::zeros([heads, places], device)),
            attention_bias_idxs: Param::initialized(burn::module::ParamId::new(), index),
            columns,
            key_dim,
        }
    }

    /// `[windows, channels, side, side]` to the same.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [windows, channels, height, width] = input.dims();
        let (places, key_dim, heads) = (height * width, self.key_dim, self.qkvs.len());
        let share = channels / heads;
        let index = TensorData::new(self.columns.clone(), [places * places]);
        let index = Tensor::<1, Int>::from_data(index, &input.device());
        let biases = self.attention_biases.val().select(1, index).reshape([heads, places, places]);
        let mut outputs: Vec<Tensor<4>> = Vec::with_capacity(heads);
        for (head, (qkv, dw)) in self.qkvs.iter().zip(&self.dws).enumerate() {
            let chunk = input.clone().narrow(1, head * share, share);
            let features = match outputs.last() {
                Some(before) => before.clone() + chunk,
                None => chunk,
            };
            let qkv = qkv.forward(features);
            let query = dw.forward(qkv.clone().narrow(1, 0, key_dim)).reshape([windows, key_dim, places]);
            let key = qkv.clone().narrow(1, key_dim, key_dim).reshape([windows, key_dim, places]);
            let value = qkv.narrow(1, 2 * key_dim, share).reshape([windows, share, places]);
            let similarity = query.swap_dims(1, 2).matmul(key).mul_scalar((key_dim as f64).powf(-0.5));
            let weights = softmax(similarity + biases.clone().narrow(0, head, 1), 2);
            outputs.push(value.matmul(weights.swap_dims(1, 2)).reshape([windows, share, height, width]));
        }
        self.proj.1.forward(relu(Tensor::cat(outputs, 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows 0 and 5 of the reference's buffer for a 4×4 window.
    #[test]
    fn columns_are_the_references() {
        let columns = bias_columns(4);
        assert_eq!(columns[..16], (0..16).collect::<Vec<_>>());
        assert_eq!(columns[5 * 16..6 * 16], [5, 4, 5, 6, 1, 0, 1, 2, 5, 4, 5, 6, 9, 8, 9, 10]);
    }
}
