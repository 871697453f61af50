"""Training state: all that a stopped training goes on from, saved after each epoch."""

import copy
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """One epoch: means over the train split, and accuracies on the baseline split after it.

    Attributes:
        pgd_accuracy: on the baseline split under a short PGD at the training's own ε; None where it was
            not measured.
    """

    epoch: int
    loss: float
    train_accuracy: float
    baseline_accuracy: float
    learning_rate: float
    pgd_accuracy: float | None = None


class TrainingState:
    """The epochs done, what is needed to go on, and the best weights so far.

    Args:
        content: bytes that an earlier state gave to ``save``; None to start anew.
        save: called with the state's bytes after each epoch.
    """

    def __init__(
        self, content: bytes | None = None, save: Callable[[bytes], object] = lambda content: None
    ) -> None:
        self._save = save
        self._loaded: dict[str, Any] | None = None
        self._best: Weights | None = None
        self._best_accuracy = -1.0
        if content is not None:
            self._loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    @property
    def history(self) -> list[EpochMetrics]:
        """The epochs done before this start."""
        return [EpochMetrics(**values) for values in self._loaded["history"]] if self._loaded else []

    def fits(self, model: nn.Module) -> bool:
        """Return whether the loaded state is of a network of this shape."""
        if self._loaded is None:
            return True
        shapes = [
            [(name, value.shape) for name, value in weights.items()]
            for weights in (self._loaded["model"], model.state_dict())
        ]
        return shapes[0] == shapes[1]

    def restore(self, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> list[EpochMetrics]:
        """Load model, optimizer and schedule, and return the epochs done."""
        if self._loaded is None:
            return []
        model.load_state_dict(self._loaded["model"])
        optimizer.load_state_dict(self._loaded["optimizer"])
        schedule.load_state_dict(self._loaded["schedule"])
        self._best, self._best_accuracy = self._loaded["best"], self._loaded["best_accuracy"]
        return self.history

    def update(
        self, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, history: list[EpochMetrics]
    ) -> None:
        """Save the state after an epoch, and remember the weights if it was the most robust one."""
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

    def load_best(self, model: nn.Module) -> None:
        """Load the best weights into the model, where robustness was measured."""
        if self._best is not None:
            model.load_state_dict(self._best)
