"""How far a training has come: kept after each epoch, so that one that is stopped goes on from there."""

import copy
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """One epoch: means over the train split, and what the baseline split says after it.

    Attributes:
        pgd_accuracy: of the baseline split under a short PGD at the training's own ε; None where nobody
            looked.
    """

    epoch: int
    loss: float
    train_accuracy: float
    baseline_accuracy: float
    learning_rate: float
    pgd_accuracy: float | None = None


class Progress:
    """The epochs done, what is needed to go on, and the best weights so far.

    Args:
        content: what :meth:`keep` handed out before; None to start anew.
        save: takes the content after each epoch.
    """

    def __init__(
        self, content: bytes | None = None, save: Callable[[bytes], object] = lambda content: None
    ) -> None:
        self._save = save
        self._kept: dict[str, Any] | None = None
        self._best: State | None = None
        self._best_accuracy = -1.0
        if content is not None:
            self._kept = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    @property
    def history(self) -> list[EpochMetrics]:
        """The epochs done before this start."""
        return [EpochMetrics(**values) for values in self._kept["history"]] if self._kept else []

    def fits(self, model: nn.Module) -> bool:
        """Whether what is kept is of a network of this shape."""
        if self._kept is None:
            return True
        shapes = [
            [(name, value.shape) for name, value in state.items()]
            for state in (self._kept["model"], model.state_dict())
        ]
        return shapes[0] == shapes[1]

    def restore(self, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> list[EpochMetrics]:
        """Put model, optimizer and schedule where they were, and return the epochs done."""
        if self._kept is None:
            return []
        model.load_state_dict(self._kept["model"])
        optimizer.load_state_dict(self._kept["optimizer"])
        schedule.load_state_dict(self._kept["schedule"])
        self._best, self._best_accuracy = self._kept["best"], self._kept["best_accuracy"]
        return self.history

    def keep(
        self, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, history: list[EpochMetrics]
    ) -> None:
        """Keep the state after an epoch."""
        robust = history[-1].pgd_accuracy
        if robust is not None and robust > self._best_accuracy:
            self._best, self._best_accuracy = copy.deepcopy(model.state_dict()), robust
        buffer = io.BytesIO()
        torch.save(
            {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(), "history": [asdict(epoch) for epoch in history],
                "best": self._best, "best_accuracy": self._best_accuracy,
            },
            buffer,
        )  # fmt: skip
        self._save(buffer.getvalue())

    def take_best(self, model: nn.Module) -> None:
        """Give the model the best weights, where there was something to judge by."""
        if self._best is not None:
            model.load_state_dict(self._best)
