"""The networks of ci/bench for torch, by their names in `train --model`. OSNet and ResNet50 are written from the project's own
description. Parameter names are those of the published checkpoints, so that both sides fill them with equal values."""

import torch.nn.functional as F
from torch import nn

from lmbn_n import CHANNELS, ConvLayer, LmbnN, OSBlock


class OSNet(nn.Module):
    """OSNet x1.0: `[batch, 3, height, width]` -> ([score], [features])."""

    def __init__(self, identities, features=512):
        super().__init__()
        c0, c1, c2, c3 = CHANNELS
        self.conv1 = ConvLayer(3, c0, 7, 2, 3)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.conv2 = nn.Sequential(OSBlock(c0, c1), OSBlock(c1, c1), nn.Sequential(ConvLayer(c1, c1), nn.AvgPool2d(2, 2)))
        self.conv3 = nn.Sequential(OSBlock(c1, c2), OSBlock(c2, c2), nn.Sequential(ConvLayer(c2, c2), nn.AvgPool2d(2, 2)))
        self.conv4 = nn.Sequential(OSBlock(c2, c3), OSBlock(c3, c3))
        self.conv5 = ConvLayer(c3, c3)
        self.fc = nn.Sequential(nn.Linear(c3, features), nn.BatchNorm1d(features), nn.ReLU())
        self.classifier = nn.Linear(features, identities)

    def forward(self, x):
        x = self.conv3(self.conv2(self.maxpool(self.conv1(x))))
        features = self.fc(F.adaptive_avg_pool2d(self.conv5(self.conv4(x)), 1).flatten(1))
        return [self.classifier(features)], [features]


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1, and a shortcut."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if inputs != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Backbone(nn.Module):
    """ResNet-50 whose last stage has stride 1; `fc` is stored but never used."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], 64
        for blocks, width, stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 1)):
            first = Bottleneck(inputs, width, stride)
            inputs = 4 * width
            stages.append(nn.Sequential(first, *(Bottleneck(inputs, width, 1) for _ in range(blocks - 1))))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, 1000)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ClassBlock(nn.Module):
    def __init__(self, features, identities):
        super().__init__()
        self.add_block = nn.Sequential(nn.Linear(2048, features), nn.BatchNorm1d(features))
        self.classifier = nn.Sequential(nn.Linear(features, identities))

    def forward(self, x):
        features = self.add_block(x)
        return [self.classifier(features)], [features]


class ResNet50(nn.Module):
    def __init__(self, identities, features=512):
        super().__init__()
        self.model = Backbone()
        self.classifier = ClassBlock(features, identities)

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.model(x), 1).flatten(1))


NETWORKS = {"LMBN_n": LmbnN, "OSNet": OSNet, "ResNet50": ResNet50}
