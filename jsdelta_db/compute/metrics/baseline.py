"""The baseline ρ: the divergence of a model between clean images of two labels."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.metrics.divergence import js_divergence, log_mean_probs, log_probs
from jsdelta_db.records import Baselines, ImageMeans, LabelPair
from jsdelta_db.runtime import seeding

MOST_PAIRS = 1_000_000
BLOCK_PAIRS = 20_000  # pairs compared at once: a few megabytes, which stay in the cache


def compare_labels(
    logits: NDArray[np.float32], labels: NDArray[np.int64], pairs: Iterable[LabelPair]
) -> dict[LabelPair, ImageMeans]:
    """Compare every image of one label with every image of the other, for each label pair.

    Args:
        logits: one model's clean logits on the baseline split ``(n, classes)``.
        labels: the images' labels ``(n,)``; misclassified images count, too.
        pairs: label pairs; one whose label has no image is left out.
    """
    return _compare(log_probs(logits), labels, pairs)


def combine_baselines(
    members: Sequence[Mapping[LabelPair, ImageMeans]],
    member_logits: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
) -> Baselines:
    """Return the baselines of a set of evaluators, for the label pairs that all members have.

    Args:
        members: each evaluator's image means.
        member_logits: each evaluator's clean logits on the baseline split, for the mean outputs.
    """
    pairs = sorted(set.intersection(*(set(member) for member in members)))
    of_mean = _compare(
        log_mean_probs(torch.stack([log_probs(part) for part in member_logits])), labels, pairs
    )
    return {
        pair: ImageMeans(
            np.mean([member[pair].low for member in members], axis=0),
            np.mean([member[pair].high for member in members], axis=0),
        ).as_baseline(of_mean[pair].rho)
        for pair in pairs
    }


def _compare(
    log_p: Tensor, labels: NDArray[np.int64], pairs: Iterable[LabelPair]
) -> dict[LabelPair, ImageMeans]:
    means = {}
    for pair in pairs:
        low, high = _images_to_compare(labels, pair)
        if len(low) and len(high):
            means[pair] = _image_means(log_p[low], log_p[high])
    return means


def _images_to_compare(
    labels: NDArray[np.int64], pair: LabelPair
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the images of both labels, or a keyed draw of them if their pairs are too many."""
    low, high = (np.flatnonzero(labels == label) for label in pair)
    if len(low) * len(high) > MOST_PAIRS:
        most = int(MOST_PAIRS**0.5)
        low, high = (np.sort(seeding.order(images, "baseline")[:most]) for images in (low, high))
    return low, high


def _image_means(low: Tensor, high: Tensor) -> ImageMeans:
    block = max(1, BLOCK_PAIRS // len(high))
    low_means, high_sums = [], torch.zeros(len(high), dtype=torch.float64)
    for start in range(0, len(low), block):
        js = js_divergence(low[start : start + block, None, :], high[None, :, :])
        low_means.append(js.mean(1))
        high_sums += js.sum(0)
    return ImageMeans(torch.cat(low_means).numpy(), (high_sums / len(low)).numpy())
