"""torchvision's networks for small images; in a module of their own, since the import takes a second."""

from torch import nn
from torchvision import models as torchvision_models


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
