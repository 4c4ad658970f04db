"""The PyTorch side of `ci/bench accuracy`: trains LMBN_n on a folder of Market-1501's layout and prints mAP and Rank-1.

Network and losses are those of lmbn_n.py; sampler, transforms, first weights, schedule and protocol follow the same
description as Vitrine's. Nothing of it is shared with Vitrine but the pictures.
"""

import argparse
import json
import math
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from lmbn_n import LmbnN, embedding, loss

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True)
for name in ("height", "width", "people", "pictures", "epochs", "warmup", "threads", "seed"):
    parser.add_argument(f"--{name}", type=int, required=True)
a = parser.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(a.seed)
random = np.random.default_rng(a.seed)
MEAN, DEVIATION = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
LR = 6e-4


def pictures(folder):
    """(picture, identity, camera) of all files."""
    found = []
    for path in sorted((a.data / folder).glob("*.jpg")):
        identity, camera = map(int, re.match(r"(-?\d+)_c(\d+)", path.name).groups())
        found.append((Image.open(path).convert("RGB"), identity, camera))
    return found


def resized(picture, height, width):
    return picture.resize((width, height), Image.BILINEAR)


def values(picture):
    return ((np.asarray(picture, np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


def augmented(picture):
    picture = resized(picture, a.height, a.width)
    if random.random() < 0.5:
        picture = picture.transpose(Image.FLIP_LEFT_RIGHT)
    if random.random() < 0.5:
        height, width = round(a.height * 1.05), round(a.width * 1.05)
        x, y = round(random.uniform(0, width - a.width)), round(random.uniform(0, height - a.height))
        picture = resized(picture, height, width).crop((x, y, x + a.width, y + a.height))
    return values(picture)


def batches(identities):
    """Rows of each batch of an epoch: some pictures of some people."""
    groups = {}
    for identity in sorted(set(identities)):
        own = np.flatnonzero(identities == identity)
        own = random.choice(own, a.pictures) if len(own) < a.pictures else random.permutation(own)
        groups[identity] = [own[at : at + a.pictures] for at in range(0, len(own) - a.pictures + 1, a.pictures)]
    while len(groups) >= a.people:
        rows = []
        for identity in random.choice(list(groups), a.people, replace=False):
            rows.append(groups[identity].pop(0))
            if not groups[identity]:
                del groups[identity]
        yield np.concatenate(rows)


def rate(epoch):
    if epoch < a.warmup:
        return LR * (epoch + 1) / a.warmup
    least = LR / 1000
    turn = math.pi * (epoch - a.warmup) / max(a.epochs - a.warmup - 1, 1)
    return least + (LR - least) * (1 + math.cos(turn)) / 2


def begin(model):
    """First weights: of OSNet's blocks by the fan out, of the heads as PyTorch has them, of classifiers next to nothing."""
    for name, layer in model.named_modules():
        trunk = name.startswith(("backone", "global_branch"))
        if isinstance(layer, nn.Conv2d) and trunk:
            fan_out = layer.weight.shape[0] * layer.kernel_size[0] * layer.kernel_size[1]
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.001)
    for copy in (model.partial_branch, model.channel_branch):
        copy.load_state_dict(model.global_branch.state_dict())
    for part in range(1, 5):
        getattr(model, f"reduction_{part}").reduction.load_state_dict(model.reduction_0.reduction.state_dict())


def embedded(model, rows):
    both = []
    with torch.no_grad():
        for at in range(0, len(rows), 32):
            images = np.stack([values(resized(picture, a.height, a.width)) for picture, _, _ in rows[at : at + 32]])
            images = torch.from_numpy(images)
            both.append(embedding(model(images) + model(images.flip(3))))
    return torch.cat(both).numpy()


def evaluate(model):
    model.eval()
    query, gallery = pictures("query"), pictures("bounding_box_test")
    similarity = embedded(model, query) @ embedded(model, gallery).T
    names = np.array([identity for _, identity, _ in gallery])
    cameras = np.array([camera for _, _, camera in gallery])
    firsts, precisions = [], []
    for row, (_, identity, camera) in zip(similarity, query):
        kept = (names != -1) & ~((names == identity) & (cameras == camera))
        order = np.argsort(-row, kind="stable")
        right = (names == identity)[order][kept[order]]
        if right.any():
            hits = np.flatnonzero(right) + 1
            firsts.append(hits[0] == 1)
            precisions.append(np.mean(np.arange(1, len(hits) + 1) / hits))
    return {"mAP": float(np.mean(precisions)), "rank1": float(np.mean(firsts))}


train = [row for row in pictures("bounding_box_train") if row[1] >= 0]
people = sorted({identity for _, identity, _ in train})
classes = np.array([people.index(identity) for _, identity, _ in train])
model = LmbnN(len(people))
begin(model)
optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=LR, weight_decay=5e-4)
for epoch in range(a.epochs):
    model.train()
    for group in optimiser.param_groups:
        group["lr"] = rate(epoch)
    for rows in batches(classes):
        images = torch.from_numpy(np.stack([augmented(train[row][0]) for row in rows]))
        total = loss(*model(images), torch.from_numpy(classes[rows]))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
print(json.dumps(evaluate(model)))
