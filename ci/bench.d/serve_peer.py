"""The peer of `ci/bench serve`: FastAPI on uvicorn (uvloop, httptools) with onnxruntime, the same model and preprocessing.

usage: uvicorn --app-dir ci/bench.d serve_peer:app      MODEL names the model.onnx, THREADS its threads

As people write it: decoding and the network in a pool of threads, one picture a run.
"""

import io
import json
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ.get("THREADS", "2"))
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
properties = session.get_modelmeta().custom_metadata_map
contract = {key.removeprefix("vitrine."): json.loads(text) for key, text in properties.items() if key.startswith("vitrine.")}
spec = contract["input"][0]["picture"]
height, width = spec["size"]
mean, std = (np.asarray(spec[name], np.float32)[:, None, None] for name in ("mean", "std"))
output = contract["embedding"]["output"]
app = FastAPI()


def embed(body):
    picture = Image.open(io.BytesIO(body)).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    batch = ((np.asarray(picture, np.float32).transpose(2, 0, 1) / 255 - mean) / std)[None]
    features = session.run([output], {session.get_inputs()[0].name: batch})[0]
    if contract["embedding"]["flip"]:
        features = features + session.run([output], {session.get_inputs()[0].name: batch[..., ::-1].copy()})[0]
    # Channels of parts: each part has the same weight.
    parts = features.reshape(-1, contract["embedding"]["parts"])
    row = (parts / np.linalg.norm(parts, axis=0)).reshape(-1)
    return (row / np.linalg.norm(row)).tolist()


@app.get("/ready")
async def ready():
    return {"ready": True}


@app.post("/v1/embed")
async def answer(request: Request):
    return {"embeddings": [await run_in_threadpool(embed, await request.body())]}
