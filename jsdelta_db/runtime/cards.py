"""Cards: CUDA devices by index, whether one computes, and how rows name it.

A card that torch sees need not be one that it can use: the installed torch may have no kernels for it, or
others may have filled its memory. One small computation says which.
"""

import torch
from torch.nn import functional as F

from jsdelta_db.errors import first_line

SIDE = 8  # of the probe's matrices


def list_cards() -> range:
    """Return the indices of the cards that torch sees."""
    return range(torch.cuda.device_count() if torch.cuda.is_available() else 0)


def describe_card(index: int) -> str:
    """Return a card as rows name it, such as ``cuda:0 NVIDIA H200``; its place alone if no driver answers."""
    try:
        return f"cuda:{index} {torch.cuda.get_device_name(index)}"
    except (RuntimeError, AssertionError):
        return f"cuda:{index}"


def card_of(device: torch.device) -> str | None:
    """Return a device's card as rows name it; None for a processor."""
    return describe_card(device.index or 0) if device.type == "cuda" else None


def is_same_model(one: str | None, other: str | None) -> bool:
    """Tell whether two cards, as rows name them, are of one model, whatever their places."""
    return None not in (one, other) and str(one).partition(" ")[2] == str(other).partition(" ")[2]


def find_fault(index: int) -> str | None:
    """Return why a card cannot be used; None if it can. Nothing is remembered: a full card empties."""
    try:
        compute_little(torch.device("cuda", index))
    except torch.OutOfMemoryError:
        return "its memory is full"
    except (RuntimeError, AssertionError) as error:  # no kernels, no driver, or a card that has failed
        return first_line(error)
    return None


def compute_little(device: torch.device) -> None:
    """Multiply two matrices and convolve one with the other, and wait for the results.

    Raises:
        RuntimeError: the device cannot, or computes something else.
    """
    ones = torch.ones(SIDE, SIDE, device=device)
    product, convolved = ones @ ones, F.conv2d(ones[None, None], ones[None, None])
    if float(product.sum()) != SIDE**3 or float(convolved.sum()) != SIDE**2:
        raise RuntimeError("it computes wrong numbers")
