"""Catastrophic overfitting, detected from the accuracies after each epoch."""

from collections.abc import Sequence

from jsdelta_db.compute.training.resume import EpochMetrics


class OverfittingWatch:
    """Detects that the accuracy under PGD falls below half of its best, from one epoch on.

    Source: Wong et al. 2020, "Fast is better than free", section 5.

    Args:
        history: the epochs of this training that were checked before.
    """

    def __init__(self, history: Sequence[EpochMetrics] = ()) -> None:
        self._best: EpochMetrics | None = None
        self._has_warned = False
        for metrics in history:
            self.check(metrics)

    def check(self, metrics: EpochMetrics) -> str | None:
        """Return a warning about an epoch; None if there is none, or it was given before."""
        robust = metrics.pgd_accuracy
        if robust is None:
            return None
        best = self._best
        if best is None or best.pgd_accuracy is None or robust > best.pgd_accuracy:
            self._best = metrics
            return None
        if self._has_warned or robust >= best.pgd_accuracy / 2:
            return None
        self._has_warned = True
        return (
            f"epoch {metrics.epoch}: accuracy under PGD fell from {best.pgd_accuracy:.1%} to {robust:.1%}, "
            f"catastrophic overfitting; the weights of the best epoch (so far {best.epoch}) are kept"
        )
