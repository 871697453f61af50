"""Catastrophic overfitting, told from the accuracies after each epoch."""

from collections.abc import Sequence

from jsdelta_db.compute.training.resume import EpochMetrics


class OverfittingWatch:
    """Tells catastrophic overfitting: the accuracy under PGD falls below half of its best, from one epoch on.

    Source: Wong et al. 2020, "Fast is better than free", section 5.

    Args:
        history: the epochs that were looked at before.
    """

    def __init__(self, history: Sequence[EpochMetrics] = ()) -> None:
        self._best: EpochMetrics | None = None
        self._told = False
        for metrics in history:
            self.look(metrics)

    def look(self, metrics: EpochMetrics) -> str | None:
        """Return what to say about an epoch; None if there is nothing, or it was said before."""
        robust = metrics.pgd_accuracy
        if robust is None:
            return None
        best = self._best
        if best is None or best.pgd_accuracy is None or robust > best.pgd_accuracy:
            self._best = metrics
            return None
        if self._told or robust >= best.pgd_accuracy / 2:
            return None
        self._told = True
        return (
            f"epoch {metrics.epoch}: accuracy under PGD fell from {best.pgd_accuracy:.1%} to {robust:.1%}, "
            f"catastrophic overfitting; the weights of the best epoch (so far {best.epoch}) are kept"
        )
