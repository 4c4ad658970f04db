"""The palm-vein networks for torch, written from the project's own description, as peers in ci/bench. Parameter names are those
of the reference's checkpoints. `ci/bench twins` compares the networks with golden vectors."""

import torch
import torch.nn.functional as F
from torch import nn


class ConvBN(nn.Sequential):
    """Convolution without bias, batch norm."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, padding=0, groups=1):
        super().__init__()
        self.add_module("c", nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.m = module

    def forward(self, x):
        return x + self.m(x)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pw1, self.pw2 = ConvBN(channels, 2 * channels), ConvBN(2 * channels, channels)

    def forward(self, x):
        return self.pw2(F.relu(self.pw1(x)))


class Attention(nn.Module):
    """Self-attention over all positions of a map; each head has its own slice of queries, keys and values."""

    def __init__(self, channels, key=16, heads=4):
        super().__init__()
        self.key, self.heads, self.width = key, heads, channels // heads
        self.qkv = ConvBN(channels, heads * (2 * key + self.width))
        self.proj = nn.Sequential(nn.ReLU(), ConvBN(channels, channels))

    def forward(self, x):
        batch, channels, height, width = x.shape
        slabs = self.qkv(x).view(batch, self.heads, 2 * self.key + self.width, height * width)
        q, k, v = slabs.split([self.key, self.key, self.width], dim=2)
        weights = (q.transpose(-2, -1) @ k * self.key**-0.5).softmax(-1)
        return self.proj((v @ weights.transpose(-2, -1)).reshape(batch, channels, height, width))


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.ffn0, self.mixer = Residual(FeedForward(channels)), Residual(Attention(channels))
        self.ffn1 = Residual(FeedForward(channels))

    def forward(self, x):
        return self.ffn1(self.mixer(self.ffn0(x)))


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class PatchMerging(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        hidden = 4 * inputs
        self.conv1, self.conv2 = ConvBN(inputs, hidden), ConvBN(hidden, hidden, 3, 2, 1, hidden)
        self.se, self.conv3 = SqueezeExcite(hidden), ConvBN(hidden, outputs)

    def forward(self, x):
        return self.conv3(self.se(F.relu(self.conv2(F.relu(self.conv1(x))))))


def around(channels):
    """The block before and after a merge."""
    return nn.Sequential(Residual(ConvBN(channels, channels, 3, 1, 1, channels)), Residual(FeedForward(channels)))


class EfficientVit(nn.Module):
    """`[batch, 1, height, width]` -> `[batch, 192]`."""

    def __init__(self):
        super().__init__()
        widths = [1, 8, 16, 32, 64]
        layers = []
        for inputs, outputs in zip(widths, widths[1:]):
            layers += [ConvBN(inputs, outputs, 3, 2, 1), nn.ReLU()]
        self.patch_embed = nn.Sequential(*layers[:-1])
        self.blocks1 = nn.Sequential(Block(64))
        self.blocks2 = nn.Sequential(around(64), PatchMerging(64, 128), around(128), Block(128), Block(128))
        self.blocks3 = nn.Sequential(around(128), PatchMerging(128, 192), around(192), *(Block(192) for _ in range(3)))

    def forward(self, x):
        return self.blocks3(self.blocks2(self.blocks1(self.patch_embed(x)))).mean((2, 3))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each position."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-6) * self.weight[:, None, None] + self.bias[:, None, None]


class ConvNextBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full([channels], 1e-6))

    def forward(self, x):
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """`[batch, 1, height, width]` -> `[batch, 768, height / 32, width / 32]`, or `[batch, 768]` if pooled."""

    def __init__(self, spatial=False):
        super().__init__()
        self.spatial = spatial
        depths, widths = (3, 3, 9, 3), (96, 192, 384, 768)
        self.downsample_layers = nn.ModuleList([nn.Sequential(nn.Conv2d(1, widths[0], 4, 4), ChannelNorm(widths[0]))])
        for inputs, outputs in zip(widths, widths[1:]):
            self.downsample_layers.append(nn.Sequential(ChannelNorm(inputs), nn.Conv2d(inputs, outputs, 2, 2)))
        stages = (nn.Sequential(*(ConvNextBlock(width) for _ in range(depth))) for depth, width in zip(depths, widths))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)

    def forward(self, x):
        for downsample, stage in zip(self.downsample_layers, self.stages):
            x = stage(downsample(x))
        return x if self.spatial else self.norm(x.mean((2, 3)))


class Align(nn.Module):
    """Projects pooled features to the head's width."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.fc = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.fc(x)


