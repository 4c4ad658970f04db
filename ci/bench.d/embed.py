"""Compares `deploy embed` with Python on a generated folder of JPEG pictures: pictures per second, and peak memory over few
and over many pictures. The peers are Pillow or OpenCV, numpy and onnxruntime, with processes that load pictures beside the one
that runs the network, and with Pillow in that one; and the network alone, on pictures that are in memory already.

Times whole programs, from start to the written file. Both embed each picture and its mirror image, and their rows
must agree. Memory is the peak of the process. --memory-model sets a smaller network for the many pictures, since
memory does not depend on how long a picture takes."""

import shutil
import statistics
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from side_by_side import CACHE, ROOT, THREADS, interleave, last_json, machine, parser, program, ratio, report, run, show

DISTINCT = 200


def pictures(count, height=256, width=128):
    """Makes a folder of `count` JPEG files: `DISTINCT` different ones, and links to them."""
    folder = CACHE / f"pictures-{count}"
    if folder.is_dir() and sum(1 for _ in folder.iterdir()) == count:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    for index in range(min(count, DISTINCT)):
        # Smooth shapes and a little grain, so that the files compress like photographs.
        coarse = Image.fromarray(rng.integers(0, 256, (8, 4, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 6, (height, width, 3))
        picture = np.clip(np.asarray(coarse, np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{index:06}.jpg", quality=90)
    for index in range(DISTINCT, count):
        (folder / f"{index:06}.jpg").hardlink_to(folder / f"{index % DISTINCT:06}.jpg")
    return folder


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, default=CACHE / "ours/model.onnx", help="our model.onnx of LMBN_n (default: the file of `ci/bench export`)")
    arguments.add_argument("--memory-model", type=Path, help="our model.onnx for the memory part (default: the same)")
    arguments.add_argument("--pictures", type=int, default=400, help="pictures per timed run (default 400)")
    arguments.add_argument("--memory-pictures", type=int, nargs=2, default=[100, 10_000], metavar=("FEW", "MANY"))
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--no-flip", action="store_true", help="for a model whose contract does not include the mirror image")
    a = arguments.parse_args()
    if not a.model.is_file():
        arguments.error(f"no model at `{a.model}`; run `ci/bench export` first or name one with --model")
    facts = machine()
    CACHE.mkdir(parents=True, exist_ok=True)

    def ours(folder, model):
        return run([program("deploy"), "embed", str(folder), f"--model={model}", "-o", str(CACHE / "ours"), "--replace", f"--batch-size={a.batch}"])

    def peer(folder, model, loader="pillow", workers=THREADS, pure=False):
        command = [sys.executable, str(ROOT / "ci/bench.d/embed_peer.py"), str(folder), f"--model={model}", f"--loader={loader}"]
        command += ["-o", str(CACHE / f"{loader}.npy"), f"--batch={a.batch}", f"--threads={THREADS}", f"--workers={workers}"]
        command += ["--flip"] * (not a.no_flip) + ["--pure"] * pure
        return run(command)

    folder = pictures(a.pictures)
    contestants = {
        "vitrine": lambda: ours(folder, a.model),
        "pillow": lambda: peer(folder, a.model),
        "pillow, one process": lambda: peer(folder, a.model, workers=0, pure=True),
    }
    if find_spec("cv2"):
        contestants["opencv"] = lambda: peer(folder, a.model, loader="opencv")
    else:
        print("OpenCV is left out: it is not in this environment", file=sys.stderr)
    turns = interleave(a.rounds, **contestants)
    speed = {name: [a.pictures / turn["seconds"] for turn in results] for name, results in turns.items()}
    speed["network alone"] = [last_json(turn["output"])["pure"] for turn in turns["pillow, one process"]]
    shutil.rmtree(CACHE / "rows", ignore_errors=True)
    run([program("deploy"), "gallery", "export", str(CACHE / "ours"), "-o", str(CACHE / "rows")])
    rows = [np.load(CACHE / name) for name in ("rows/embeddings.npy", "pillow.npy")]
    cosine = (rows[0] * rows[1]).sum(1) / np.linalg.norm(rows[0], axis=1) / np.linalg.norm(rows[1], axis=1)
    result = {"pictures_per_second": speed, "least_cosine": float(cosine.min())}
    print(f"{a.pictures} JPEG pictures of 256x128, batch {a.batch}, {a.rounds} rounds, start of the program to file written;")
    print(f"peers: onnxruntime with {THREADS} threads, and {THREADS} processes that load; the network alone: onnxruntime, pictures in memory")
    show("deploy embed, pictures per second", statistics.median(speed["vitrine"]))
    result["ratio"] = {}
    for name in speed:
        if name != "vitrine":
            show(f"{name}, pictures per second", statistics.median(speed[name]))
            result["ratio"][name] = ratio(speed["vitrine"], speed[name])
            show(f"Vitrine / {name} (above 1: faster)", result["ratio"][name])
    show("least cosine between our rows and Pillow's", result["least_cosine"])
    if result["least_cosine"] < 0.9999:
        print("error: the two compute different embeddings", file=sys.stderr)
        sys.exit(2)

    model = a.memory_model or a.model
    result["peak_mib"] = {}
    for count in a.memory_pictures:
        folder = pictures(count)
        peaks = {"vitrine": ours(folder, model)["peak_mib"], "python": peer(folder, model)["peak_mib"]}
        result["peak_mib"][count] = peaks
        show(f"peak memory over {count} pictures", f"deploy embed {peaks['vitrine']:.0f} MiB, Python {peaks['python']:.0f} MiB")
    report("embedding of a folder", facts, result, a.json)


if __name__ == "__main__":
    main()
