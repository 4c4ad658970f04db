"""Our LMBN_n file in ONNX Runtime against the one that torch.onnx makes of the same network and weights.

Without --weights and --ours, weights are made by rule, imported with `train import` and exported with
`export --onnx`. Latency: the same ONNX Runtime, session options and input for both, in turns."""

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
from safetensors.torch import save_file

from lmbn_n import LmbnN, embedding, fill, fill_model, load
from side_by_side import CACHE, THREADS, interleave, last_json, machine, parser, program, ratio, report, run, show


def weights_by_rule():
    """A checkpoint with the reference's key names; classes do not matter, heads for training are cut off."""
    path = CACHE / "lmbn_n.safetensors"
    save_file({name: value.contiguous() for name, value in fill_model(LmbnN(751)).state_dict().items()}, path)
    return path


def export_ours(weights, height, width):
    """Our two programs, as a user calls them; the seconds are those of the export itself, as those of the peers are: without
    loading the weights, and without the verification that `export` adds."""
    checkpoint, folder = CACHE / "checkpoint", CACHE / "ours"
    for path in (checkpoint, folder):
        shutil.rmtree(path, ignore_errors=True)
    size = [f"--height={height}", f"--width={width}"]
    run([program("train"), "import", str(weights), "--model=LMBN_n", *size, "-o", str(checkpoint)])
    output = run([program("export"), "--onnx", str(checkpoint), "-o", str(folder), "--format=json"])["output"]
    return folder / "model.onnx", last_json(output)["seconds"]["export"]


def export_torch(model, height, width, dynamo):
    """The file torch.onnx writes, batch dynamic, and its seconds; None where this torch has not got the exporter."""
    path = CACHE / ("torch-dynamo.onnx" if dynamo else "torch-script.onnx")
    images = torch.from_numpy(fill("input", (2, 3, height, width)))
    names = {"input_names": ["images"], "output_names": ["features"]}
    if dynamo:
        options = {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("batch")},), "external_data": False, "verbose": False}
    else:
        options = {"dynamo": False, "dynamic_axes": {"images": {0: "batch"}, "features": {0: "batch"}}, "opset_version": 17}
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (images,), str(path), **names, **options)
    except Exception as error:
        print(f"torch.onnx with dynamo={dynamo} fails: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return path, time.perf_counter() - start


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    # Both sessions live in one process: a waiting one must not take the cores of the other.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    start = time.perf_counter()
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return made, time.perf_counter() - start


def unit_rows(output):
    """Whatever form a file answers in, `[batch, F, 7]` or rows already joined, as unit rows."""
    if output.ndim == 3:
        return embedding(torch.from_numpy(output)).numpy()
    return output / np.linalg.norm(output, axis=1, keepdims=True)


def main():
    arguments = parser(__doc__)
    # Short turns, many of them: the noise of a machine changes over seconds.
    arguments.set_defaults(rounds=9)
    arguments.add_argument("--weights", type=Path, help="safetensors checkpoint with the reference's key names")
    arguments.add_argument("--ours", type=Path, help="our model.onnx of the same weights, instead of exporting it")
    arguments.add_argument("--height", type=int, default=384)
    arguments.add_argument("--width", type=int, default=128)
    arguments.add_argument("--runs", type=int, default=8, help="runs in each round (default 8; fewer at larger batches, at least 3)")
    arguments.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    a = arguments.parse_args()
    facts = machine()
    torch.set_num_threads(THREADS)
    logging.getLogger("torch").setLevel(logging.ERROR)
    CACHE.mkdir(parents=True, exist_ok=True)
    weights = a.weights or weights_by_rule()
    ours, our_seconds = (a.ours, None) if a.ours else export_ours(weights, a.height, a.width)
    model = load(weights)
    files = {"vitrine": (ours, our_seconds)}
    for name, dynamo in (("torch dynamo", True), ("torch script", False)):
        if exported := export_torch(model, a.height, a.width, dynamo):
            files[name] = exported

    result = {"files": {}, "latency": {}}
    sessions = {}
    for name, (path, seconds) in files.items():
        graph = onnx.load(path).graph
        kinds = Counter(node.op_type for node in graph.node)
        sessions[name], opened = session(path)
        size = path.stat().st_size / 1e6
        result["files"][name] = {"nodes": len(graph.node), "kinds": kinds, "export_seconds": seconds, "megabytes": size, "open_seconds": opened}
        common = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
        took = "" if seconds is None else f"exported in {seconds:.1f} s, "
        print(f"{name:14} {len(graph.node):5} nodes, {size:.1f} MB, {took}opened in {opened:.2f} s ({common})")

    images = fill("input", (4, 3, a.height, a.width))
    answers = {name: unit_rows(made.run(None, {made.get_inputs()[0].name: images})[0]) for name, made in sessions.items()}
    with torch.no_grad():
        expected = embedding(model(torch.from_numpy(images))).numpy()
    for name, answer in answers.items():
        worst = float(np.abs(answer - expected).max())
        result["files"][name]["difference_to_torch"] = worst
        show(f"{name}, max |difference| to torch eager", worst)
        if worst > 1e-4:
            print(f"error: `{name}` computes something else", file=sys.stderr)
            sys.exit(2)

    for batch in a.batch:
        images = fill("input", (batch, 3, a.height, a.width))
        runs = max(3, a.runs // batch)

        def latency(made):
            feed = {made.get_inputs()[0].name: images}
            made.run(None, feed)
            seconds = []
            for _ in range(runs):
                start = time.perf_counter()
                made.run(None, feed)
                seconds.append(time.perf_counter() - start)
            return statistics.median(seconds)

        turns = interleave(a.rounds, **{name: (lambda made=made: latency(made)) for name, made in sessions.items()})
        result["latency"][batch] = {"turns": turns}
        print(f"batch {batch}, {a.height}x{a.width}, {a.rounds} rounds of {runs} runs")
        for name, seconds in turns.items():
            show(f"  {name}, milliseconds", 1e3 * statistics.median(seconds))
        for name in list(turns)[1:]:
            compared = ratio(turns["vitrine"], turns[name])
            result["latency"][batch][f"vitrine / {name}"] = compared
            show(f"  Vitrine / {name} (below 1: faster)", compared)
    report("latency of LMBN_n in ONNX Runtime", facts, result, a.json)


if __name__ == "__main__":
    main()
