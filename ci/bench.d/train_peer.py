"""The PyTorch side of `ci/bench train`: prints {"seconds": [one per step]} of LMBN_n, forward to optimiser."""

import argparse
import json
import time

import torch

from lmbn_n import LmbnN, blocks, fill_model, loss

parser = argparse.ArgumentParser()
for name in ("batch", "height", "width", "identities", "steps", "warmup", "threads"):
    parser.add_argument(f"--{name}", type=int, required=True)
a = parser.parse_args()
torch.set_num_threads(a.threads)

model = fill_model(LmbnN(a.identities)).train()
trainable = [p for p in model.parameters() if p.requires_grad]
optimiser = torch.optim.Adam(trainable, lr=6e-4, weight_decay=5e-4)
images = blocks(a.batch, a.height, a.width, 16)
identities = torch.arange(a.batch) // 4
seconds = []
for step in range(a.warmup + a.steps):
    start = time.perf_counter()
    optimiser.zero_grad()
    total = loss(*model(images), identities)
    total.backward()
    optimiser.step()
    total.item()
    if step >= a.warmup:
        seconds.append(time.perf_counter() - start)
print(json.dumps({"seconds": seconds}))
