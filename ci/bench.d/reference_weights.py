"""Shows that `train import` takes a reference's weights: features of both sides from weights that the reference's own code wrote.

usage: "$(ci/venv bench)" ci/bench.d/reference_weights.py FOLDER [--programs FOLDER]

FOLDER is a checkout of KaiyangZhou/deep-person-reid, JDAI-CV/fast-reid, michuanhaohao/reid-strong-baseline, XingangPan/IBN-Net,
pytorch/vision or jixunbo/LightMBN; its modules are imported from there. Each network gets random weights and running statistics,
and torch.save writes them in the form that the reference's training has. `train import` (without --model), `export --onnx` and
ONNX Runtime then have to give the reference's features on random pictures to 1e-5 of the largest. --programs holds `train` and
`export` (target/release without it). Takes up to five minutes of one core. Exit code 1: they differ.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime
import torch

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
CLASSES = 37


def module(name, path, package=None):
    """A file of the reference as a module, without the imports of the package around it."""
    spec = importlib.util.spec_from_file_location(f"{package}.{name}" if package else name, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def randomise(network):
    """Weights that an ordinary training could have: every norm has statistics and factors of its own, small ones where a block ends."""
    for name, part in network.named_modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
        if isinstance(part, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.InstanceNorm2d)) and part.affine:
            # A non-local block multiplies three maps.
            factor = 0.01 if name.endswith(".W.1") else 0.3 if name.endswith(".bn3") else 1
            torch.nn.init.uniform_(part.weight, 0.8 * factor, 1.2 * factor)
            torch.nn.init.normal_(part.bias, 0, 0.1)
    return network.eval()


def of_torchreid(folder):
    """Networks of torchreid by the names that ours have, their pictures' size, and how its training saves them."""
    osnet, ain, resnet, ibn = (
        module(name, folder / f"torchreid/models/{name}.py") for name in ("osnet", "osnet_ain", "resnet", "resnet_ibn_a")
    )
    names = {
        "OSNet": osnet.osnet_x1_0,
        "OSNet_x0_75": osnet.osnet_x0_75,
        "OSNet_x0_5": osnet.osnet_x0_5,
        "OSNet_x0_25": osnet.osnet_x0_25,
        "OSNet_IBN": osnet.osnet_ibn_x1_0,
        "OSNet_AIN": ain.osnet_ain_x1_0,
        "ResNet50 with --head none and --last-stride 2": resnet.resnet50,
        "ResNet50 with --head linear": resnet.resnet50_fc512,
        "ResNet50_IBN with --head none and --last-stride 2": ibn.resnet50_ibn_a,
    }
    for name, make in names.items():
        network = randomise(make(num_classes=CLASSES, pretrained=False))
        optimizer = torch.optim.Adam(network.parameters())
        saved = {"state_dict": network.state_dict(), "epoch": 3, "rank1": 0.5, "optimizer": optimizer.state_dict()}
        yield name, network, (256, 128), saved


def package(name, folder, **names):
    """An empty package whose modules lie in the folder, and which has these names."""
    made = types.ModuleType(name)
    made.__path__ = [str(folder)]
    vars(made).update(names)
    sys.modules[name] = made
    return made


class Registry:
    """Registers nothing."""

    def register(self):
        return lambda what: what


