"""Architectures by name: a plain dict, and the user's own through ``module:callable``."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models.inference import evaluating
from jsdelta_db.compute.models.networks import CifarResNet, Normalized, SmallCNN
from jsdelta_db.compute.models.state_dict import show_names
from jsdelta_db.config.consent import look_in_working_folder
from jsdelta_db.config.training import check_architecture
from jsdelta_db.errors import (
    JsdeltaError,
    ModelError,
    ModelOutputError,
    UsageError,
    first_line,
)
from jsdelta_db.runtime.precision import keep_float32

Factory = Callable[..., nn.Module]


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
    """Return the factory of a built-in name or of the user's ``module:callable``.

    Raises:
        UnknownNameError: no such built-in name.
        UsageError: the module or the callable cannot be found.
    """
    module_name, colon, attribute = arch.partition(":")
    if not colon:
        check_architecture(arch)
        return ARCHITECTURES[arch]
    look_in_working_folder()
    with users_code(
        lambda reason: UsageError(
            f"architecture {arch!r} cannot be imported ({reason}); give module:callable"
        )
    ):
        factory = getattr(importlib.import_module(module_name), attribute)
    return check_factory(arch, factory)


def check_factory(arch: str, factory: object) -> Factory:
    """Return what a name stands for if it may build networks.

    Raises:
        UsageError: it is no function or class that is written in Python.
    """
    if not callable(factory):
        raise UsageError(f"architecture {arch!r} is not callable; give module:callable")
    if not _is_written_in_python(factory):  # such as builtins:exit and os:abort
        raise UsageError(
            f"architecture {arch!r} is a {type(factory).__name__}: must be a Python function or class that "
            "returns a torch.nn.Module"
        )
    return factory


def _is_written_in_python(factory: Callable[..., object]) -> bool:
    while isinstance(factory, partial):
        factory = factory.func
    innermost = inspect.unwrap(factory)
    return inspect.isclass(innermost) or inspect.isfunction(innermost) or inspect.ismethod(innermost)


@contextmanager
def users_code(make_error: Callable[[str], JsdeltaError]) -> Iterator[None]:
    """Run code of the user's: whatever it raises becomes an error of ours, also what would end the program.

    What is an error of ours already stays as it is. Switches of torch's that it turned are turned back.

    Args:
        make_error: makes it of the reason.
    """
    try:
        yield
    except (KeyboardInterrupt, JsdeltaError):
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, SystemExit) else first_line(error)
        raise make_error(reason) from error
    finally:
        keep_float32()


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
        raise ModelError(
            f"architecture {arch!r} returned {type(network).__name__}: must be a torch.nn.Module"
        )
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
