//! What a run of a model computes, counted from ONNX Runtime's profile of it.

use serde_json::Value;

use super::placement::LARGEST_PROFILE;

/// Multiplications with additions in convolutions and matrix products, by the type of the values that are multiplied.
/// Nothing else is counted: elsewhere a network moves values more than it computes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// In float32.
    pub float: f64,
    /// In float16 or bfloat16.
    pub half: f64,
    /// In whole numbers of eight bits.
    pub int8: f64,
}

impl Work {
    /// Of the runs whose profiles are in `folder`, one at least: a graph of a fixed batch runs several times.
    pub(super) fn in_folder(folder: &std::path::Path) -> std::io::Result<Self> {
        let mut events: Vec<Value> = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let text = files::read_text_limited(&entry?.path(), LARGEST_PROFILE)?;
            events.extend(serde_json::from_str::<Vec<Value>>(&text).map_err(std::io::Error::other)?);
        }
        if events.is_empty() {
            return Err(std::io::Error::other("ONNX Runtime wrote no profile of the run"));
        }
        Ok(Self::of(&events))
    }

    fn of(events: &[Value]) -> Self {
        let mut work = Self::default();
        for (kind, count) in events.iter().filter_map(products) {
            match kind {
                "float" => work.float += count,
                "float16" | "bfloat16" => work.half += count,
                _ => work.int8 += count,
            }
        }
        work
    }

    /// All of it.
    pub fn total(&self) -> f64 {
        self.float + self.half + self.int8
    }
}

/// Type and number of the products of a profile's event, if that is the run of a convolution or a matrix product.
fn products(event: &Value) -> Option<(&str, f64)> {
    if event["cat"] != "Node" || !event["name"].as_str()?.ends_with("_kernel_time") {
        return None;
    }
    let arguments = &event["args"];
    let operator = arguments["op_name"].as_str()?;
    // Scales and zero points of quantised values have no axes or one; bias has one.
    let mut matrices = arguments["input_type_shape"].as_array()?.iter().filter_map(tensor).filter(|of| of.1.len() > 1);
    let ((kind, left), (_, right)) = (matrices.next()?, matrices.next()?);
    let (_, out) = arguments["output_type_shape"].as_array()?.first().and_then(tensor)?;
    let count = |shape: &[f64]| shape.iter().product::<f64>();
    let products = if operator.contains("ConvTranspose") {
        count(&left) * count(&right) / right[0]
    } else if operator.contains("Conv") {
        // Output channels are first in the weights, behind them all that one value of the output reads.
        count(&out) * count(&right) / right[0]
    } else if operator.contains("Gemm") {
        count(&out) * count(&left) / out[0]
    } else if operator.contains("MatMul") {
        count(&out) * left.last()?
    } else {
        return None;
    };
    products.is_finite().then_some((kind, products))
}

/// `{"float": [1, 3, 8, 8]}`.
fn tensor(value: &Value) -> Option<(&str, Vec<f64>)> {
    let (kind, shape) = value.as_object()?.iter().next()?;
    let shape: Option<Vec<f64>> = shape.as_array()?.iter().map(Value::as_f64).collect();
    Some((kind, shape?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(operator: &str, inputs: Value, output: Value) -> Value {
        json!({"cat": "Node", "name": format!("{operator}_kernel_time"), "args": {
            "op_name": operator, "input_type_shape": inputs, "output_type_shape": [output]}})
    }

    fn work(event: Value) -> [f64; 3] {
        let Work { float, half, int8 } = Work::of(&[event]);
        [float, half, int8]
    }

    #[test]
    fn products_are_counted_as_by_hand() {
        let image = json!({"float": [2, 8, 16, 10]});
        // 2·4·16·10 values of 8·3·3 products each, of depthwise 3·3.
        let inputs = json!([image, {"float": [4, 8, 3, 3]}, {"float": [4]}]);
        assert_eq!(work(event("FusedConv", inputs, json!({"float": [2, 4, 16, 10]}))), [1280.0 * 72.0, 0.0, 0.0]);
        let inputs = json!([image, {"float": [8, 1, 3, 3]}]);
        assert_eq!(work(event("Conv", inputs, json!({"float": [2, 8, 16, 10]}))), [2560.0 * 9.0, 0.0, 0.0]);
        // Each of 2·8·16·10 values goes to 4·2·2.
        let inputs = json!([image, {"float": [8, 4, 2, 2]}]);
        assert_eq!(work(event("ConvTranspose", inputs, json!({"float": [2, 4, 32, 20]}))), [2560.0 * 16.0, 0.0, 0.0]);
        let inputs = json!([{"float16": [5, 7, 3]}, {"float16": [3, 11]}]);
        assert_eq!(work(event("MatMul", inputs, json!({"float16": [5, 7, 11]}))), [0.0, 385.0 * 3.0, 0.0]);
        // A transposed left side.
        let inputs = json!([{"float": [3, 5]}, {"float": [3, 11]}, {"float": [11]}]);
        assert_eq!(work(event("Gemm", inputs, json!({"float": [5, 11]}))), [165.0, 0.0, 0.0]);
        let scale = json!({"float": []});
        let zero = json!({"uint8": []});
        let inputs = json!([{"uint8": [1, 4, 8, 8]}, scale, zero, {"int8": [6, 4, 1, 1]}, {"float": [6]}, {"int8": [6]},
            scale, zero, {"int32": [6]}]);
        assert_eq!(work(event("QLinearConv", inputs, json!({"uint8": [1, 6, 8, 8]}))), [0.0, 0.0, 384.0 * 4.0]);
        let inputs = json!([{"float": [2, 3]}, {"float": [2, 3]}]);
        assert_eq!(work(event("Add", inputs, json!({"float": [2, 3]}))), [0.0; 3]);
        assert_eq!(work(json!({"cat": "Session", "name": "Conv_kernel_time"})), [0.0; 3]);
    }
}
