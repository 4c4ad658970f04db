"""Runs the whole networks that the tests keep in OpenCV's dnn and in OpenVINO, and compares their outputs.

usage: "$(ci/venv runtimes)" ci/other_runtimes.py MODELS EXPECTED

MODELS has a folder per model in the layout of ONNX's own test data: `model.onnx` and `test_data_set_0`. Models of at
least 40 nodes are run. EXPECTED is a folder with `opencv.txt` and `openvino.txt`, which list the models that the runtime
is known to refuse, or to compute differently (the reason then starts with `differs`), as `NAME: REASON`. It is an error if
a model fails that is not listed, or if a listed one agrees, fails for another reason or is missing. Exit code 0: all as
expected; 1: not as expected; 2: nothing to compare.
"""

import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

os.environ["OPENCV_LOG_LEVEL"] = "SILENT"

import numpy
import onnx
from onnx import numpy_helper

# Smaller models test single operations; ci/second-opinion runs them in rten.
WHOLE = 40
# Largest difference, absolute or as a share of the output's largest value.
TOLERANCE = 1e-4


def opencv(path, inputs, outputs):
    import cv2

    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(str(path))
    for name, array in inputs.items():
        net.setInput(array, name)
    return net.forward(outputs)


def openvino(path, inputs, outputs):
    from openvino import Core

    core = Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    found = core.compile_model(core.read_model(path), "CPU", settings)(inputs)
    return [found[name] for name in outputs]


RUNTIMES = {"opencv": opencv, "openvino": openvino}


def side(folder, name):
    files = sorted(folder.glob(f"{name}_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
    tensors = [onnx.load_tensor(file) for file in files]
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


def reason(error):
    """The sentence of an error without parts that differ between machines: paths, lines, addresses."""
    lines = [line.strip(" >\t") for line in str(error).splitlines()]
    text = next((line for line in lines if line and "error:" not in line and not line.startswith("Exception from")), "")
    text = text or (lines[0].split("error: ")[-1] if lines else type(error).__name__)
    return re.sub(r"\S*/\S+:\d+:?\s*|0x[0-9a-f]+", "", text).strip()


def opinion(runtime, folder):
    """`agrees`, `refuses` or `DIFFERS`, with the reason."""
    data = folder / "test_data_set_0"
    inputs, outputs = side(data, "input"), side(data, "output")
    try:
        found = RUNTIMES[runtime](folder / "model.onnx", inputs, list(outputs))
    except Exception as error:
        return "refuses", reason(error)
    worst = 0.0
    for (name, expected), answer in zip(outputs.items(), found, strict=True):
        if answer.shape != expected.shape:
            return "DIFFERS", f"`{name}` has shape {list(answer.shape)} for {list(expected.shape)}"
        apart = numpy.abs(answer.astype(numpy.float64) - expected.astype(numpy.float64)).max(initial=0.0)
        limit = TOLERANCE * max(1.0, numpy.abs(expected.astype(numpy.float64)).max(initial=0.0))
        # Not `apart > limit`: NaN must not pass.
        if not apart <= limit:
            return "DIFFERS", f"`{name}` is off by {apart:.1e}, {limit:.1e} allowed"
        worst = max(worst, apart)
    return "agrees", f"within {worst:.1e}"


def opinions(runtime, folders):
    """Runs the models one by one in a separate process; a runtime that crashes its process counts as refusing the model."""
    pool = None
    for folder in folders:
        pool = pool or ProcessPoolExecutor(max_workers=1)
        try:
            yield folder.name, *pool.submit(opinion, runtime, folder).result()
        except BrokenProcessPool:
            pool = None
            yield folder.name, "refuses", "it crashes"
    if pool:
        pool.shutdown()


def read(path):
    """Reads lines `NAME: REASON`; empty lines and lines that start with # are ignored."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.split(": ", 1) for line in lines if line and not line.startswith("#")]
    expected = dict(pairs)
    if len(expected) != len(pairs):
        raise ValueError(f"`{path}` lists a model twice")
    return expected


def surprises(expected, found):
    """A sentence for each model with an unexpected result."""
    for name, word, why in found:
        known = expected.get(name)
        if word == "agrees" and known is not None:
            yield f"`{name}` agrees, which was not expected: {known}"
        elif word == "refuses" and known is None:
            yield f"`{name}` is refused: {why}"
        elif word == "refuses" and known != why:
            yield f"`{name}` is refused because of `{why}`, not of `{known}`"
        elif word == "DIFFERS" and not (known or "").startswith("differs"):
            yield f"`{name}` differs: {why}"
    yield from (f"`{name}` is listed but missing" for name in expected.keys() - {name for name, _, _ in found})


def self_test():
    expected = {"a": "no `Foo`", "b": "no `Foo`", "c": "no `Foo`", "d": "no `Foo`", "h": "differs: rounds"}
    found = [("a", "refuses", "no `Foo`"), ("b", "agrees", ""), ("c", "refuses", "no `Bar`"), ("e", "agrees", "")]
    found += [("f", "refuses", "no `Bar`"), ("g", "DIFFERS", "by 1"), ("h", "DIFFERS", "by 1")]
    names = [sentence.split("`")[1] for sentence in surprises(expected, found)]
    assert names == ["b", "c", "f", "g", "d"], names


def main():
    if len(sys.argv) != 3:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    self_test()
    models, lists = map(Path, sys.argv[1:])
    folders = sorted(path.parent for path in models.glob("*/model.onnx"))
    folders = [folder for folder in folders if len(onnx.load(folder / "model.onnx").graph.node) >= WHOLE]
    if not folders:
        print(f"error: no network below `{models}`; ci/test writes them there", file=sys.stderr)
        return 2
    wrong = []
    for runtime in RUNTIMES:
        found = list(opinions(runtime, folders))
        for name, word, why in found:
            print(f"{word:7} {name:40} {why}")
        expected = read(lists / f"{runtime}.txt")
        count = {word: sum(found_word == word for _, found_word, _ in found) for word in ("agrees", "refuses", "DIFFERS")}
        print(
            f"{runtime}: {len(found)} networks, {count['agrees']} agree, {count['refuses']} refused, "
            f"{count['DIFFERS']} differ; {len(expected)} expected not to agree"
        )
        wrong += [f"{runtime}: {sentence}" for sentence in surprises(expected, found)]
    for sentence in wrong:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
