"""Cards that are not there: what torch would say of them, for tests on a processor."""

from collections.abc import Mapping

import pytest
import torch

from jsdelta_db.runtime import cards

NO_KERNELS = "CUDA error: no kernel image is available for execution on the device"


def pretend_cards(
    patch: pytest.MonkeyPatch, *names: str, faults: Mapping[int, Exception] | None = None
) -> list[int]:
    """Let torch see cards; return the list to which it adds each one that becomes the current one.

    Args:
        names: of the cards; none for a machine without any.
        faults: what a computation raises, by the card's index; those that are left out compute.
    """
    current: list[int] = []

    def compute_little(device: torch.device) -> None:
        if device.index in (faults or {}):
            raise faults[device.index]

    patch.setattr(torch.cuda, "is_available", lambda: bool(names))
    patch.setattr(torch.cuda, "device_count", lambda: len(names))
    patch.setattr(torch.cuda, "get_device_name", lambda index=0: names[index])
    patch.setattr(torch.cuda, "set_device", current.append)
    patch.setattr(cards, "compute_little", compute_little)
    return current
