"""The Python side of `ci/bench embed`: Pillow or OpenCV, numpy and onnxruntime, written in the usual way: processes that load
pictures, and one that runs the network. Prints {"pictures", "seconds"}; --pure also {"pure"}, the pictures per second of the
network alone, on batches that are there already."""

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--model", required=True)
parser.add_argument("-o", dest="output", required=True)
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--flip", action="store_true")
parser.add_argument("--loader", choices=["pillow", "opencv"], default="pillow")
parser.add_argument("--workers", type=int, default=0, help="processes that load; 0: the one that runs the network")
parser.add_argument("--pure", action="store_true")

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def with_pillow(path, width, height):
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return ((np.asarray(small, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def with_opencv(path, width, height):
    import cv2

    cv2.setNumThreads(1)
    small = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
    return ((small.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def batch(work):
    loader, paths, width, height = work
    prepare = with_opencv if loader == "opencv" else with_pillow
    return np.stack([prepare(path, width, height) for path in paths])


def main():
    a = parser.parse_args()
    start = time.perf_counter()
    paths = sorted(a.folder.rglob("*.jpg"))
    # Started before the network is opened, so that its memory is not theirs.
    pool = multiprocessing.get_context("fork").Pool(a.workers) if a.workers else None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = a.threads
    session = onnxruntime.InferenceSession(a.model, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    height, width = entry.shape[2:]

    def embed(images):
        features = session.run(None, {entry.name: images})[0]
        if a.flip:
            features = features + session.run(None, {entry.name: np.ascontiguousarray(images[..., ::-1])})[0]
        if features.ndim == 3:
            features = features / np.linalg.norm(features, axis=1, keepdims=True)
            features = features.reshape(len(features), -1)
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    works = [(a.loader, paths[i : i + a.batch], width, height) for i in range(0, len(paths), a.batch)]
    batches = pool.imap(batch, works) if pool else map(batch, works)
    rows = [embed(images) for images in batches]
    np.save(a.output, np.concatenate(rows))
    answer = {"pictures": len(paths), "seconds": time.perf_counter() - start}
    if a.pure:
        images = batch(works[0])
        embed(images)
        start = time.perf_counter()
        for _ in works:
            embed(images)
        answer["pure"] = len(works) * len(images) / (time.perf_counter() - start)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
