"""A lower bound on the time of one training step of a network on a GPU: the sum over layers of the larger of arithmetic over
peak and traffic over memory bandwidth (Williams, Waterman and Patterson 2009), since layers run one after the other.

It counts convolutions, linear layers, norms and poolings, each reading its input and writing its output once per pass.
Activations, sums and losses count as free, so no implementation reaches the bound; it is not a forecast."""

import torch
from torch import nn

from networks import NETWORKS

WEIGHTED = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def passes(network, batch, height, width):
    """(operations, values moved) of each pass over each layer, forward and backward, and values of the optimiser."""
    found, trained = [], 0

    def watch(layer, inputs, output):
        nonlocal trained
        trained += sum(parameter.numel() for parameter in layer.parameters())
        x, y = inputs[0].numel(), output.numel()
        if isinstance(layer, WEIGHTED):
            w = layer.weight.numel()
            operations = 2 * y * (w // layer.weight.shape[0])
            # Forward, gradient of the input, gradient of the weights. The picture needs no gradient.
            found.extend([(operations, x + w + y), (operations, x + w + y)])
            if inputs[0].requires_grad:
                found.append((operations, x + w + y))
        elif isinstance(layer, NORMS):
            found.extend([(0, x + y), (0, x + 2 * y)])
        else:
            found.extend([(0, x + y), (0, x + y)])

    with torch.device("meta"):
        model = network.to("meta").train()
        for layer in model.modules():
            if isinstance(layer, WEIGHTED + NORMS + POOLINGS):
                layer.register_forward_hook(watch)
        model(torch.empty(batch, 3, height, width))
    # Adam reads weight, gradient and two moments and writes three of them.
    return found, 7 * trained


def seconds(name, identities, batch, height, width, tflops, terabytes, bytes_of_a_value):
    """The bound of one step, and the bounds by arithmetic alone and by memory alone; the optimiser runs in float32."""
    found, adam = passes(NETWORKS[name](identities), batch, height, width)
    arithmetic = [operations / (tflops * 1e12) for operations, _ in found]
    memory = [values * bytes_of_a_value / (terabytes * 1e12) for _, values in found]
    last = 4 * adam / (terabytes * 1e12)
    return sum(map(max, arithmetic, memory)) + last, sum(arithmetic), sum(memory) + last
