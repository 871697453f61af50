"""External models: built by the user's factory, with their own normalization and weights."""

import inspect
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models.networks import Normalized
from jsdelta_db.compute.models.state_dict import describe_misfit, find_states, fit_state, show_names
from jsdelta_db.compute.models.zoo import check_outputs, find_factory, users_code
from jsdelta_db.errors import CheckpointError, ModelError, UsageError


@dataclass(frozen=True, slots=True)
class ExternalModel:
    """The recipe of a network that was trained elsewhere.

    Attributes:
        factory: ``module:callable``, or a built-in architecture.
        mean, std: of the normalization before the network, per channel (or one for all), in [0, 1]; 0 and 1
            for a network that takes images in [0, 1] as they are.
    """

    factory: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def as_recipe(self) -> dict[str, Any]:
        """Return the recipe as a model's row stores it."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


def build_external(recipe: Mapping[str, Any], dataset: Dataset) -> nn.Module:
    """Build a network from a row's recipe, without its weights; it takes images in [0, 1].

    Raises:
        UsageError: the factory cannot be found.
        ModelError: it failed, or its outputs are not logits of the data set's classes.
    """
    factory = find_factory(recipe["factory"])
    channels, height, _ = dataset.image_shape
    offered = {"num_classes": len(dataset.classes), "in_channels": channels, "image_size": height}
    refuse = f"--factory {recipe['factory']!r} could not build the model: "
    with users_code(lambda reason: ModelError(refuse + reason)):
        network = factory(**_accepted(factory, offered))
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"--factory {recipe['factory']!r} returned {type(network).__name__}: must be a torch.nn.Module"
        )
    model = Normalized(network, *(_per_channel(recipe[key], channels, key) for key in ("mean", "std")))
    check_outputs(model, dataset, recipe["factory"])
    return model


def load_external(model: nn.Module, path: Path) -> nn.Module:
    """Load the weights of a training script's file; runs no code from it.

    Accepts a bare state dict, one inside a larger file, and names that wrappers have prefixed.

    Raises:
        CheckpointError: the file cannot be read, holds more than tensors, or does not fit.
    """
    try:
        content = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(
            f"--checkpoint {path} cannot be read ({error.strerror}); give another file"
        ) from error
    except Exception as error:  # torch's own message advises to run what is inside
        raise CheckpointError(
            f"--checkpoint {path} does not hold plain weights; save model.state_dict() with torch.save"
        ) from error
    network = model.get_submodule("network")
    states = find_states(content)
    if not states:
        held = show_names(content) if isinstance(content, Mapping) and content else type(content).__name__
        raise CheckpointError(
            f"--checkpoint {path} holds no state dict but {held}; save model.state_dict() with torch.save"
        )
    fitted = next((each for each in (fit_state(state, network) for state in states) if each), None)
    if fitted is None:
        raise CheckpointError(
            f"--checkpoint {path} does not fit the factory's network: {describe_misfit(states[0], network)}"
        )
    network.load_state_dict(fitted)
    return model.eval()


def _accepted(factory: object, offered: Mapping[str, int]) -> dict[str, int]:
    """Return the arguments that a factory takes; all of them if its signature is unknown."""
    try:
        parameters = inspect.signature(factory).parameters  # type: ignore[arg-type] # a callable, checked
    except (TypeError, ValueError):
        return dict(offered)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in parameters}


def _per_channel(values: Sequence[float], channels: int, name: str) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        valid = "1" if channels == 1 else f"1 or {channels}, one a channel"
        raise UsageError(f"--{name} has {len(values)} values: must be {valid}")
    return tuple(values) * (channels if len(values) == 1 else 1)
