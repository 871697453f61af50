"""Softmax temperatures: one per model, so that soft and sharp models can be compared."""

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.metrics.divergence import log_probs
from jsdelta_db.compute.metrics.draws import draw_images

LOWEST, HIGHEST = 0.05, 20.0  # beyond these a model's outputs are broken, not badly calibrated


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the T of the highest likelihood of softmax(logits / T).

    Args:
        logits: a model's clean logits on the baseline split ``(n, classes)``.
        labels: the images' labels ``(n,)``.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """
    from scipy.optimize import minimize_scalar

    drawn = draw_images(*logits.shape)  # with many classes
    logits, labels = logits[drawn], labels[drawn]
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = (logits / np.exp(log_temperature)).astype(np.float32)
        return -float(log_probs(scaled).numpy()[rows, labels].mean())

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded")
    return float(np.exp(found.x))
