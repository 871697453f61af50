"""Networks that are awkward on purpose: what a user's own may do, and what a full card does."""

import torch
from torch import Tensor, nn


class _Small(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        del image_size  # pooled
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.fc = nn.Linear(16, num_classes)

    def scale(self, x: Tensor) -> Tensor | float:
        """Return what the features are multiplied by."""
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)``."""
        features = torch.relu(self.conv(x)).mean((2, 3))
        logits: Tensor = self.fc(features * self.scale(features))
        return logits


class Synchronizing(_Small):
    """A network that torch.fx can trace, and that reads a number from the card in every forward pass."""

    def scale(self, x: Tensor) -> Tensor | float:
        """Return 1, by way of the host."""
        return 1.0 + 0.0 * x.sum().item()


class Branching(_Small):
    """A network that torch.fx cannot trace: what it does depends on the numbers."""

    def scale(self, x: Tensor) -> Tensor | float:
        """Return 1, whatever the branch."""
        return 1.0 if x.sum() > 0 else 1.0 + 0.0 * x


class Limited(nn.Module):
    """A network on a card with room for so many images: with more it raises what torch raises there."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most
        self.refused: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits."""
        if len(x) > self.most:
            self.refused.append(len(x))
            raise torch.OutOfMemoryError(f"CUDA out of memory (made up: {len(x)} images)")
        logits: Tensor = self.network(x)
        return logits


def turn_tf32_on(num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """Build a network, and change the settings that training scripts change in passing."""
    torch.set_float32_matmul_precision("high" if torch.cuda.is_available() else "medium")
    torch.backends.cudnn.allow_tf32 = True
    if hasattr(torch.backends, "fp32_precision"):  # torch 2.9 and later
        torch.backends.fp32_precision = "tf32"
    return _Small(num_classes, in_channels, image_size)
