"""LMBN_n for torch, written from the project's own description of the network, as the peer in ci/bench.

The names in its state dictionary are those of the published checkpoints, so it loads the checkpoints of
Vitrine's training. Run as a program, it verifies itself against golden vectors:

    "$(ci/venv bench)" ci/bench.d/lmbn_n.py GOLDEN.safetensors
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CHANNELS = (64, 256, 384, 512)


class ConvLayer(nn.Module):
    """Convolution, batch norm and, unless `linear`, ReLU."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, padding=0, linear=False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.linear = linear

    def forward(self, x):
        x = self.bn(self.conv(x))
        return x if self.linear else F.relu(x)


class LightConv3x3(nn.Module):
    """Pointwise then depthwise convolution, with one batch norm and ReLU after both."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.bn(self.conv2(self.conv1(x))))


class ChannelGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x):
        z = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(z))))


class OSBlock(nn.Module):
    """Four streams of one to four light convolutions, weighted by one shared gate."""

    def __init__(self, inputs, outputs):
        super().__init__()
        middle = outputs // 4
        self.conv1 = ConvLayer(inputs, middle)
        self.conv2a = LightConv3x3(middle)
        self.conv2b = nn.Sequential(*(LightConv3x3(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv3x3(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv3x3(middle) for _ in range(4)))
        self.gate = ChannelGate(middle)
        self.conv3 = ConvLayer(middle, outputs, linear=True)
        self.downsample = ConvLayer(inputs, outputs, linear=True) if inputs != outputs else None

    def forward(self, x):
        u = self.conv1(x)
        streams = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        y = sum(self.gate(stream(u)) for stream in streams[1:]) + self.gate(streams[0](u))
        return F.relu(self.conv3(y) + (x if self.downsample is None else self.downsample(x)))


class Head(nn.Module):
    """BNNeck, after a 1x1 reduction if `inputs` is given. `[batch, C, 1, 1]` -> (after, score, before)."""

    def __init__(self, features, identities, inputs=None):
        super().__init__()
        self.reduction = nn.Conv2d(inputs, features, 1, bias=False) if inputs else None
        self.bn = nn.BatchNorm1d(features)
        # The shift of the neck is a parameter that is never trained and stays 0.
        self.bn.bias.requires_grad_(False)
        self.classifier = nn.Linear(features, identities, bias=False)

    def forward(self, x):
        before = (x if self.reduction is None else self.reduction(x)).flatten(1)
        after = self.bn(before)
        return after, self.classifier(after), before


class FeatureErase(nn.Module):
    """A block; in training also a copy of its output without the third of the rows with the largest activation."""

    def __init__(self, channels):
        super().__init__()
        self.drop_batch_bottleneck = OSBlock(channels, channels)

    def forward(self, x):
        features = self.drop_batch_bottleneck(x)
        if not self.training:
            return features, features
        with torch.no_grad():
            activation = features.square().sum(1)
            strongest = F.normalize(activation.flatten(1)).view_as(activation).amax(2)
            rows = strongest.shape[1]
            erased = strongest.argsort(dim=1, stable=True)[:, rows - round(0.33 * rows) :]
            mask = torch.ones_like(strongest).scatter_(1, erased, 0.0)
        return features * mask[:, None, :, None], features


def branch():
    _, _, c2, c3 = CHANNELS
    rest = nn.Sequential()
    # The names start at 1, because this is a slice of the trunk's third stage.
    rest.add_module("1", OSBlock(c2, c2))
    rest.add_module("2", nn.Sequential(ConvLayer(c2, c2), nn.AvgPool2d(2, 2)))
    return nn.Sequential(rest, nn.Sequential(OSBlock(c2, c3), OSBlock(c3, c3)), ConvLayer(c3, c3))


class LmbnN(nn.Module):
    """Images `[batch, 3, height, width]` -> training: (7 scores, 3 features before the neck); else `[batch, features, 7]`."""

    def __init__(self, identities, features=512):
        super().__init__()
        c0, c1, c2, c3 = CHANNELS
        self.backone = nn.Sequential(
            ConvLayer(3, c0, 7, 2, 3),
            nn.MaxPool2d(3, 2, 1),
            nn.Sequential(OSBlock(c0, c1), OSBlock(c1, c1), nn.Sequential(ConvLayer(c1, c1), nn.AvgPool2d(2, 2))),
            OSBlock(c1, c2),
        )
        self.global_branch, self.partial_branch, self.channel_branch = branch(), branch(), branch()
        for copy in (self.partial_branch, self.channel_branch):
            copy.load_state_dict(self.global_branch.state_dict())
        self.batch_drop_block = FeatureErase(c3)
        for part in range(5):
            self.add_module(f"reduction_{part}", Head(features, identities, c3))
        self.shared = nn.Sequential(nn.Conv2d(c3 // 2, features, 1, bias=False), nn.BatchNorm2d(features), nn.ReLU())
        self.reduction_ch_0, self.reduction_ch_1 = Head(features, identities), Head(features, identities)

    def forward(self, x):
        trunk = self.backone(x)
        whole, parts, channels = self.global_branch(trunk), self.partial_branch(trunk), self.channel_branch(trunk)
        erased, kept = self.batch_drop_block(whole)
        halves = F.adaptive_avg_pool2d(parts, (2, 1))
        pooled = F.adaptive_avg_pool2d(channels, 1)
        half = pooled.shape[1] // 2
        heads = [
            self.reduction_0(F.adaptive_avg_pool2d(kept, 1)),
            self.reduction_4(F.adaptive_max_pool2d(erased, 1)),
            self.reduction_1(F.adaptive_max_pool2d(parts, 1)),
            self.reduction_2(halves[:, :, :1]),
            self.reduction_3(halves[:, :, 1:]),
            self.reduction_ch_0(self.shared(pooled[:, :half])),
            self.reduction_ch_1(self.shared(pooled[:, half:])),
        ]
        if self.training:
            return [head[1] for head in heads], [head[2] for head in heads[:3]]
        return torch.stack([head[0] for head in heads], dim=2)


def embedding(features):
    """`[batch, F, parts]` -> unit rows `[batch, F * parts]`: each part is divided by its length, then the whole."""
    features = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return features.flatten(1) / features.shape[2] ** 0.5


def ms_loss(features, identities, margin):
    """Multi-similarity loss, Wang et al. 2019, alpha 2, beta 40, lambda 0.5."""
    similarity = F.normalize(features) @ F.normalize(features).T
    same = identities[:, None] == identities[None, :]
    with torch.no_grad():
        positive, negative = same & (similarity < 1 - 1e-5), ~same
        least = similarity.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        most = similarity.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        negative &= similarity + margin > least
        positive &= similarity - margin < most
        valid = positive.any(1) & negative.any(1)
    pull = torch.log1p((torch.exp(-2 * (similarity - 0.5)) * positive).sum(1)) / 2
    push = torch.log1p((torch.exp(40 * (similarity - 0.5)) * negative).sum(1)) / 40
    return ((pull + push) * valid).sum() / len(features)


def loss(scores, features, identities, margin=0.7):
    """0.5*CrossEntropy+0.5*MSLoss with label smoothing: sums over the heads."""
    entropy = sum(F.cross_entropy(score, identities, label_smoothing=0.1) for score in scores)
    metric = sum(ms_loss(feature, identities, margin) for feature in features)
    return 0.5 * entropy + 0.5 * metric


def fill(name, shape, integer=False):
    """Values computed from a tensor's name: splitmix64 of the 64-bit FNV-1a hash of the name plus the element's index."""
    if integer:
        return np.zeros(shape, np.int64)
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    numel = int(np.prod(shape))
    z = np.arange(numel, dtype=np.uint64) + np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    u = ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2**24
    v = 2 * u - 1
    if name.startswith("input"):
        values = v
    elif name.endswith(".running_var"):
        values = 0.5 + u
    elif name.endswith(".running_mean"):
        values = 0.1 * v
    elif numel == 1:
        values = 0.5 + 0.1 * v
    elif len(shape) == 1:
        values = 0.1 * v if name.endswith(".bias") else 1 + 0.1 * v
    else:
        values = v * np.sqrt(3 * shape[0] / numel)
    return values.astype(np.float32).reshape(shape)


def fill_model(model):
    """Fills every entry of the state dictionary with the values of its name."""
    state = model.state_dict()
    filled = {n: torch.from_numpy(fill(n, tuple(t.shape), not t.is_floating_point())) for n, t in state.items()}
    model.load_state_dict(filled)
    return model


def blocks(batch, height, width, repeat):
    """Pictures of random squares, `[batch, 3, height, width]`."""
    small = fill("input", (batch, 3, height // repeat, width // repeat))
    return torch.from_numpy(small.repeat(repeat, 2).repeat(repeat, 3))


def load(path):
    """A network with the weights of our safetensors checkpoint; the number of classes is the classifier's width."""
    from safetensors.torch import load_file

    state = load_file(path)
    identities, features = state["reduction_0.classifier.weight"].shape
    model = LmbnN(identities, features)
    # A counter that is optional in PyTorch's own files too; unused when the momentum is a number.
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, value)
    model.load_state_dict(state)
    return model.eval()


