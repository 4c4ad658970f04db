"""Compares `export quantise` with onnxruntime's own static quantiser on one model and one folder of pictures: speed-up over
float32 at batch 1 and 16, size, cosine to float32, Rank-1 and mAP.

Both calibrate with the same pictures: of several people every second one, and the others test. Rank-1 and mAP search each
tested picture among all others, so they need folders that say who is on them. The three models run in turns in one process,
in onnxruntime with two threads. A model without a contract inside needs --contract. One of two pictures takes pairs of the
folders palm/ and vein/, as `fixtures palms` draws them."""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

from side_by_side import CACHE, THREADS, interleave, machine, parser, program, ratio, report, run, show

ENDINGS = {".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".bmp", ".webp"}
FILTERS = {
    "pillow-bilinear": Image.Resampling.BILINEAR,
    "pillow-bicubic": Image.Resampling.BICUBIC,
    "pillow-lanczos": Image.Resampling.LANCZOS,
    "pillow-box": Image.Resampling.BOX,
}


def contract_of(path, beside):
    if beside:
        return json.loads(beside.read_text())
    entries = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
    return {key.removeprefix("vitrine."): json.loads(value) for key, value in entries.items() if key.startswith("vitrine.")}


def people_of(folder, inputs):
    """Rows of pictures by person, one folder each, in the order of the names; of two inputs each row is a pair."""
    people = {}
    first = folder / "palm" if inputs == 2 else folder
    for path in sorted(first.rglob("*")):
        if path.suffix.lower() in ENDINGS:
            row = (path, folder / "vein" / path.relative_to(first)) if inputs == 2 else (path,)
            people.setdefault(path.parent, []).append(row)
    return list(people.values())


def feeds(rows, inputs):
    """The values of rows of pictures by the name of the input."""
    return {spec["name"]: np.stack([load(row[at], spec["picture"]) for row in rows]) for at, spec in enumerate(inputs)}


def part(feed, rows):
    return {name: values[rows] for name, values in feed.items()}


def mirrored(feed):
    return {name: np.ascontiguousarray(values[..., ::-1]) for name, values in feed.items()}


def load(path, picture):
    height, width = picture["size"]
    mode = "L" if picture["colour"] == "grey" else "RGB"
    values = np.asarray(Image.open(path).convert(mode).resize((width, height), FILTERS[picture["filter"]]), np.float32)
    values = values.reshape(height, width, -1)
    if picture["colour"] == "bgr":
        values = values[..., ::-1]
    black, white = picture["range"]
    values = (values / 255 * (white - black) + black - np.float32(picture["mean"])) / np.float32(picture["std"])
    return np.ascontiguousarray(values.transpose(2, 0, 1))


class Reader(CalibrationDataReader):
    def __init__(self, feed):
        count = len(next(iter(feed.values())))
        self.batches = iter([part(feed, slice(at, at + 4)) for at in range(0, count, 4)])

    def get_next(self):
        return next(self.batches, None)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def embed(runtime, output, feed, embedding):
    count = len(next(iter(feed.values())))

    def features(feed):
        found = [runtime.run([output], part(feed, slice(at, at + 4)))[0] for at in range(0, count, 4)]
        return np.concatenate(found).reshape(count, -1, embedding["parts"]).astype(np.float64)

    values = features(feed)
    if embedding["flip"]:
        values = values + features(mirrored(feed))
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    values = values.reshape(count, -1)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def ranking(rows, labels):
    """Rank-1 and mAP of each row searched among all others; rows without another of their label do not count."""
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -2)
    first, precision = [], []
    for at, order in enumerate(np.argsort(-similarity, axis=1, kind="stable")):
        right = labels[order[:-1]] == labels[at]
        if right.any():
            ranks = np.flatnonzero(right)
            first.append(ranks[0] == 0)
            precision.append(np.mean(np.arange(1, len(ranks) + 1) / (ranks + 1)))
    return float(np.mean(first)), float(np.mean(precision))


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, required=True, help="float32 model.onnx")
    arguments.add_argument("--contract", type=Path, help="its contract, if there is none inside")
    arguments.add_argument("--calibrate", type=Path, required=True, metavar="DIR", help="pictures, one folder for each person")
    arguments.add_argument("--pictures", type=int, default=64, help="pictures that calibrate, at most (default %(default)s)")
    arguments.add_argument("--plan", type=Path, help="a plan.json of an earlier run, instead of measuring again")
    arguments.add_argument("--repeats", type=int, default=10, help="runs of a model in one turn; the fastest counts (default %(default)s)")
    a = arguments.parse_args()
    facts = machine()
    contract = contract_of(a.model, a.contract)
    if "embedding" not in contract or len(contract["input"]) > 2:
        arguments.error(f"`{a.model}` has no contract with one or two pictures and an embedding; name one with --contract")
    inputs, embedding = contract["input"], contract["embedding"]
    if isinstance(inputs[0]["shape"][0], int):
        arguments.error(f"`{a.model}` has a fixed batch; two sizes are timed")
    people = people_of(a.calibrate, len(inputs))
    if len(people) < 4:
        arguments.error(f"`{a.calibrate}` has {len(people)} folders of pictures, 4 are needed")

    folder = CACHE / "precision"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [program("export"), "quantise", a.model.resolve(), "--calibrate", a.calibrate.resolve(), "-o", folder / "ours", "--force"]
    command += ["--pictures", a.pictures, "--format", "json"]
    command += ["--contract", a.contract.resolve()] if a.contract else []
    command += ["--plan", a.plan.resolve()] if a.plan else []
    made = run(command)
    told = json.loads(made["output"].strip().splitlines()[-1])

    calibrating = [row for person in people[::2] for row in person]
    if len(calibrating) > a.pictures:
        calibrating = [calibrating[at * len(calibrating) // a.pictures] for at in range(a.pictures)]
    tested = [(row, label) for label, person in enumerate(people[1::2]) for row in person][: 4 * a.pictures]
    rows = feeds(calibrating, inputs)
    if embedding["flip"]:
        rows = {name: np.concatenate([values, mirrored(rows)[name]]) for name, values in rows.items()}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        model = onnx.load(a.model)
        if next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) < 13:
            # Older sets have no scale for each channel; ours brings the file there by itself.
            model = version_converter.convert_version(model, 13)
        onnx.save(model, Path(scratch) / "model.onnx")
        quant_pre_process(str(Path(scratch) / "model.onnx"), str(prepared))
        quantize_static(
            str(prepared),
            str(folder / "peer.onnx"),
            Reader(rows),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    peer_seconds = time.perf_counter() - start

    paths = {"float32": a.model, "vitrine": folder / "ours/model.onnx", "onnxruntime": folder / "peer.onnx"}
    sessions = {name: session(path) for name, path in paths.items()}
    tests = feeds([row for row, _ in tested], inputs)
    labels = np.array([label for _, label in tested])
    result = {"nodes": {}, "seconds_to_make": {"vitrine": made["seconds"], "onnxruntime": peer_seconds}}
    for node in told["nodes"]:
        result["nodes"][node["format"]] = result["nodes"].get(node["format"], 0) + 1
    found = {name: embed(run_, embedding["output"], tests, embedding) for name, run_ in sessions.items()}
    result["bytes"] = {name: os.stat(path).st_size for name, path in paths.items()}
    result["mean_cosine"] = {name: float((rows_ * found["float32"]).sum(1).mean()) for name, rows_ in found.items()}
    result["ranking"] = {name: ranking(rows_, labels) for name, rows_ in found.items()}

    result["speed_up"] = {}
    for batch in (1, 16):
        feed = {name: np.repeat(values[:1], batch, 0) for name, values in tests.items()}

        def timed(runtime, feed=feed):
            best = float("inf")
            for _ in range(a.repeats):
                start = time.perf_counter()
                runtime.run([embedding["output"]], feed)
                best = min(best, time.perf_counter() - start)
            return best

        for runtime in sessions.values():
            timed(runtime)
        turns = interleave(a.rounds, **{name: (lambda runtime=runtime: timed(runtime)) for name, runtime in sessions.items()})
        result["speed_up"][batch] = {
            name: ratio(turns["float32"], turns[name]) | {"ms": 1e3 * statistics.median(turns[name])} for name in sessions
        }

    print(f"{a.model.name}: {len(calibrating)} pictures calibrate, {len(tested)} of {len(set(labels))} people test")
    show("nodes by format", ", ".join(f"{count} {name}" for name, count in sorted(result["nodes"].items())))
    for name in ("vitrine", "onnxruntime"):
        for batch, values in result["speed_up"].items():
            show(f"{name}: speed-up at batch {batch}", values[name], f"{values['float32']['ms']:.1f} ms to {values[name]['ms']:.1f} ms")
        show(f"{name}: size", result["bytes"][name] / result["bytes"]["float32"], "of float32")
        show(f"{name}: mean cosine to float32", result["mean_cosine"][name])
        for at, what in enumerate(("Rank-1", "mAP")):
            before, after = result["ranking"]["float32"][at], result["ranking"][name][at]
            show(f"{name}: {what}", f"{100 * before:.2f} % to {100 * after:.2f} % ({100 * (after - before):+.2f} points)")
        show(f"{name}: seconds to make", result["seconds_to_make"][name])
    report("static quantisation", facts, result, a.json)
    if any(not np.isfinite(rows_).all() for rows_ in found.values()):
        print("error: an embedding is not finite", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