class AlignMap(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return self.proj(x)


class ChannelAttention(nn.Module):
    """A weight for each of two streams and each channel."""

    def __init__(self, width):
        super().__init__()
        hidden = max(width // 4, 8)
        self.mlp = nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Identity(), nn.Linear(hidden, 2 * width))

    def forward(self, a, b):
        weights = self.mlp(torch.cat([a, b], 1)).view(a.shape[0], 2, -1).softmax(1)
        return weights[:, 0] * a + weights[:, 1] * b


class SpatialAttention(nn.Module):
    """A weight for each of two streams and each position."""

    def __init__(self, channels):
        super().__init__()
        hidden = max(channels // 16, 8)
        self.conv = nn.Sequential(
            nn.Conv2d(2 * channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, 2, 1)
        )

    def forward(self, a, b):
        weights = self.conv(torch.cat([a, b], 1)).softmax(1)
        return (weights[:, :1] * a + weights[:, 1:] * b).mean((2, 3))


class ArcFace(nn.Module):
    """Logits with scale 64 and an angular margin of 0.5."""

    def __init__(self, width, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, width))

    def forward(self, x, classes):
        cosine = F.linear(F.normalize(x), F.normalize(self.weight))
        sine = (1 - cosine.square()).clamp_min(1e-9).sqrt()
        margin = torch.tensor(0.5, dtype=torch.float64)
        shifted = cosine * margin.cos().item() - sine * margin.sin().item()
        shifted = torch.where(cosine > (torch.pi - margin).cos().item(), shifted, cosine - 0.5 * (torch.pi - margin).sin().item())
        own = F.one_hot(classes, len(self.weight)).bool()
        return 64 * torch.where(own, shifted, cosine)


class Head(nn.Module):
    """Global and local features of palm and vein -> unit rows `[batch, 512]`, and the branches that the loss compares."""

    def __init__(self, spatial, classes):
        super().__init__()
        self.g_align_palm, self.g_align_vein, self.g_fuse = Align(192, 256), Align(192, 256), ChannelAttention(256)
        align, fuse = (AlignMap, SpatialAttention) if spatial else (Align, ChannelAttention)
        self.l_align_palm, self.l_align_vein, self.l_fuse = align(768, 256), align(768, 256), fuse(256)
        self.arcface = ArcFace(512, classes)

    def forward(self, palm_global, vein_global, palm_local, vein_local):
        whole = self.g_fuse(self.g_align_palm(palm_global), self.g_align_vein(vein_global))
        local = self.l_fuse(self.l_align_palm(palm_local), self.l_align_vein(vein_local))
        return F.normalize(torch.cat([whole, local], 1)), whole, local


class PalmVein(nn.Module):
    """Palm and vein pictures -> unit rows in evaluation; in training also the two branches."""

    def __init__(self, classes=100, spatial=True):
        super().__init__()
        self.vit_palm, self.vit_vein = EfficientVit(), EfficientVit()
        self.cnn_palm, self.cnn_vein = ConvNext(spatial), ConvNext(spatial)
        self.fusion = Head(spatial, classes)

    def forward(self, palm, vein):
        fused = self.fusion(self.vit_palm(palm), self.vit_vein(vein), self.cnn_palm(palm), self.cnn_vein(vein))
        return fused if self.training else fused[0]


def loss(arcface, fused, classes):
    """Classification with margin and label smoothing, plus a tenth of the consistency of the branches."""
    embedding, whole, local = fused
    entropy = F.cross_entropy(arcface(embedding, classes), classes, label_smoothing=0.1)
    likeness = F.normalize(whole) @ F.normalize(local).T / 0.07
    return entropy + 0.1 * F.cross_entropy(likeness, torch.arange(len(likeness), device=likeness.device))