def verify(path):
    from safetensors import safe_open

    golden = safe_open(path, "np")

    def compare(name, tensor, every, limit):
        expected = golden.get_tensor(name).reshape(-1)
        found = tensor.detach().numpy().reshape(-1)[::every]
        worst = float(np.abs(found - expected).max())
        print(f"{'ok  ' if worst <= limit else 'FAIL'} {name:28} {len(expected):6} values, max |difference| {worst:.2e}, allowed {limit:.0e}")
        return worst <= limit

    model = fill_model(LmbnN(751))
    good = sum(p.numel() for p in model.parameters()) == 9_152_280
    with torch.no_grad():
        model.eval()
        noise = torch.from_numpy(fill("input", (2, 3, 384, 128)))
        good &= compare("lmbn_n.eval.noise", model(noise), 1, 5e-6)
        good &= compare("lmbn_n.eval.blocks", model(blocks(2, 384, 128, 32)), 1, 5e-6)
        model.train()
        scores, features = model(blocks(4, 384, 128, 32))
        for index, score in enumerate(scores):
            good &= compare(f"lmbn_n.train.logits.{index}", score, 5, 2e-3)
        for index, feature in enumerate(features):
            good &= compare(f"lmbn_n.train.features.{index}", feature, 3, 1e-3)
    # The step that `ci/bench train` times: its loss, and a gradient that rounding hardly changes.
    model = fill_model(LmbnN(751)).train()
    total = loss(*model(blocks(8, 128, 64, 16)), torch.arange(8) // 2)
    total.backward()
    print(f"loss of the training step {total.item():.6f}, golden 25.564177 in double precision")
    good &= abs(total.item() - 25.564177) < 1e-3
    return good & compare("adam.grad.reduction_0.bn.weight", model.reduction_0.bn.weight.grad, 1, 1e-5)


if __name__ == "__main__":
    sys.exit(0 if verify(sys.argv[1]) else 1)
