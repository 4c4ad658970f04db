"""Lets `train import` read what this PyTorch writes: a second opinion on the reader of .pth files, whose tests write theirs by hand.

usage: "$(ci/venv bench)" ci/torch_files.py [--programs FOLDER]

Saves the weights of a small OSNet in every form: archive names of 1 to 80 characters; the format before PyTorch 1.6; half, bfloat16
and double precision; DataParallel, torch.compile, averaged and Lightning's dictionaries; views and tied storages. `train import`
has to write the same tensors, to the precision of the file. Whole pickled networks, TorchScript and NaN have to be refused with what
to do instead. --programs holds `train` (target/release without it). Not part of ci/test: PyTorch has 0.6 GB. Takes half a minute
of one core. Exit code 1: a file is read wrong.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ci/bench.d"))

import networks  # noqa: E402  (from the folder above)


def small():
    """An OSNet of a quarter of the channels, with statistics that are none of a fresh network's."""
    networks.CHANNELS = (16, 64, 96, 128)
    network = networks.OSNet(7, 16)
    for part in network.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return network


def forms(network):
    """Name, what is saved, options of torch.save, and the precision that is left."""
    state = network.state_dict()
    cast = lambda dtype: {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    average = torch.optim.swa_utils.AveragedModel(network)
    optimizer = torch.optim.Adam(network.parameters())
    tied = {**state, "classifier.weight": state["classifier.weight"].t().contiguous().t()}
    padded = {**state, "fc.0.weight": torch.cat([state["fc.0.weight"], torch.zeros(3, 128)])[:16]}
    old = {"_use_new_zipfile_serialization": False}
    lightning = {f"net.{key}": value for key, value in state.items()}
    yield from ((f"a name of {n} characters", state, {"name": "n" * n}, 0) for n in (*range(1, 41), 60, 80))
    yield "before PyTorch 1.6", state, old, 0
    yield "half precision", cast(torch.float16), {}, 1e-3
    yield "half precision before PyTorch 1.6", cast(torch.float16), old, 1e-3
    yield "bfloat16", cast(torch.bfloat16), {}, 1e-2
    yield "double precision", cast(torch.float64), {}, 0
    yield "protocol 4", state, {"pickle_protocol": 4}, 0
    yield "strides", tied, {}, 0
    yield "views", padded, {}, 0
    yield "parameters", dict(network.named_parameters()) | dict(network.named_buffers()), {}, 0
    yield "DataParallel", torch.nn.DataParallel(network).state_dict(), {}, 0
    yield "torch.compile", {f"_orig_mod.{key}": value for key, value in state.items()}, {}, 0
    yield "both", {f"module._orig_mod.{key}": value for key, value in state.items()}, {}, 0
    yield "AveragedModel", average.state_dict(), {}, 0
    yield "torchreid", {"state_dict": state, "epoch": 1, "optimizer": optimizer.state_dict(), "rank1": np.float64(0.5)}, {}, 0
    yield "timm with EMA", {"state_dict": {k: v * 0 for k, v in state.items()}, "state_dict_ema": state, "args": argparse.Namespace(x=Path("a"))}, {}, 0
    yield "fast-reid's dictionary", {"model": state, "optimizer": optimizer.state_dict(), "iteration": 5, "scheduler": {"last_epoch": 2}}, {}, 0
    yield (
        "Lightning",
        {
            "state_dict": {**lightning, "criterion.centers": torch.zeros(7, 16)},
            "callbacks": {"ModelCheckpoint{'monitor': 'mAP'}": {"best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [optimizer.state_dict()],
            "lr_schedulers": [],
            "hyper_parameters": {"lr": 0.1},
            "pytorch-lightning_version": "2.5.0",
        },
        {},
        0,
    )


def refusals(network):
    """Name, how to write the file, and a word of the way out."""
    state = network.state_dict()
    broken = {**state, "conv1.conv.weight": state["conv1.conv.weight"] * float("nan")}
    # TorchScript is deprecated, and in use.
    warnings.simplefilter("ignore", FutureWarning)
    script = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    yield "a whole network", lambda path: torch.save(network, path), "state_dict()"
    yield "a whole network before 1.6", lambda path: torch.save(network, path, _use_new_zipfile_serialization=False), "state_dict()"
    yield "TorchScript", lambda path: torch.jit.save(script, path), "state_dict()"
    yield "NaN", lambda path: torch.save(broken, path), "conv1.conv.weight"


def read(train, path):
    output = path.with_name("out.safetensors")
    done = subprocess.run([train, "import", path, "--model=osnet_x0_25", "-o", output], capture_output=True, text=True)
    return done, load_file(output) if done.returncode == 0 else None


def differs(found, state, precision):
    for key, value in state.items():
        if value.is_floating_point() and not np.allclose(found.get(key, np.nan), value.numpy(), rtol=precision, atol=precision * 1e-3):
            return key
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    train = parser.parse_args().programs.resolve() / "train"
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network = small()
    state, failed, read_right = network.state_dict(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        for form, saved, options, precision in forms(network):
            path = Path(folder) / f"{options.pop('name', 'weights')}.pth"
            torch.save(saved, path, **options)
            done, found = read(train, path)
            wrong = done.stderr.strip() if found is None else differs(found, state, precision)
            if wrong:
                failed.append(f"{form}: {wrong}")
            read_right += not wrong
            path.unlink()
        for form, write, word in refusals(network):
            path = Path(folder) / "weights.pth"
            write(path)
            done, _ = read(train, path)
            if done.returncode != 2 or word not in done.stderr:
                failed.append(f"{form}: {done.returncode} {done.stderr.strip()}")
            print(f"{form}: {done.stderr.strip()}")
    print(f"{read_right} files read right", *failed, sep="\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
