"""Compares the PyTorch networks of ci/bench with golden vectors, so that the right networks are timed. Exit code 0 if all agree."""

import json
import sys

import numpy as np
import torch
from safetensors import safe_open

import controlnet
import lmbn_n
import palmvein
import senet
from lmbn_n import blocks, fill, fill_model
from networks import NETWORKS
from side_by_side import ROOT


class Golden:
    """The golden tensors of a family, stored whole or as every n-th element."""

    def __init__(self, name):
        folder = ROOT / "fixtures" / name
        self.file = safe_open(folder / "golden.safetensors", "np")
        self.facts = json.loads((folder / "golden.json").read_text())
        self.good = True

    def compare(self, name, tensor, every=1, share=1e-4):
        """Largest difference as a share of the largest golden value."""
        expected = self.file.get_tensor(name).reshape(-1).astype(np.float64)
        found = tensor.detach().double().numpy().reshape(-1)[::every][: len(expected)]
        worst = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))
        self.say(name, worst, share, f"{len(expected)} values")

    def number(self, name, found, expected, share=1e-5):
        self.say(name, abs(found - expected) / abs(expected), share, f"{found:.6f}")

    def say(self, name, worst, share, what):
        self.good &= worst <= share
        print(f"{'ok  ' if worst <= share else 'FAIL'} {name:44} difference {worst:.1e} of the largest, {share:.0e} allowed ({what})")


def drawn(name, shape, scale=1.0):
    return torch.from_numpy(fill(name, shape) * np.float32(scale))


def prefixed(module, prefix):
    """Fills a part of a network as if its names started with `prefix`."""
    state = module.state_dict()
    state = {n: torch.from_numpy(fill(prefix + n, tuple(t.shape), not t.is_floating_point())) for n, t in state.items()}
    module.load_state_dict(state)
    return module


def palm_veins():
    golden = Golden("palmvein")
    stored = golden.facts["tensors"]

    def compare(name, tensor):
        golden.compare(name, tensor, stored[name].get("step", 1), 1e-3)

    pictures = [drawn(f"input.{name}", (2, 1, 224, 224)) for name in ("palm", "vein")]
    with torch.no_grad():
        for spatial, name in ((False, "vector"), (True, "spatial")):
            network = fill_model(palmvein.PalmVein(100, spatial)).eval()
            fused = network(*pictures)
            compare(f"pipe.{name}.fused", fused)
            compare(f"pipe.{name}.logits", network.fusion.arcface(fused, torch.tensor([3, 57])))
            if not spatial:
                compare("vit.palm.pool", network.vit_palm(pictures[0]))
                compare("vit.vein.pool", network.vit_vein(pictures[1]))
                compare("cnn.palm.pool", network.cnn_palm(pictures[0]))
        compare("vit.train.pool", prefixed(palmvein.EfficientVit(), "vit_palm.").train()(pictures[0]))
        compare("cnn.palm.stage3", prefixed(palmvein.ConvNext(spatial=True), "cnn_palm.").eval()(pictures[0]))
    head = prefixed(palmvein.Head(True, 100), "fusion.").train()
    shapes = {"palm_global": (4, 192), "vein_global": (4, 192), "palm_local_map": (4, 768, 7, 7), "vein_local_map": (4, 768, 7, 7)}
    fused, labels = head(*(drawn(f"input.{name}", shape) for name, shape in shapes.items())), torch.tensor([0, 17, 99, 17])
    compare("head.spatial.train.logits", head.arcface(fused[0], labels))
    total = palmvein.loss(head.arcface, fused, labels)
    golden.number("head.spatial.train.standard", total.item(), golden.facts["losses"]["head.spatial.train.standard"]["total"])
    total.backward()
    compare("adam.spatial_plain.grad.l_fuse.conv.3.weight", head.l_fuse.conv[3].weight.grad)
    compare("adam.spatial_plain.grad.g_align_palm.fc.bias", head.g_align_palm.fc.bias.grad)
    for kind, name, key in ((palmvein.ConvNext, "cnn", "stages.2.8.gamma"), (palmvein.EfficientVit, "vit", "blocks2.1.se.fc2.bias")):
        backbone = prefixed(kind(), f"{name}_palm.").eval()
        (backbone(pictures[0]) * drawn(f"input.gout_{name}", (2, 192 if name == "vit" else 768))).sum().backward()
        compare(f"{name}.grad.{key}", backbone.get_parameter(key).grad)
    return golden.good


def case(golden, name):
    found = next(case for case in golden.facts["cases"] if case["name"] == name)
    inputs = [drawn(entry["name"], tuple(entry["shape"]), entry["scale"]) for entry in found["inputs"]]
    return found, {output["key"]: output["every"] for output in found["outputs"]}, inputs


def step(golden, name, network, loss):
    """Loss and gradients of a golden training step."""
    found, stored, inputs = case(golden, name)
    total = loss(network, found, *inputs)
    golden.number(f"{name}, loss", total.item(), found["history"][0]["total"])
    total.backward()
    for key, every in stored.items():
        if key.startswith(f"{name}/grad1."):
            gradient = network.get_parameter(key.removeprefix(f"{name}/grad1.")).grad
            golden.compare(key, torch.zeros(1) if gradient is None else gradient, every, 1e-3)


def faces():
    golden = Golden("senet")
    _, _, inputs = case(golden, "net_default")
    with torch.no_grad():
        outputs = fill_model(senet.SenetTriplet()).eval()(*inputs)
    for name, tensor in zip(("front_features", "identity_features", "front_pose"), outputs):
        golden.compare(f"net_default/{name}", tensor)

    def triplets(network, found, features, pose):
        return senet.loss(network(features, pose), features, torch.tensor(found["labels"]), pose)

    step(golden, "train_step", fill_model(senet.SenetTriplet(dropout=0.0)).train(), triplets)
    return golden.good


def generator():
    golden = Golden("controlnet")
    _, stored, inputs = case(golden, "conv_eval")
    with torch.no_grad():
        made = fill_model(controlnet.ControlNet()).eval()(*inputs[:2])
    golden.compare("conv_eval/output_image", made, stored["conv_eval/output_image"])

    def pictures(network, _, image, pose, wanted):
        return controlnet.loss(network(image, pose), wanted, pose)

    step(golden, "conv_step", fill_model(controlnet.ControlNet(dropout=0.0)).train(), pictures)
    return golden.good


def main():
    good = [lmbn_n.verify(ROOT / "fixtures/lmbn_n/golden.safetensors"), palm_veins(), faces(), generator()]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
