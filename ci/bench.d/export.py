"""Our file of a network in ONNX Runtime against the ones that torch.onnx makes of the same network and weights.

Weights are made by rule, imported with `train import` and exported with `export --onnx` (--weights and --ours give other ones).
Latency: the same ONNX Runtime, session options and input for all, in turns; PyTorch's eager mode beside them. `--network all` goes
through all networks."""

import json
import logging
import shutil
import statistics
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file, save_file

import palmvein
from controlnet import ControlNet
from lmbn_n import LmbnN, embedding, fill, fill_model
from networks import NETWORKS
from senet import SenetTriplet
from side_by_side import CACHE, THREADS, interleave, last_json, machine, parser, program, ratio, report, run, show

PALM = (1, 224, 224)


class Features(torch.nn.Module):
    """What a re-ID network gives in evaluation: the features of its head, `[batch, features, parts]` as in our file."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images)[1][0].unsqueeze(2)


class UnitRows(torch.nn.Module):
    """A backbone as `export` writes it: its rows have length 1."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return torch.nn.functional.normalize(self.network(images))


class Subject:
    """A network, the shapes of its inputs without the batch, and what `train import` is told besides its name."""

    def __init__(self, make, inputs, flags=(), wrap=None):
        self.make, self.inputs, self.flags, self.wrap = make, inputs, flags, wrap or (lambda network: network)

    def feeds(self, batch, name="input"):
        """Degrees and pixels alike are small numbers here."""
        return {key: fill(f"{name}.{key}", (batch, *shape)) for key, shape in self.inputs.items()}


def subjects(height, width):
    pictures, size = {"images": (3, height, width)}, (f"--height={height}", f"--width={width}")
    return {
        "LMBN_n": Subject(lambda: LmbnN(751), pictures, size),
        "OSNet": Subject(lambda: NETWORKS["OSNet"](751), pictures, size, Features),
        "ResNet50": Subject(lambda: NETWORKS["ResNet50"](751), pictures, size, Features),
        "vit-palm": Subject(palmvein.EfficientVit, {"palm": PALM}, wrap=UnitRows),
        "cnn-palm": Subject(palmvein.ConvNext, {"palm": PALM}, wrap=UnitRows),
        "palmvein": Subject(palmvein.PalmVein, {"palm": PALM, "vein": PALM}),
        "SENet": Subject(SenetTriplet, {"features": (512,), "pose": (3,)}),
        "ControlNet": Subject(ControlNet, {"image": (3, 112, 112), "pose": (3,)}),
    }


def weights_by_rule(name, network):
    """A checkpoint with the reference's key names; classes do not matter, heads for training are cut off."""
    path = CACHE / f"{name}.safetensors"
    # By the rule four backbones in a row amplify rounding beyond what `export` lets pass: they keep PyTorch's start values.
    state = (network if name == "palmvein" else fill_model(network)).state_dict()
    state = {key: value.contiguous() for key, value in state.items()}
    if name != "ControlNet":
        save_file(state, path)
        return path
    # `train import` does not know this family: the record that a run writes, by hand.
    shape = {"encoder": "conv", "features": 512, "angles": 3, "size": 112, "control_layers": 3, "dropout": 0.1}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    save_file(state, path, {"vitrine": json.dumps({"family": "controlnet", "network": shape})})
    return path


def export_ours(name, weights, flags):
    """Our two programs, as a user calls them; the seconds are those of the export itself, as those of the peers are: without
    loading the weights, and without the verification that `export` adds."""
    checkpoint, folder = CACHE / "checkpoint", CACHE / ("ours" if name == "LMBN_n" else f"ours-{name}")
    for path in (checkpoint, folder):
        shutil.rmtree(path, ignore_errors=True)
    if name == "ControlNet":
        checkpoint = weights
    else:
        run([program("train"), "import", str(weights), f"--model={name}", *flags, "-o", str(checkpoint)])
    output = run([program("export"), "--onnx", str(checkpoint), "-o", str(folder), "--format=json"])["output"]
    return folder / "model.onnx", last_json(output)["seconds"]["export"]


