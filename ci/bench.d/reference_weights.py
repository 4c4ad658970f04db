"""Shows that `train import` takes a reference's weights: features of both sides from weights that the reference's own code wrote.

usage: "$(ci/venv bench)" ci/bench.d/reference_weights.py FOLDER [--programs FOLDER]

FOLDER is a checkout of KaiyangZhou/deep-person-reid or jixunbo/LightMBN; its modules are imported from there. Each network gets
random weights and running statistics, and torch.save writes them in the form that the reference's training has. `train import`
(without --model), `export --onnx` and ONNX Runtime then have to give the reference's features on random pictures to 1e-5 of the
largest. --programs holds `train` and `export` (target/release without it). Takes half a minute of one core. Exit code 1: they differ.
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
    """Weights that an ordinary training could have: every norm has statistics and factors of its own."""
    for part in network.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
        if isinstance(part, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.InstanceNorm2d)) and part.affine:
            torch.nn.init.uniform_(part.weight, 0.8, 1.2)
            torch.nn.init.normal_(part.bias, 0, 0.1)
    return network.eval()


def of_torchreid(folder):
    """Networks of torchreid by the names that ours have, their pictures' size, and how its training saves them."""
    osnet = module("osnet", folder / "torchreid/models/osnet.py")
    ain = module("osnet_ain", folder / "torchreid/models/osnet_ain.py")
    names = {
        "OSNet": osnet.osnet_x1_0,
        "OSNet_x0_75": osnet.osnet_x0_75,
        "OSNet_x0_5": osnet.osnet_x0_5,
        "OSNet_x0_25": osnet.osnet_x0_25,
        "OSNet_IBN": osnet.osnet_ibn_x1_0,
        "OSNet_AIN": ain.osnet_ain_x1_0,
    }
    for name, make in names.items():
        network = randomise(make(num_classes=CLASSES, pretrained=False))
        optimizer = torch.optim.Adam(network.parameters())
        saved = {"state_dict": network.state_dict(), "epoch": 3, "rank1": 0.5, "optimizer": optimizer.state_dict()}
        yield name, network, (256, 128), saved


def of_lightmbn(folder):
    """The networks of LightMBN."""
    # It is imported for one function that its networks do not call.
    sys.modules.setdefault("torchvision", mock.MagicMock())
    package = types.ModuleType("model")
    package.__path__ = [str(folder / "model")]
    sys.modules["model"] = package
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
    return imported.stdout.split(": ", 1)[1].split(",")[0], session


def compare(programs, name, network, size, saved):
    pictures = torch.randn(2, 3, *size)
    with torch.no_grad():
        wanted = network(pictures).numpy()
    with tempfile.TemporaryDirectory() as folder:
        found, session = ours(programs, saved, size, Path(folder))
        if session is None:
            return f"{name:<12} refused: {found}", False
        answer = session.run(None, {session.get_inputs()[0].name: pictures.numpy()})[0]
    apart = np.abs(answer.reshape(wanted.shape) - wanted).max() / np.abs(wanted).max()
    agrees = found == name and apart <= TOLERANCE
    return f"{name:<12} imported as {found}, features {apart:.1e} of the largest apart", agrees


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    a = parser.parse_args()
    if (a.folder / "torchreid/models/osnet.py").is_file():
        subjects = of_torchreid(a.folder)
    elif (a.folder / "model/lmbn_n.py").is_file():
        subjects = of_lightmbn(a.folder)
    else:
        parser.error(f"`{a.folder}` has neither torchreid/models/osnet.py nor model/lmbn_n.py")
    torch.manual_seed(1)
    torch.set_num_threads(1)
    agree = True
    for subject in subjects:
        line, agrees = compare(a.programs.resolve(), *subject)
        print(line if agrees else f"{line}: NO", flush=True)
        agree &= agrees
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
