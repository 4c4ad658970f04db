"""The PyTorch side of `ci/bench train` and `ci/bench gpu`: prints seconds per step and phase, processor time and the losses."""

import argparse
import json
import time

import numpy as np
import torch

import controlnet
import lmbn_n
import palmvein
import senet
from lmbn_n import blocks, fill, fill_model
from networks import NETWORKS

parser = argparse.ArgumentParser()
for name in ("batch", "height", "width", "identities", "steps", "warmup", "threads"):
    parser.add_argument(f"--{name}", type=int, required=True)
parser.add_argument("--model", choices=[*NETWORKS, "SENet", "ControlNet", "palmvein"], default="LMBN_n")
parser.add_argument("--device", default="cpu")
parser.add_argument("--use-amp", action="store_true", help="forward pass under bfloat16 autocast")
parser.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
a = parser.parse_args()
torch.set_num_threads(a.threads)
device = torch.device(a.device)



def drawn(name, *shape, scale=1.0):
    return torch.from_numpy(fill(name, shape) * np.float32(scale)).to(device)


def reid():
    network = NETWORKS[a.model](a.identities)
    images = blocks(a.batch, a.height, a.width, 16).to(device)
    identities = (torch.arange(a.batch) // 4 % a.identities).to(device)

    def total(outputs):
        scores, features = outputs
        return lmbn_n.loss([score.float() for score in scores], [feature.float() for feature in features], identities)

    return network, (images,), total, dict(lr=6e-4, weight_decay=5e-4)


def frontalizer():
    features, pose = drawn("input.src", a.batch, 512), drawn("input.pose", a.batch, 3, scale=60)
    people = (torch.arange(a.batch) // 4).to(device)
    return senet.SenetTriplet(dropout=0.0), (features, pose), lambda outputs: senet.loss(outputs, features, people, pose), None


def generator():
    image, wanted = (drawn(name, a.batch, 3, 112, 112) for name in ("input.image", "input.target_image"))
    pose = drawn("input.target_pose", a.batch, 3, scale=60)
    return controlnet.ControlNet(dropout=0.0), (image, pose), lambda outputs: controlnet.loss(outputs, wanted, pose), None


def palm_veins():
    network = palmvein.PalmVein(a.identities)
    pictures = tuple(drawn(name, a.batch, 1, 224, 224) for name in ("input.palm", "input.vein"))
    classes = (torch.arange(a.batch) // 2 % a.identities).to(device)
    return network, pictures, lambda fused: palmvein.loss(network.fusion.arcface, fused, classes), dict(lr=1e-3)


families = {"SENet": frontalizer, "ControlNet": generator, "palmvein": palm_veins}
network, inputs, total_of, adam = families.get(a.model, reid)()
model = fill_model(network).train().to(device)
trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
if adam is None:
    optimiser = torch.optim.AdamW([p for _, p in trainable], lr=1e-4, weight_decay=1e-5)
elif a.model == "palmvein":
    # The learning rate of the backbones is a hundredth of the head's.
    sides = ([p for name, p in trainable if name.startswith("fusion.") == head] for head in (True, False))
    optimiser = torch.optim.Adam([{"params": side, "lr": rate} for side, rate in zip(sides, (1e-3, 1e-5))])
else:
    optimiser = torch.optim.Adam([p for _, p in trainable], **adam)
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
        outputs = forward(*inputs)
    total = total_of(outputs)
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
