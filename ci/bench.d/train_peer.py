"""The PyTorch side of `ci/bench train` and `ci/bench gpu`: prints seconds a step and by phase, processor time and the losses."""

import argparse
import json
import time

import torch

from lmbn_n import blocks, fill_model, loss
from networks import NETWORKS

parser = argparse.ArgumentParser()
for name in ("batch", "height", "width", "identities", "steps", "warmup", "threads"):
    parser.add_argument(f"--{name}", type=int, required=True)
parser.add_argument("--model", choices=NETWORKS, default="LMBN_n")
parser.add_argument("--device", default="cpu")
parser.add_argument("--use-amp", action="store_true", help="forward pass under bfloat16 autocast")
parser.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
a = parser.parse_args()
torch.set_num_threads(a.threads)
device = torch.device(a.device)

model = fill_model(NETWORKS[a.model](a.identities)).train().to(device)
trainable = [p for p in model.parameters() if p.requires_grad]
optimiser = torch.optim.Adam(trainable, lr=6e-4, weight_decay=5e-4)
images = blocks(a.batch, a.height, a.width, 16).to(device)
identities = (torch.arange(a.batch) // 4 % a.identities).to(device)
forward = torch.compile(model) if a.compile else model


def now():
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


phases = {"forward": [], "backward": [], "optimizer": []}
losses, processor = [], []
for _ in range(a.warmup + a.steps):
    before = time.process_time()
    clock = [now()]
    with torch.autocast(device.type, torch.bfloat16, enabled=a.use_amp):
        scores, features = forward(images)
    total = loss([score.float() for score in scores], [feature.float() for feature in features], identities)
    losses.append(total.item())
    clock.append(now())
    total.backward()
    clock.append(now())
    optimiser.step()
    optimiser.zero_grad()
    clock.append(now())
    processor.append(time.process_time() - before)
    for (name, values), start, end in zip(phases.items(), clock, clock[1:]):
        values.append(end - start)
timed = {name: values[a.warmup :] for name, values in phases.items()}
facts = {"seconds": [sum(step) for step in zip(*timed.values())], **timed, "processor": processor[a.warmup :], "losses": losses}
if device.type == "cuda":
    facts["device_mib"] = torch.cuda.max_memory_allocated() / 2**20
print(json.dumps(facts))