def of_fast_reid(folder):
    """Bag of tricks, SBS, AGW and SBS with IBN of fast-reid, whose checkpoints keep what its model zoo has beside the weights."""
    root = folder / "fastreid"
    package("fastreid", root)
    package("fastreid.config", root / "config", configurable=lambda make: make)
    package("fastreid.utils", root / "utils", comm=None)
    package("fastreid.utils.checkpoint", root, get_missing_parameters_message=None, get_unexpected_parameters_message=None)
    package("fastreid.modeling", root / "modeling")
    package("fastreid.modeling.backbones", root / "modeling/backbones")
    package("fastreid.modeling.backbones.build", root, BACKBONE_REGISTRY=Registry())
    package("fastreid.modeling.heads", root / "modeling/heads")
    package("fastreid.modeling.heads.build", root, REID_HEADS_REGISTRY=Registry())
    layers = package("fastreid.layers", root / "layers")
    for name in ("batch_norm", "non_local", "se_layer", "pooling", "any_softmax", "weight_init"):
        loaded = module(name, root / f"layers/{name}.py", "fastreid.layers")
        vars(layers)[name] = loaded
        vars(layers).update({key: value for key, value in vars(loaded).items() if key[0].isupper() or key == "get_norm"})
    resnet = module("resnet", root / "modeling/backbones/resnet.py", "fastreid.modeling.backbones")
    heads = module("embedding_head", root / "modeling/heads/embedding_head.py", "fastreid.modeling.heads")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    neck = ["--bnneck", "--stem unpadded"]
    for name, ibn, non_local, pool, softmax, flags in (
        ("ResNet50", False, False, "GlobalAvgPool", "Linear", neck),
        ("ResNet50", False, True, "GeneralizedMeanPoolingP", "CircleSoftmax", [*neck, "--gem learned", "--non-local"]),
        ("ResNet50", False, True, "GeneralizedMeanPooling", "Linear", [*neck, "--gem fixed", "--non-local"]),
        ("ResNet101_IBN", True, True, "GeneralizedMeanPoolingP", "CircleSoftmax", [*neck, "--gem learned", "--non-local"]),
    ):
        blocks, last = ([3, 4, 23, 3], [0, 2, 9, 0]) if "101" in name else ([3, 4, 6, 3], [0, 2, 3, 0])
        head = heads.EmbeddingHead(
            feat_dim=2048, embedding_dim=0, num_classes=CLASSES, neck_feat="after", pool_type=pool, cls_type=softmax,
            scale=64, margin=0.35, with_bnneck=True, norm_type="BN",
        )
        network = torch.nn.Module()
        network.backbone = resnet.ResNet(1, "BN", ibn, False, non_local, resnet.Bottleneck, blocks, last)
        network.heads = head
        network.forward = lambda pictures, network=network: network.heads(network.backbone(pictures))
        randomise(network)
        state = network.state_dict()
        title = f"{name} with {' and '.join(flags)}"
        yield title, network, (256, 128), {"model": state, "optimizer": {}, "iteration": 7}
        swaps = ("bottleneck.0", "bnneck"), ("heads.weight", "heads.classifier.weight")
        zoo = {"pixel_mean": mean, "pixel_std": std}
        for key, value in state.items():
            for ours, theirs in swaps:
                key = key.replace(ours, theirs)
            zoo[key] = value
        yield title, network, (256, 128), {"model": zoo}


def of_strong_baseline(folder):
    """The networks of the scripts of "Bag of tricks"."""
    package("modeling", folder / "modeling")
    baseline = module("baseline", folder / "modeling/baseline.py", "modeling")
    for name, theirs, flags in (
        ("ResNet50", "resnet50", "--bnneck and --stem no-relu"),
        ("ResNet50_IBN", "resnet50_ibn_a", "--bnneck"),
    ):
        network = randomise(baseline.Baseline(CLASSES, 1, "", "bnneck", "after", theirs, "no"))
        yield f"{name} with {flags}", network, (256, 128), network.state_dict()


def features(network):
    """An ImageNet classifier up to its pooled map."""
    layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")

    def forward(pictures):
        for layer in layers:
            pictures = getattr(network, layer)(pictures)
        return pictures.mean((2, 3))

    return forward


def of_classifiers(makes):
    """ImageNet classifiers, whose features are their pooled maps."""
    for name, make in makes.items():
        network = randomise(make())
        yield f"{name} with --head none and --last-stride 2", features(network), (224, 224), network.state_dict()


def of_ibn_net(folder):
    """Those of IBN-Net."""
    package("ibnnet", folder / "ibnnet")
    ibn = module("resnet_ibn", folder / "ibnnet/resnet_ibn.py", "ibnnet")
    return of_classifiers({"ResNet50_IBN": ibn.resnet50_ibn_a, "ResNet101_IBN": ibn.resnet101_ibn_a})


