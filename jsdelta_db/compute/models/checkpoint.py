"""Checkpoints: plain tensors, verified by sha256, loaded without running code from the file."""

import io
from pathlib import Path

import torch
from torch import nn

from jsdelta_db.errors import CheckpointError, first_line
from jsdelta_db.runtime.files import TRAIN_OTHERS, read_verified, write_atomically


def serialize(model: nn.Module) -> bytes:
    """Return a model's state as a checkpoint holds it; equal weights give equal bytes."""
    buffer = io.BytesIO()
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    torch.save(state, buffer)
    return buffer.getvalue()


def save_checkpoint(model: nn.Module, path: Path) -> str:
    """Save a model's state, and return the file's sha256."""
    return write_atomically(path, serialize(model))


def load_checkpoint(model: nn.Module, path: Path, sha256: str) -> nn.Module:
    """Load a checkpoint into a freshly built model, in eval mode.

    Raises:
        CheckpointError: the file is missing, cut short or altered, or does not fit the model.
    """
    content = read_verified(path, sha256, TRAIN_OTHERS)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own message advises to run what is inside
        raise CheckpointError(f"checkpoint {path} does not hold plain weights; {TRAIN_OTHERS}") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {path} does not fit the architecture ({first_line(error)}); {TRAIN_OTHERS}"
        ) from error
    return model.eval()
