"""SENetTriplet for torch, written from the project's own description, as the peer in ci/bench. `ci/bench twins` compares it with
golden vectors."""

import torch
import torch.nn.functional as F
from torch import nn

IDENTITY_DIMS = [60, 312, 459, 217, 115, 74, 350, 113, 305, 149, 42, 88, 156, 201, 267, 298, 341, 378, 412, 445]


class SEBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(width, width // 16, bias=False), nn.ReLU(), nn.Linear(width // 16, width, bias=False), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.fc(x)


def hidden(inputs, outputs, dropout):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout))


def two_layers(width, dropout, norm):
    last = [nn.BatchNorm1d(width)] if norm else []
    return nn.Sequential(*hidden(width, width, dropout), nn.Linear(width, width), *last)


class DualBranch(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.identity_se, self.identity_fc = SEBlock(width), two_layers(width, dropout, norm=False)
        self.pose_se, self.pose_fc = SEBlock(width), two_layers(width, dropout, norm=True)
        self.fusion_alpha = nn.Parameter(torch.tensor(0.8473))

    def forward(self, x):
        identity = self.identity_fc(self.identity_se(x)) + x
        share = torch.sigmoid(self.fusion_alpha)
        return share * identity + (1 - share) * self.pose_fc(self.pose_se(x))


class SenetTriplet(nn.Module):
    """Features `[batch, 512]` and poses `[batch, 3]` -> frontal features, identity features of unit length, frontal poses."""

    def __init__(self, dropout=0.1, layers=3):
        super().__init__()
        self.fusion_layers = nn.Sequential(*(hidden(1024 if layer else 515, 1024, dropout) for layer in range(layers - 1)))
        self.dual_branch = DualBranch(512, dropout)
        self.front_feature_projection = hidden(1024, 512, dropout)
        self.front_pose_layers = nn.Sequential(*(hidden(512 if layer else 1024, 512, dropout) for layer in range(layers - 1)))
        self.front_pose_output = nn.Linear(512, 3)
        self.identity_head = two_layers(512, dropout, norm=True)

    def forward(self, features, pose):
        z = self.fusion_layers(torch.cat([features, pose], 1))
        front = features + self.dual_branch(self.front_feature_projection(z))
        return front, F.normalize(self.identity_head(front)), self.front_pose_output(self.front_pose_layers(z))


def triplets(features, people, pose):
    """For each anchor, the positive with the most different pose and the most similar negative with nearly the same pose."""
    apart = torch.cdist(pose, pose, compute_mode="donot_use_mm_for_euclid_dist")
    alike = F.cosine_similarity(features[:, None], features[None], dim=2, eps=1e-8)
    found = []
    for anchor in range(len(people)):
        same = people == people[anchor]
        others = ~same
        same[anchor] = False
        if not same.any() or not others.any():
            continue
        positive = apart[anchor].masked_fill(~same, -torch.inf).argmax()
        near = others & (apart[anchor] < 30)
        if near.any():
            negative = alike[anchor].masked_fill(~near, -torch.inf).argmax()
        else:
            negative = apart[anchor].masked_fill(~others, torch.inf).argmin()
        weight = 2.0 if apart[anchor, positive] > 45 else 1.0
        found.append((anchor, positive.item(), negative.item(), weight))
    return found


def loss(outputs, features, people, pose):
    """Angle-weighted triplets with margin 0.3, plus 0.1 times the reconstruction and 0.3 times the identity dimensions."""
    front, identity, _ = outputs
    with torch.no_grad():
        found = triplets(identity, people, pose)
    total = 0.3 * (front - features)[:, IDENTITY_DIMS].square().mean()
    if found:
        anchor, positive, negative, weight = (torch.tensor(side) for side in zip(*found))
        near = F.pairwise_distance(identity[anchor], identity[positive])
        far = F.pairwise_distance(identity[anchor], identity[negative])
        total = total + (weight * (near - far + 0.3).clamp_min(0)).mean()
        total = total + 0.1 * (1 - F.cosine_similarity(identity, features, eps=1e-8).mean())
    return total
