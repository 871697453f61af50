"""External models: built by the user's factory, with their own preprocessing, outputs and weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models.equivalence import find_difference, observe, probe_images
from jsdelta_db.compute.models.factories import build_network
from jsdelta_db.compute.models.inference import evaluating
from jsdelta_db.compute.models.networks import Normalized
from jsdelta_db.compute.models.state_dict import describe_misfit, fit_state
from jsdelta_db.compute.models.zoo import check_outputs
from jsdelta_db.config.checks import OUTPUTS
from jsdelta_db.errors import ModelError, ModelOutputError, UsageError

LOGITS, PROBS, LOG_PROBS = OUTPUTS
SUM_TOLERANCE = 1e-3  # of probabilities, whose sum is 1
LOOKING = {
    LOGITS: "values whose rows do not add up to 1",
    PROBS: "probabilities (rows add up to 1.0000)",
    LOG_PROBS: "log-probabilities (exp of their rows adds up to 1.0000)",
}


@dataclass(frozen=True, slots=True)
class ExternalModel:
    """The recipe of a network that was trained elsewhere.

    Attributes:
        factory: see :mod:`jsdelta_db.compute.models.factories`.
        mean, std: of the normalization before the network, per channel (or one for all), in [0, 1]; 0 and 1
            for a network that takes images in [0, 1] as they are.
        arguments: of the factory.
        outputs: what the network returns: ``logits``, ``probs`` or ``log-probs``.
        resize: height and width that images get before the normalization; None for the data set's own.
        source_sha256: of the factory's file; None for a factory that is a module's.
    """

    factory: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    outputs: str = LOGITS
    resize: int | None = None
    source_sha256: str | None = None

    def as_recipe(self) -> dict[str, Any]:
        """Return the recipe as a model's row stores it, without what version 0.1 did not know.

        What is left at its default leaves the hash of the model as it was.
        """
        values = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
        unset: dict[str, Any] = {"arguments": {}, "outputs": LOGITS, "resize": None, "source_sha256": None}
        return {key: value for key, value in values.items() if key not in unset or value != unset[key]}


class Adapted(Normalized):
    """A network of somebody's that takes images in [0, 1] of the data set's size and returns logits.

    Attributes:
        outputs: see :class:`ExternalModel`.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        outputs: str,
        resize: nn.Module | None,
    ) -> None:
        super().__init__(network, mean, std)
        self.outputs = outputs
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` of images in [0, 1], in any memory order."""
        scores = self.forward_network(x)
        if self.outputs == PROBS:
            return scores.clamp(min=torch.finfo(torch.float32).tiny).log()
        return scores  # log-probabilities are logits as well: their softmax is the same

    def forward_network(self, x: Tensor) -> Tensor:
        """Return what the network itself says, ``(n, classes)``."""
        if self.resize is not None:
            x = self.resize(x)
        scores: Tensor = find_scores(super().forward(x))
        return scores


class Resize(nn.Module):
    """Bilinear interpolation to another size, with antialiasing where the image gets smaller.

    That is how torchvision and PIL resize the images that networks are trained on. It is linear in the rows
    and in the columns: as two products of matrices its gradient is exact, and the same at every call, which
    CUDA's own interpolation does not promise.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, size: int) -> None:
        super().__init__()
        self.register_buffer("rows", _interpolation(height, size), persistent=False)
        self.register_buffer("columns", _interpolation(width, size).T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return images ``(n, c, size, size)``."""
        return self.rows @ x @ self.columns


def _interpolation(length: int, size: int) -> Tensor:
    """Return the matrix ``(size, length)`` that interpolates a line of pixels."""
    lines = torch.eye(length)[None, None]
    return F.interpolate(lines, (size, length), mode="bilinear", antialias=True)[0, 0]


def find_scores(outputs: Any) -> Any:  # noqa: ANN401 whatever a forward() returns
    """Return the tensor among a network's outputs: the first of a tuple, or what is called ``logits``.

    What has none is returned as it is, for :func:`jsdelta_db.compute.models.zoo.check_outputs` to name.
    """
    if isinstance(outputs, Tensor | fx.Proxy):  # the latter stands for a tensor while torch.fx looks
        return outputs
    if isinstance(outputs, Mapping):
        return outputs.get("logits", outputs)
    if hasattr(outputs, "logits"):
        return outputs.logits
    return outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs


def build_external(recipe: Mapping[str, Any], dataset: Dataset, *, brings_weights: bool = False) -> Adapted:
    """Build a network from a row's recipe; it takes images in [0, 1].

    Args:
        brings_weights: whether pretrained weights are loaded that the recipe's arguments name. A model that
            was added has them in its checkpoint.

    Raises:
        UsageError: the factory cannot be found.
        ModelError: it failed, or its outputs are not logits of the data set's classes.
    """
    name, size = recipe["factory"], recipe.get("resize")
    channels, height, width = dataset.image_shape
    offered = {"num_classes": len(dataset.classes), "in_channels": channels, "image_size": size or height}
    network = build_network(recipe, offered, brings_weights=brings_weights)
    if not isinstance(network, nn.Module):
        raise ModelError(f"--factory {name!r} returned {type(network).__name__}: must be a torch.nn.Module")
    mean, std = (per_channel(recipe[key], channels, key) for key in ("mean", "std"))
    resize = Resize(height, width, size) if size else None
    model = Adapted(network, mean, std, recipe.get("outputs", LOGITS), resize)
    check_outputs(model, dataset, name)
    return model.eval()


def build_with_own_weights(recipe: Mapping[str, Any], dataset: Dataset, seed: int) -> Adapted:
    """Build a network with the weights that its factory gives it.

    Args:
        seed: of weights that are drawn at random.

    Raises:
        UsageError, ModelError: see :func:`build_external`.
        ModelError: built again without these weights, it is another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_external(recipe, dataset, brings_weights=True)
        again = build_external(recipe, dataset)
    refuse = f"--factory {recipe['factory']!r} builds another network when its weights are in a checkpoint"
    fitted = fit_state(model.state_dict(), again)
    if fitted is None:
        raise ModelError(f"{refuse}: {describe_misfit(model.state_dict(), again)}")
    again.load_state_dict(fitted)
    images = probe_images(dataset.splits["baseline"], torch.device("cpu"))
    difference = find_difference(observe(model, images.contiguous()), again, images.contiguous())
    if difference is not None:
        raise ModelError(f"{refuse}: {difference}; name by --set what the weights came with")
    return again.eval()


@torch.no_grad()
def check_declared_outputs(model: Adapted, x: Tensor, name: str) -> str | None:
    """Check that a network's outputs look like what they are declared to be.

    Args:
        x: a few images on the model's device, ``(n, c, h, w)`` in [0, 1].

    Returns:
        A line about log-probabilities that are taken as logits, which is harmless; else None.

    Raises:
        ModelOutputError: they do not; names the option.
    """
    with evaluating(model):
        scores = model.forward_network(x).float()
    looks = _look_at(scores)
    if looks == model.outputs:
        return None
    if model.outputs != LOGITS:
        raise ModelOutputError(
            f"--outputs {model.outputs} is not what model {name} returns: {LOOKING[looks]}; "
            f"must be --outputs {looks}"
        )
    if looks == PROBS:
        raise ModelOutputError(
            f"model {name} returns {LOOKING[PROBS]}: add --outputs probs, or leave the softmax out"
        )
    return f"model {name} returns {LOOKING[LOG_PROBS]}: taken as logits, which --outputs log-probs says, too"


def _look_at(scores: Tensor) -> str:
    """Return which of :data:`OUTPUTS` some look like."""
    if bool((scores >= 0).all()) and _add_up(scores.sum(1)):
        return PROBS
    return LOG_PROBS if bool((scores <= 0).all()) and _add_up(scores.exp().sum(1)) else LOGITS


def _add_up(sums: Tensor) -> bool:
    return bool((sums - 1.0).abs().max() < SUM_TOLERANCE)


def per_channel(values: Sequence[float], channels: int, name: str) -> tuple[float, ...]:
    """Return a value for each channel, of one for each or one for all.

    Args:
        name: of the option, for the message.

    Raises:
        UsageError: another number of values.
    """
    if len(values) not in (1, channels):
        valid = "1" if channels == 1 else f"1 or {channels}, one a channel"
        raise UsageError(f"--{name} has {len(values)} values: must be {valid}")
    return tuple(values) * (channels if len(values) == 1 else 1)