def export_torch(name, subject, model, dynamo):
    """The file torch.onnx writes, batch dynamic, and its seconds; None where this torch has not got the exporter."""
    path = CACHE / (f"{name}-torch-dynamo.onnx" if dynamo else f"{name}-torch-script.onnx")
    inputs = tuple(torch.from_numpy(value) for value in subject.feeds(2).values())
    with torch.no_grad():
        answer = model(*inputs)
    outputs = [f"output_{index}" for index in range(len(answer) if isinstance(answer, tuple) else 1)]
    names = {"input_names": list(subject.inputs), "output_names": outputs}
    if dynamo:
        batch = torch.export.Dim("batch")
        options = {"dynamo": True, "dynamic_shapes": tuple({0: batch} for _ in inputs), "external_data": False, "verbose": False}
    else:
        axes = {key: {0: "batch"} for key in (*subject.inputs, *outputs)}
        options = {"dynamo": False, "dynamic_axes": axes, "opset_version": 17}
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, inputs, str(path), **names, **options)
    except Exception as error:
        print(f"torch.onnx with dynamo={dynamo} fails: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return path, time.perf_counter() - start


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    # All sessions live in one process: a waiting one must not take the cores of the others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    start = time.perf_counter()
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return made, time.perf_counter() - start


def nodes_left(path):
    """Nodes after ONNX Runtime has simplified the graph as it does by default."""
    options, simplified = onnxruntime.SessionOptions(), CACHE / "simplified.onnx"
    options.optimized_model_filepath = str(simplified)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(simplified, load_external_data=False).graph
    return len(graph.node), Counter(node.op_type for node in graph.node)


def comparable(name, output):
    """Rows of LMBN_n in whatever form a file answers, `[batch, F, 7]` or already joined, as unit rows."""
    if name != "LMBN_n":
        return output
    if output.ndim == 3:
        return embedding(torch.from_numpy(output)).numpy()
    return output / np.linalg.norm(output, axis=1, keepdims=True)


def bench(name, subject, a, facts):
    torch.manual_seed(1)
    weights = a.weights or weights_by_rule(name, subject.make())
    ours, our_seconds = (a.ours, None) if a.ours else export_ours(name, weights, subject.flags)
    network = subject.make()
    missing, unknown = network.load_state_dict(load_file(weights), strict=False)
    if unknown or any(not key.endswith("num_batches_tracked") for key in missing):
        sys.exit(f"error: `{weights}` is not of {name}: {missing} are missing, {unknown} unknown")
    model = subject.wrap(network).eval()
    files = {"vitrine": (ours, our_seconds)}
    for peer, dynamo in (("torch dynamo", True), ("torch script", False)):
        if exported := export_torch(name, subject, model, dynamo):
            files[peer] = exported

    result, sessions = {"files": {}, "latency": {}}, {}
    print(f"\n{name}")
    for file, (path, seconds) in files.items():
        graph = onnx.load(path).graph
        kinds = Counter(node.op_type for node in graph.node)
        sessions[file], opened = session(path)
        size = path.stat().st_size / 1e6
        left, kinds_left = nodes_left(path)
        result["files"][file] = {
            "nodes": len(graph.node), "kinds": kinds, "nodes_in_runtime": left, "kinds_in_runtime": kinds_left,
            "export_seconds": seconds, "megabytes": size, "open_seconds": opened,
        }
        common = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
        took = "" if seconds is None else f"exported in {seconds:.2f} s, "
        print(f"{file:14} {len(graph.node):5} nodes, {left} in ONNX Runtime, {size:.1f} MB, {took}opened in {opened:.2f} s ({common})")

    def feed(made, feeds):
        """By place: every exporter names inputs its own way."""
        return dict(zip((entry.name for entry in made.get_inputs()), feeds.values(), strict=True))

    feeds = subject.feeds(4)
    with torch.no_grad():
        expected = model(*map(torch.from_numpy, feeds.values()))
    expected = comparable(name, (expected[0] if isinstance(expected, tuple) else expected).numpy())
    for file, made in sessions.items():
        answer = comparable(name, made.run(None, feed(made, feeds))[0])
        worst = float(np.abs(answer - expected).max() / max(1.0, np.abs(expected).max()))
        result["files"][file]["difference_to_torch"] = worst
        show(f"{file}, difference to torch eager", worst)
        if not worst < 1e-4:
            sys.exit(f"error: `{file}` computes something else")

    for batch in a.batch:
        feeds = subject.feeds(batch)
        tensors = [torch.from_numpy(value) for value in feeds.values()]
        runs = max(3, a.runs // batch)

        def median(call):
            call()
            seconds = []
            for _ in range(runs):
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
            return statistics.median(seconds)

        def eager():
            with torch.inference_mode():
                model(*tensors)

        calls = {file: (lambda made=made, values=feed(made, feeds): made.run(None, values)) for file, made in sessions.items()}
        calls["torch eager"] = eager
        turns = interleave(a.rounds, **{file: (lambda call=call: median(call)) for file, call in calls.items()})
        result["latency"][batch] = {"turns": turns}
        shape = " and ".join("x".join(map(str, size)) for size in subject.inputs.values())
        print(f"batch {batch}, {shape}, {a.rounds} rounds of {runs} runs")
        for file, seconds in turns.items():
            show(f"  {file}, milliseconds", 1e3 * statistics.median(seconds))
        for file in list(turns)[1:]:
            compared = ratio(turns["vitrine"], turns[file])
            result["latency"][batch][f"vitrine / {file}"] = compared
            show(f"  Vitrine / {file} (below 1: faster)", compared)
    report(f"latency of {name} in ONNX Runtime", facts, result, a.json and a.json.with_stem(f"{a.json.stem}-{name}"))


def main():
    arguments = parser(__doc__)
    # Short turns, many of them: the noise of a machine changes over seconds.
    arguments.set_defaults(rounds=9)
    known = list(subjects(384, 128))
    arguments.add_argument("--network", choices=[*known, "all"], nargs="+", default=["LMBN_n"], help="default LMBN_n")
    arguments.add_argument("--weights", type=Path, help="safetensors checkpoint with the reference's key names")
    arguments.add_argument("--ours", type=Path, help="our model.onnx of the same weights, instead of exporting it")
    arguments.add_argument("--height", type=int, default=384, help="of a re-ID network's pictures (default %(default)s)")
    arguments.add_argument("--width", type=int, default=128)
    arguments.add_argument("--runs", type=int, default=8, help="runs in each round (default 8; fewer at larger batches, at least 3)")
    arguments.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    a = arguments.parse_args()
    facts = machine()
    torch.set_num_threads(THREADS)
    logging.getLogger("torch").setLevel(logging.ERROR)
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, subject in subjects(a.height, a.width).items():
        if {name, "all"} & set(a.network):
            bench(name, subject, a, facts)


if __name__ == "__main__":
    main()
