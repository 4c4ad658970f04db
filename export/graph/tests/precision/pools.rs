//! Pooling by mean in integers.

use onnx::AttributeProto;

use crate::draft::{Draft, attribute};
use crate::insert::{CPU, TENSOR_RT, count, fused, quantised};

/// A convolution, a pooling by mean with these attributes, and a convolution.
fn pooled(attributes: Vec<AttributeProto>) -> (Draft, String) {
    let mut draft = Draft::new(&[1, 4, 24, 16]);
    let a = draft.conv("x", [8, 4], 3, 1);
    let a = draft.node("Relu", &[&a], vec![]);
    let a = draft.node("AveragePool", &[&a], attributes);
    let y = draft.conv(&a, [8, 8], 1, 1);
    (draft, y)
}

fn window(more: Vec<AttributeProto>) -> Vec<AttributeProto> {
    let mut attributes = vec![attribute("kernel_shape").ints(&[3, 2]), attribute("strides").ints(&[2, 2])];
    attributes.extend(more);
    attributes
}

#[test]
fn a_mean_is_a_convolution_of_single_channels() {
    let counted = vec![attribute("pads").ints(&[1, 0, 1, 0]), attribute("count_include_pad").int(1)];
    for attributes in [window(vec![]), window(counted)] {
        let (draft, output) = pooled(attributes);
        let counts = fused(&quantised(&draft, &output, CPU, 0.999).model);
        assert_eq!((count(&counts, "QLinearConv"), count(&counts, "QLinearAveragePool")), (3, 0), "{counts:?}");
        assert_eq!((count(&counts, "QuantizeLinear"), count(&counts, "DequantizeLinear")), (1, 1), "{counts:?}");
    }
}

/// What a convolution would compute otherwise stays a pooling: padding that is not counted, a last window that is cut.
#[test]
fn other_means_stay_poolings() {
    let cut = vec![attribute("ceil_mode").int(1)];
    let uncounted = vec![attribute("pads").ints(&[1, 0, 1, 0])];
    for attributes in [window(cut), window(uncounted)] {
        let (draft, output) = pooled(attributes);
        let counts = fused(&quantised(&draft, &output, CPU, 0.999).model);
        assert_eq!((count(&counts, "QLinearConv"), count(&counts, "QLinearAveragePool")), (2, 1), "{counts:?}");
    }
    let (draft, output) = pooled(window(vec![]));
    let model = quantised(&draft, &output, TENSOR_RT, 0.999).model;
    assert!(model.graph.unwrap().node.iter().any(|node| node.op_type == "AveragePool"));
}
