"""Networks as users write them, named as ``tests.pipeline.ensembles.networks:NAME``."""

import warnings

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune


class Viewing(nn.Module):
    """A convolution, and a view behind it."""

    def __init__(self, num_classes=10, in_channels=1, image_size=8):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.fc = nn.Linear(4 * image_size**2 // 4, num_classes)

    def forward(self, x):
        """Return logits."""
        return self.fc(F.max_pool2d(F.relu(self.conv(x)), 2).view(x.size(0), -1))


class Asking(Viewing):
    """It asks what it was given: torch.fx answers otherwise, and looks at another contrast."""

    def forward(self, x):
        """Return logits."""
        return super().forward(x if torch.is_tensor(x) else 0.01 * x)


class Untraceable(Viewing):
    """Its branch hangs on the images."""

    def forward(self, x):
        """Return logits."""
        return super().forward(x if x.sum() > -1e9 else -x)


class Probabilities(Viewing):
    """It returns what a softmax gives."""

    def forward(self, x):
        """Return probabilities."""
        return super().forward(x).softmax(1)


class Dropping(Viewing):
    """Its dropout never stops."""

    def forward(self, x):
        """Return other logits each time."""
        return super().forward(F.dropout(x, 0.5))


class Detached(Viewing):
    """No gradient reaches the image."""

    def forward(self, x):
        """Return logits."""
        return super().forward(x.detach())


class Untrainable(Viewing):
    """It fails in train mode alone."""

    def forward(self, x):
        """Return logits, in eval mode."""
        if self.training:
            raise ValueError("not in this mode")
        return super().forward(x)


class ZeroHead(Viewing):
    """Its last layer starts at zero, as torchvision's vision transformers do."""

    def __init__(self, num_classes, in_channels, image_size):
        super().__init__(num_classes, in_channels, image_size)
        nn.init.zeros_(self.fc.weight)


def _hooked(wrap, num_classes, in_channels, image_size):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # old, and in use
        first = wrap(nn.Conv2d(in_channels, 4, 3, padding=1))
    return nn.Sequential(
        first, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * image_size**2, num_classes)
    )


def weight_normed(**size):
    """A convolution with weight norm before a batch norm."""
    return _hooked(nn.utils.weight_norm, **size)


def spectral_normed(**size):
    """A convolution with spectral norm before a batch norm."""
    return _hooked(nn.utils.spectral_norm, **size)


def pruned(**size):
    """A pruned convolution before a batch norm."""
    return _hooked(lambda layer: prune.l1_unstructured(layer, "weight", 0.3), **size)
