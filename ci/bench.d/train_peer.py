"""The PyTorch side of `ci/bench train`: prints seconds a step and by phase, and the losses, of LMBN_n."""

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
phases = {"forward": [], "backward": [], "optimizer": []}
losses = []
for _ in range(a.warmup + a.steps):
    clock = [time.perf_counter()]
    total = loss(*model(images), identities)
    losses.append(total.item())
    clock.append(time.perf_counter())
    total.backward()
    clock.append(time.perf_counter())
    optimiser.step()
    optimiser.zero_grad()
    clock.append(time.perf_counter())
    for (name, values), start, end in zip(phases.items(), clock, clock[1:]):
        values.append(end - start)
timed = {name: values[a.warmup :] for name, values in phases.items()}
print(json.dumps({"seconds": [sum(step) for step in zip(*timed.values())], **timed, "losses": losses}))
