"""Architectures by name: a plain dict, and the user's own as named code."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models.inference import evaluating
from jsdelta_db.compute.models.named_code import load_factory, users_code
from jsdelta_db.compute.models.networks import CifarResNet, Normalized, SmallCNN
from jsdelta_db.compute.models.state_dict import show_names
from jsdelta_db.config.training import check_architecture
from jsdelta_db.errors import ModelError, ModelOutputError

Factory = Callable[..., nn.Module]
A_MODULE = "a torch.nn.Module"


def _cifar_resnet(
    blocks: int, num_classes: int, in_channels: int, image_size: int, width: int = 16
) -> nn.Module:
    del image_size  # global pooling: any size fits
    return CifarResNet(blocks, num_classes, in_channels, width)


def _image_resnet(
    depth: int, num_classes: int, in_channels: int, image_size: int, width: int = 64
) -> nn.Module:
    from jsdelta_db.compute.models.torchvision_networks import small_image_resnet

    del image_size
    return small_image_resnet(depth, num_classes, in_channels, width)


def _vit(num_classes: int, in_channels: int, image_size: int, width: int = 128) -> nn.Module:
    from jsdelta_db.compute.models.torchvision_networks import small_vit

    return small_vit(num_classes, in_channels, image_size, width)


# name -> factory(num_classes, in_channels, image_size[, width]), a network for normalized images
ARCHITECTURES: dict[str, Factory] = {
    "cnn-small": SmallCNN,
    "resnet8": partial(_cifar_resnet, 1),
    "resnet20": partial(_cifar_resnet, 3),
    "resnet18": partial(_image_resnet, 18),
    "resnet50": partial(_image_resnet, 50),
    "vit-small": _vit,
}


def find_factory(arch: str) -> Factory:
    """Return the factory of a built-in name or of the user's own.

    Raises:
        UnknownNameError: no such built-in name.
        UsageError: the module, the file or the callable cannot be found.
    """
    if ":" in arch:
        return load_factory(arch, "architecture", A_MODULE)
    check_architecture(arch)
    return ARCHITECTURES[arch]


def build_model(arch: str, dataset: Dataset, *, width: int | None = None, seed: int = 0) -> nn.Module:
    """Build a network for a data set, its weights drawn from ``seed``; it takes images in [0, 1].

    Raises:
        UnknownNameError, UsageError: see :func:`find_factory`.
        ModelError: the factory failed.
        ModelOutputError: the network does not return finite logits ``(n, classes)``.
    """
    factory = find_factory(arch)
    channels, height, _ = dataset.image_shape
    options = {} if width is None else {"width": width}
    with torch.random.fork_rng(devices=[]):  # initializers draw from the global generator
        torch.manual_seed(seed)
        with users_code(lambda reason: ModelError(f"architecture {arch!r} could not be built: {reason}")):
            network = factory(
                num_classes=len(dataset.classes), in_channels=channels, image_size=height, **options
            )
    if not isinstance(network, nn.Module):
        raise ModelError(f"architecture {arch!r} returned {type(network).__name__}: must be {A_MODULE}")
    model = Normalized(network, dataset.mean, dataset.std)
    check_outputs(model, dataset, arch)
    return model


@torch.no_grad()
def check_outputs(model: nn.Module, dataset: Dataset, name: str) -> None:
    """Check that a network's outputs on two images are finite logits ``(2, classes)``.

    Raises:
        ModelOutputError: they are not; says what they are.
    """
    device = next(model.parameters(), torch.empty(0)).device
    refuse = f"model {name!r} cannot take images of {dataset.image_shape}: "
    with users_code(lambda reason: ModelOutputError(refuse + reason)), evaluating(model):
        logits = model(dataset.splits["baseline"].batch(slice(0, 2)).to(device))
    expected = (2, len(dataset.classes))
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != expected:
        raise ModelOutputError(
            f"model {name!r} returns {_describe_outputs(logits)} for two images; "
            f"{dataset.name!r} has {expected[1]} classes, must be {expected}"
        )
    if not torch.isfinite(logits).all():
        raise ModelOutputError(f"model {name!r} returns values that are not finite; check its weights")


def _describe_outputs(outputs: object) -> str:
    if isinstance(outputs, torch.Tensor):
        return str(tuple(outputs.shape))
    named = f" of {show_names(outputs)}" if isinstance(outputs, Mapping) and outputs else ""
    return f"{type(outputs).__name__}{named}"
