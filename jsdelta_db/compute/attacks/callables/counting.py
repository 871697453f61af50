"""Passes: how often images went through a model, forwards and backwards, counted by hooks."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(slots=True)
class Passes:
    """Images that went through a model, added up over its passes.

    Ten steps on eight images are 80 forwards and 80 backwards, in whatever batches.
    """

    forward: int = 0
    backward: int = 0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.backward + other.backward)


class CountedModel(nn.Module):
    """A model as somebody's attack gets it: images in [0, 1] to float32 logits, in eval mode.

    Attributes:
        n_classes: number of logits.
        passes: what went through it so far.
    """

    def __init__(self, network: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.network, self.n_classes, self.passes = network, n_classes, Passes()
        self.register_forward_hook(self._count)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 logits ``(n, classes)``."""
        logits: Tensor = self.network(x).float()
        return logits

    def _count(self, module: nn.Module, given: tuple[Tensor, ...], logits: Tensor) -> None:
        n = len(logits)
        self.passes.forward += n
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self._count_backward(n))  # type: ignore[no-untyped-call]

    def _count_backward(self, n: int) -> None:
        self.passes.backward += n
