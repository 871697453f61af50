"""The built-in networks; each takes normalized images and returns logits."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models as torchvision_models


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


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; a 1×1 projection where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(n, channels, h/stride, w/stride)``."""
        out = F.relu(self.bn1(self.conv1(x)))
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


def small_image_resnet(depth: int, num_classes: int, in_channels: int, width: int = 64) -> nn.Module:
    """Build torchvision's ResNet-18 or -50 with a 3×3 stem and no first pooling, for 32×32 images."""
    block, layers = {
        18: (torchvision_models.resnet.BasicBlock, [2, 2, 2, 2]),
        50: (torchvision_models.resnet.Bottleneck, [3, 4, 6, 3]),
    }[depth]
    # width_per_group would widen only the bottlenecks: the whole network is scaled by its base instead.
    net = _ScaledResNet(block, layers, num_classes, width)
    net.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    return net


class _ScaledResNet(torchvision_models.ResNet):  # type: ignore[misc] # torchvision is untyped
    """torchvision's ResNet with another base width than 64."""

    def __init__(self, block: type[nn.Module], layers: list[int], num_classes: int, width: int) -> None:
        self._base = width
        super().__init__(block, layers, num_classes=num_classes)
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(8 * width * int(getattr(block, "expansion", 1)), num_classes)

    def _make_layer(
        self, block: type[nn.Module], planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> nn.Sequential:
        if planes == 64:
            self.inplanes = self._base
        layer: nn.Sequential = super()._make_layer(block, planes * self._base // 64, blocks, stride, dilate)
        return layer


def small_vit(num_classes: int, in_channels: int, image_size: int, width: int = 128) -> nn.Module:
    """Build torchvision's VisionTransformer with 6 layers, 4 heads and 8×8 patches per image side.

    Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", at the size of small images.
    """
    patch = max(1, image_size // 8)
    net: nn.Module = torchvision_models.VisionTransformer(
        image_size=image_size, patch_size=patch, num_layers=6, num_heads=4,
        hidden_dim=width, mlp_dim=2 * width, num_classes=num_classes,
    )  # fmt: skip
    if in_channels != 3:
        net.conv_proj = nn.Conv2d(in_channels, width, patch, patch)
    # torchvision starts the head at zero, which leaves the first attack step without a gradient.
    nn.init.trunc_normal_(net.get_parameter("heads.head.weight"), std=0.02)
    return net


class Normalized(nn.Module):
    """A network that takes images in [0, 1]: the normalization is part of the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` of images in [0, 1]."""
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits
