//! What a network costs, counted on a recorded forward pass: nothing is computed.

use burn::backend::capture::CaptureBackend;
use burn::backend::ir::{FloatOperationIr, ModuleOperationIr, OperationIr, TensorIr};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::ReidNet;

/// Products of an evaluation of one picture of this height and width, in pixels, that are summed up: those of
/// convolutions, linear layers and other matrix products. Norms, activations and classifiers, which an evaluation does
/// not reach, are left out.
///
/// # Panics
/// If the picture is too small for the network.
pub(super) fn multiply_adds(net: &ReidNet, [height, width]: [usize; 2]) -> u64 {
    let device = Device::capture();
    let id = |tensor: Option<_>| tensor.expect("it was made on the capture device");
    let captured = device.capture_scope(|scope| {
        let net = net.valid().to_device(&device);
        let shape = [1, 3, height, width];
        let pixels = TensorData::new(vec![0.0f32; 3 * height * width], shape);
        let images = Tensor::<4>::from_data(pixels, &device);
        let input = images.clone().try_into_primitive::<CaptureBackend>().ok().map(|tensor| tensor.id());
        let features = net.embed(images);
        let output = features.try_into_primitive::<CaptureBackend>().ok().map(|tensor| tensor.id());
        scope.complete([id(input)], [id(output)])
    });
    let captured = captured.expect("an evaluation is recorded as in an export");
    captured.graph.operations.iter().map(products).sum()
}

fn products(operation: &OperationIr) -> u64 {
    let count = |tensor: &TensorIr| tensor.shape.num_elements() as u64;
    let last = |tensor: &TensorIr| tensor.shape.iter().last().map_or(1, |size| *size as u64);
    match operation {
        OperationIr::Module(ModuleOperationIr::Conv2d(op)) => {
            let outputs = op.weight.shape.iter().next().map_or(1, |size| *size as u64);
            count(&op.out) * count(&op.weight) / outputs
        }
        OperationIr::Module(ModuleOperationIr::Linear(op)) => count(&op.out) * last(&op.x),
        OperationIr::Float(_, FloatOperationIr::Matmul(op)) => count(&op.out) * last(&op.lhs),
        _ => 0,
    }
}