def of_torchvision(folder):
    """That of torchvision, whose modules for pictures and downloads its network does not call."""
    package("torchvision", folder / "torchvision")
    package("torchvision.models", folder / "torchvision/models")
    for name in ("transforms", "transforms._presets", "utils", "models._api", "models._meta", "models._utils", "models.utils"):
        sys.modules[f"torchvision.{name}"] = mock.MagicMock(WeightsEnum=object)
    resnet = module("resnet", folder / "torchvision/models/resnet.py", "torchvision.models")
    return of_classifiers({"ResNet50": lambda: resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3])})


def of_lightmbn(folder):
    """The networks of LightMBN."""
    # It is imported for one function that its networks do not call.
    sys.modules.setdefault("torchvision", mock.MagicMock())
    package("model", folder / "model")
    arguments = types.SimpleNamespace(num_classes=CLASSES, feats=512, activation_map=False, drop_block=False)
    lmbn = module("lmbn_n", folder / "model/lmbn_n.py", "model")
    make = lmbn.osnet_x1_0
    with mock.patch.object(lmbn, "osnet_x1_0", lambda pretrained: make(pretrained=False)):
        network = randomise(lmbn.LMBN_n(arguments))
    yield "LMBN_n", network, (384, 128), network.state_dict()
    parallel = {f"module.{key}": value for key, value in network.state_dict().items()}
    yield "LMBN_n", network, (384, 128), {"state_dict": parallel, "epoch": 1, "log": torch.zeros(3, 7)}


def ours(programs, saved, size, folder):
    """What `train import` made of the file, and the features of the exported network."""
    path, checkpoint, bundle = folder / "weights.pth.tar", folder / "net.safetensors", folder / "bundle"
    torch.save(saved, path)
    sizes = [f"--height={size[0]}", f"--width={size[1]}"]
    imported, exported = (
        subprocess.run(command, capture_output=True, text=True)
        for command in (
            [programs / "train", "import", path, "-o", checkpoint, *sizes],
            [programs / "export", "--onnx", checkpoint, "-o", bundle],
        )
    )
    for done in (imported, exported):
        if done.returncode:
            return done.stderr.strip(), None
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    return imported.stdout.split(": ", 1)[1].split(", ")[0], session


def compare(programs, name, network, size, saved):
    pictures = torch.randn(2, 3, *size)
    with torch.no_grad():
        wanted = network(pictures).numpy()
    with tempfile.TemporaryDirectory() as folder:
        found, session = ours(programs, saved, size, Path(folder))
        if session is None:
            return f"{name} refused: {found}", False
        answer = session.run(None, {session.get_inputs()[0].name: pictures.numpy()})[0]
    apart = np.abs(answer.reshape(wanted.shape) - wanted).max() / np.abs(wanted).max()
    agrees = found == name and apart <= TOLERANCE
    told = "" if found == name else f"imported as {found}, "
    return f"{name}: {told}features {apart:.1e} of the largest apart", agrees


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    a = parser.parse_args()
    known = {
        "torchreid/models/osnet.py": of_torchreid,
        "fastreid/layers/non_local.py": of_fast_reid,
        "modeling/baseline.py": of_strong_baseline,
        "ibnnet/resnet_ibn.py": of_ibn_net,
        "torchvision/models/resnet.py": of_torchvision,
        "model/lmbn_n.py": of_lightmbn,
    }
    subjects = next((of for file, of in known.items() if (a.folder / file).is_file()), None)
    if subjects is None:
        parser.error(f"`{a.folder}` has none of {', '.join(known)}")
    torch.manual_seed(1)
    torch.set_num_threads(1)
    agree = True
    for subject in subjects(a.folder):
        line, agrees = compare(a.programs.resolve(), *subject)
        print(line if agrees else f"{line}: NO", flush=True)
        agree &= agrees
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
