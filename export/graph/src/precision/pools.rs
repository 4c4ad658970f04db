//! Average pooling as a convolution, which runtimes compute in integers in the layout of their other convolutions.

use onnx::{AttributeProto, AttributeType, NodeProto};

use super::net::{Net, dims, int, ints, standard};

/// The convolution of single channels that a pooling by mean is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mean {
    /// Number of channels.
    pub channels: usize,
    /// Height and width of the window.
    pub window: [usize; 2],
    /// Attributes of the convolution.
    pub attributes: Vec<AttributeProto>,
}

/// `None` where the node pools otherwise, counts what it pads with differently than a convolution does, or has a number
/// of channels that the graph does not tell.
pub(super) fn mean(net: &Net, node: &NodeProto) -> Option<Mean> {
    let [height, width] = *ints(node, "kernel_shape")? else { return None };
    let padded = ints(node, "pads").is_some_and(|pads| pads.iter().any(|&pad| pad != 0));
    let automatic = node.attribute.iter().any(|attribute| attribute.name == "auto_pad");
    let counted = !padded || int(node, "count_include_pad", 0) == 1;
    if node.op_type != "AveragePool" || !standard(node) || automatic || !counted || int(node, "ceil_mode", 0) != 0 {
        return None;
    }
    let window = [usize::try_from(height).ok()?, usize::try_from(width).ok()?];
    let channels = channels(net, node.input.first()?)?;
    let kept =
        |attribute: &&AttributeProto| ["kernel_shape", "pads", "strides", "dilations"].contains(&&*attribute.name);
    let mut attributes: Vec<AttributeProto> = node.attribute.iter().filter(kept).cloned().collect();
    attributes.push(AttributeProto {
        name: "group".into(),
        r#type: AttributeType::Int as i32,
        i: Some(channels as i64),
        ..AttributeProto::default()
    });
    Some(Mean { channels, window, attributes })
}

/// Channels of a value: those of the convolution before it, through what works on each channel on its own.
fn channels(net: &Net, value: &str) -> Option<usize> {
    let mut value = value;
    // As many steps as there are nodes: a file may have a circle.
    for _ in 0..net.graph.node.len() {
        let node = &net.graph.node[net.producer(value)?];
        match node.op_type.as_str() {
            "Conv" if standard(node) => return dims(net.constant(node.input.get(1)?)?).first().copied(),
            "Relu" | "LeakyRelu" | "Sigmoid" | "Clip" | "BatchNormalization" | "MaxPool" | "AveragePool" => {
                value = node.input.first()?;
            }
            _ => return None,
        }
    }
    None
}
