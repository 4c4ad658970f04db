"""The Python side of `ci/bench embed`: Pillow, numpy and onnxruntime, written in the usual way. Prints {"pictures", "seconds"}."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--model", required=True)
parser.add_argument("-o", dest="output", required=True)
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--flip", action="store_true")
a = parser.parse_args()

start = time.perf_counter()
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = a.threads
session = onnxruntime.InferenceSession(a.model, options, providers=["CPUExecutionProvider"])
entry = session.get_inputs()[0]
height, width = entry.shape[2:]


def prepare(path):
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return ((np.asarray(small, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def embed(images):
    features = session.run(None, {entry.name: images})[0]
    if a.flip:
        features = features + session.run(None, {entry.name: np.ascontiguousarray(images[..., ::-1])})[0]
    if features.ndim == 3:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
        features = features.reshape(len(features), -1)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


paths = sorted(a.folder.rglob("*.jpg"))
rows = [embed(np.stack([prepare(p) for p in paths[i : i + a.batch]])) for i in range(0, len(paths), a.batch)]
np.save(a.output, np.concatenate(rows))
print(json.dumps({"pictures": len(paths), "seconds": time.perf_counter() - start}))
