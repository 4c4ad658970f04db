//! A Burn module of one's own as an ONNX file that ONNX Runtime and Burn agree on. `cargo run --example any_module`
//!
//! Needs ONNX Runtime's library: `ci/onnxruntime cpu` installs it, or ORT_DYLIB_PATH names it.

use std::error::Error;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Tensor};
use export::contract::Axis;
use export::{Exporter, Runtime};

#[derive(Module, Debug)]
struct Net {
    hidden: Linear,
    head: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self { hidden: LinearConfig::new(8, 16).init(device), head: LinearConfig::new(16, 4).init(device) }
    }

    /// `[batch, 8]` to `[batch, 4]`, rows of probabilities.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        softmax(self.head.forward(gelu(self.hidden.forward(x))), 1)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let net = Net::new(&Device::flex());
    let model = Exporter::new("net")
        .input("x", [Axis::Symbol("batch".into()), Axis::Size(8)])
        .output("probabilities")
        .export(&net, |net: &Net, x: Tensor<2>| net.forward(x))?;
    for node in &model.graph().nodes {
        println!("{:12} {}", node.op.schema().name, node.name);
    }
    // Several sizes of the batch; a difference would be an error that names the first node that has it.
    let parity = model.verify(&Runtime::load()?)?;
    println!("{}", parity.to_markdown());
    let file = tempfile::NamedTempFile::with_suffix(".onnx")?;
    std::fs::write(file.path(), model.to_bytes(&[])?)?;
    println!("{}: {} bytes", file.path().display(), file.path().metadata()?.len());
    Ok(())
}
