"""Built-in networks; each takes normalized images and returns logits."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallCNN(nn.Module):
    """Three convolutions with batch norm and a linear layer, for images of 8×8."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for stage, stride in enumerate((2, 1, 2)):
            layers += [
                nn.Conv2d(channels, width << stage, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width << stage),
                nn.ReLU(),
            ]
            channels = width << stage
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * ((image_size + 3) // 4) ** 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)``."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


# torch 2.15 writes beyond its memory where a strided 1×1 convolution of fewer channels is differentiated in
# channels-last order on a processor with AVX2 alone; taking every other pixel first is the same arithmetic.
FEWEST_STRIDED_CHANNELS = 8


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; a 1×1 projection where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        self.skip = stride if in_channels < FEWEST_STRIDED_CHANNELS else 1
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride // self.skip, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(n, channels, h/stride, w/stride)``."""
        out = F.relu(self.bn1(self.conv1(x)))
        if self.skip > 1:
            x = x[:, :, :: self.skip, :: self.skip]
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-(6n+2) with three stages.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2 (with
    projection shortcuts).
    """

    def __init__(self, blocks: int, num_classes: int, in_channels: int, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages, channels = [], width
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(BasicBlock(channels, width << stage, stride))
                channels = width << stage
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)``."""
        x = self.stages(F.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Normalized(nn.Module):
    """A network that takes images in [0, 1]: the normalization is part of the model.

    Attributes:
        needs_contiguous: whether its forward() fails on images in channels-last order.
    """

    mean: Tensor
    std: Tensor
    needs_contiguous: bool = False

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` of images in [0, 1], in any memory order."""
        if self.needs_contiguous:
            x = x.contiguous()
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits
