"""Images of a train split as a training takes them: kept on the device, or streamed to it batch by batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from jsdelta_db.compute.data import Split
from jsdelta_db.runtime.memory import free_bytes

KEPT_SHARE = 0.5  # of a card's free memory, at most: the network and its batches need the rest


class TrainImages(Protocol):
    """Where a training's batches come from; both give the same, to the last bit."""

    def place(self, order: Tensor) -> Tensor:
        """Return an epoch's order of the rows, int64, where batches are picked by it."""

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images as they are stored and their labels, on the device.

        Args:
            rows: some of a placed order.
        """


@dataclass(frozen=True, slots=True)
class Kept:
    """All images on the device."""

    images: Tensor
    labels: Tensor

    def place(self, order: Tensor) -> Tensor:
        """Return it on the device: one copy an epoch, not one a batch."""
        return order.to(self.images.device)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch."""
        return self.images[rows], self.labels[rows]


@dataclass(frozen=True, slots=True)
class Streamed:
    """Images where they are, mapped or in main memory; a batch goes to the card while it computes."""

    split: Split
    device: torch.device

    def place(self, order: Tensor) -> Tensor:
        """Return it as it is, in main memory."""
        return order

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch; it is still on its way, and the card's work waits for it in its own order."""
        return send(self.split.images[rows], self.device), send(self.split.labels[rows], self.device)


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy from the CPU without waiting for what the device still has to do."""
    if device.type == "cuda":
        values = values.pin_memory()  # from other memory a copy waits
    return values.to(device, non_blocking=True)


def place_images(split: Split, device: torch.device, tell: Callable[[str], None]) -> TrainImages:
    """Keep a split's images on the device where they fit, else stream them; say which on a card.

    On a CPU they stay where they are: mapped pages are the system's to keep or to drop.
    """
    if device.type != "cuda":
        return Kept(split.images, split.labels)
    size, free = split.images.nbytes, free_bytes(device)
    shown = f"{len(split):,} train images, {size / 2**20:,.0f} MiB"
    if size <= KEPT_SHARE * free:
        tell(f"{shown}: kept on {device}")
        return Kept(split.images.to(device), split.labels.to(device))
    tell(f"{shown}: streamed to {device} in batches, as {free / 2**20:,.0f} MiB are free there")
    return Streamed(split, device)
