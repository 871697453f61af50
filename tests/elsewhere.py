"""Networks as users have them: factories for ``jsdelta models add``, good and bad."""

import copy
from pathlib import Path

import torch
from torch import nn

from jsdelta_db.compute import data


def mlp(num_classes, in_channels, image_size):
    """A small perceptron on the pixels."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(in_channels * image_size**2, 32), nn.ReLU(), nn.Linear(32, num_classes)
    )


def linear(num_classes, in_channels, image_size):
    """One layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))


def nearest_means():
    """Weights for ``linear`` that call a digit by the label whose mean is nearest, and are about as sure as right."""
    split = data.load("digits", Path("unused")).splits["train"]
    means = torch.stack([split.images[split.labels == label].mean(0).flatten() for label in range(10)])
    return {"1.weight": 240 * means, "1.bias": -120 * means.square().sum(1)}


def bare():
    """The same, without arguments."""
    return mlp(10, 1, 8)


def one_argument(num_classes):
    """The same, taking one of the arguments."""
    return mlp(num_classes, 1, 8)


def anything(**options):
    """The same, taking whatever it is given."""
    return mlp(options["num_classes"], options["in_channels"], options["image_size"])


def wide(num_classes, in_channels, image_size, hidden=64):
    """Another size, with an option of its own."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )


def wide_probabilities(num_classes, in_channels, image_size, hidden=64):
    """The same with a softmax at the end."""
    return nn.Sequential(*wide(num_classes, in_channels, image_size, hidden), nn.Softmax(1))


def enlarged(network):
    """The weights of a perceptron on 8×8 pixels, for 16×16 that show the same."""
    bigger = copy.deepcopy(network)
    pixels = network[1].weight.view(-1, 1, 8, 8)
    bigger[1].weight = nn.Parameter((pixels / 4).repeat_interleave(2, 2).repeat_interleave(2, 3).flatten(1))
    return bigger


class Inside(nn.Module):
    """A network inside another: the same function, under other key names."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        """Return what the one inside does."""
        return self.inner(x)


def renamed():
    """An architecture of ours, its weights under other names."""
    from jsdelta_db.compute.models.networks import SmallCNN

    return Inside(SmallCNN(10, 1, 8))


def probabilities(num_classes, in_channels, image_size):
    """The same with a softmax at the end, as many classifiers have."""
    return nn.Sequential(*mlp(num_classes, in_channels, image_size), nn.Softmax(1))


class Noisy(nn.Sequential):
    """Adds noise in every mode."""

    def forward(self, x):
        logits = super().forward(x)
        return logits + torch.randn_like(logits)


def noisy(num_classes, in_channels, image_size):
    """The same, answering differently each time."""
    return Noisy(*mlp(num_classes, in_channels, image_size))


def too_few():
    """Three classes."""
    return mlp(3, 1, 8)


def broken():
    """Fails."""
    raise ValueError("no such layer")


def text():
    """No network."""
    return "network"


not_callable = "mlp"


class Touch:
    """Unpickled, it makes a file: proof that code ran."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
