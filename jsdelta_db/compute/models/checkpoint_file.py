"""Checkpoint files of training scripts: read without running code from them, and fitted to a network."""

import argparse
import io
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from torch import nn

from jsdelta_db.compute.models.state_dict import (
    FoundState,
    describe_fit,
    describe_misfit,
    find_states,
    fit_state,
    show_names,
)
from jsdelta_db.errors import CheckpointError, UsageError, first_line

# What scripts save beside the weights: their arguments, and NumPy's numbers. Made again, they run nothing.
_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS: list[Any] = [
    argparse.Namespace, PosixPath, np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]  # fmt: skip
SAVE = "save model.state_dict() with torch.save"


def load_weights(network: nn.Module, path: Path) -> list[str]:
    """Load the weights of a training script's file into a network, wherever they were saved.

    Accepts what :func:`torch.save` and safetensors write: a bare state dict, one inside a larger file, and
    names that wrappers have prefixed.

    Returns:
        Lines that say what was taken and what was stripped; none where nothing was.

    Raises:
        CheckpointError: the file cannot be read, holds more than tensors, or does not fit.
        UsageError: it is a safetensors file, and that package is not installed.
    """
    content = _read(path)
    states = find_states(content)
    if not states:
        held = show_names(content) if isinstance(content, Mapping) and content else type(content).__name__
        raise CheckpointError(f"--checkpoint {path} holds no state dict but {held}; {SAVE}")
    fitting = [(found, fitted) for found in states if (fitted := fit_state(found.state, network))]
    if not fitting:
        raise CheckpointError(
            f"--checkpoint {path} does not fit the factory's network: "
            f"{describe_misfit(states[0].state, network)}"
        )
    network.load_state_dict(fitting[0][1])
    return _describe(path, network, [found for found, _ in fitting])


def _describe(path: Path, network: nn.Module, fitting: list[FoundState]) -> list[str]:
    taken, *others = fitting
    parts = [f"the weights are those under {taken.title}"] if taken.place else []
    stripped = describe_fit(taken.state, network)
    parts += [stripped] if stripped else []
    parts += [f"not taken, though they fit: {show_names(each.title for each in others)}"] if others else []
    return [f"--checkpoint {path}: {'; '.join(parts)}"] if parts else []


def _read(path: Path) -> object:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"--checkpoint {path} cannot be read ({error.strerror}); give another file"
        ) from error
    if content[8:9] == b"{":  # behind the length of the header, which is JSON
        return _read_safetensors(path, content)
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own message advises to run what is inside
        raise CheckpointError(f"--checkpoint {path} does not hold plain weights; {SAVE}") from error


def _read_safetensors(path: Path, content: bytes) -> object:
    try:
        from safetensors.torch import load
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--checkpoint {path} is a safetensors file, and the package that reads it is not installed: "
            "pip install 'jsdelta[safetensors]'"
        ) from error
    try:
        return load(content)
    except Exception as error:
        raise CheckpointError(
            f"--checkpoint {path} is no whole safetensors file ({first_line(error)}); give another file"
        ) from error
