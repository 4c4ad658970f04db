//! Group and instance norms, as `burn-nn` composes them, on pictures of any size.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::conv;
use crate::filled;

#[derive(Module, Debug)]
pub struct Norms {
    conv1: Conv2d,
    group: GroupNorm,
    conv2: Conv2d,
    instance: InstanceNorm,
}

impl Norms {
    pub fn new() -> Self {
        let device = Device::flex();
        filled(Self {
            conv1: conv([3, 8], 3, 2, 1, true),
            group: GroupNormConfig::new(4, 8).init(&device),
            conv2: conv([8, 6], 3, 1, 1, true),
            instance: InstanceNormConfig::new(6).init(&device),
        })
    }

    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        let x = relu(self.group.forward(self.conv1.forward(image)));
        self.instance.forward(self.conv2.forward(x))
    }
}

#[cfg(test)]
mod tests {
    use export::Exporter;

    use super::Norms;
    use crate::networks::agrees::{agrees, any_picture};
    use crate::{batch_of, operators};

    /// The nodes that remain: one per norm where every channel is a group, else one between reshapes.
    const LEFT: [&str; 9] =
        ["Conv", "Reshape", "InstanceNormalization", "Reshape", "Mul", "Add", "Relu", "Conv", "InstanceNormalization"];

    #[test]
    fn norms() {
        let exporter = Exporter::new("norms").input("image", batch_of(&[3, 10, 12])).output("map");
        let model = agrees(&exporter, &Norms::new(), Norms::forward);
        assert_eq!(operators(&model), LEFT);
        let names: Vec<_> = model.graph().nodes.iter().map(|node| node.name.as_str()).collect();
        assert!(names[8].starts_with("instance/InstanceNormalization"), "{names:?}");
    }

    #[test]
    fn norms_of_any_picture() {
        let exporter = Exporter::new("norms-any").input("image", any_picture(3)).output("map");
        let model = agrees(&exporter, &Norms::new(), Norms::forward);
        let count = |name: &str| operators(&model).iter().filter(|operator| *operator == name).count();
        assert_eq!((count("InstanceNormalization"), count("ReduceMean"), count("Sqrt")), (2, 0, 0));
    }
}
