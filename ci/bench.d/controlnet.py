"""ImageControlNet with the small encoder for torch, written from the project's own description, as the peer in ci/bench.
`ci/bench twins` compares it with golden vectors."""

import torch
import torch.nn.functional as F
from torch import nn


def dense(*widths):
    """Linear layers with ReLU between them."""
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layers = []
        for inputs, outputs, kernel in ((3, 64, 7), (64, 128, 3), (128, 256, 3), (256, 512, 3)):
            layers += [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        self.feature_proj = nn.Linear(512, 512)

    def forward(self, x):
        return self.feature_proj(F.adaptive_avg_pool2d(self.encoder(x), 1).flatten(1))


class PoseExtractor(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        first, relu, *rest = dense(512, 256, 128, 3)
        self.pose_head = nn.Sequential(first, relu, nn.Dropout(dropout), *rest)

    def forward(self, x):
        return self.pose_head(x)


class ControlBranch(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.pose_encoder = nn.Sequential(*dense(3, 256, 256), nn.ReLU())
        layer = lambda: [nn.Linear(256, 256), nn.LayerNorm(256), nn.ReLU(), nn.Dropout(dropout)]
        self.control_layers = nn.Sequential(*layer(), *layer(), *layer())
        self.output_proj = nn.Linear(256, 512)

    def forward(self, source, target):
        return self.output_proj(self.control_layers(self.pose_encoder(target - source) + self.pose_encoder(target)))


class ZeroConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(512, 512, 1)

    def forward(self, x):
        return self.conv(x[:, :, None])[:, :, 0]


class Generator(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.side = size // 16
        self.spatial_proj = nn.Linear(512, 512 * self.side**2)
        layers = []
        for inputs, outputs in ((512, 256), (256, 128), (128, 64)):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.generator = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x):
        return self.generator(self.spatial_proj(x).view(-1, 512, self.side, self.side))


class ControlNet(nn.Module):
    """Pictures `[batch, 3, size, size]` and requested poses `[batch, 3]` -> pictures; in training also the estimated source poses."""

    def __init__(self, size=112, dropout=0.1):
        super().__init__()
        self.image_encoder, self.pose_extractor = Encoder(), PoseExtractor(dropout)
        self.control_branch, self.zero_conv, self.image_generator = ControlBranch(dropout), ZeroConv(), Generator(size)

    def forward(self, image, pose):
        features = self.image_encoder(image)
        source = self.pose_extractor(features)
        made = self.image_generator(features + self.zero_conv(self.control_branch(source, pose)))
        return (made, source) if self.training else made


def loss(outputs, wanted, pose):
    """Squared error of the picture, plus a tenth of that of the pose."""
    made, source = outputs
    return F.mse_loss(made, wanted) + 0.1 * F.mse_loss(source, pose)
