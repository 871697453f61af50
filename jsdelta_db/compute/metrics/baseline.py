"""The baseline ρ: the divergence of a model between clean images of two labels.

With many classes there are too many label pairs for all pairs of their images: each label pair gets a keyed
draw, in which every image takes part alike. Its standard error is larger than that of all pairs, so that more
label pairs have no usable baseline.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.metrics.divergence import (
    BLOCK_PAIRS,
    js_by_entropies,
    js_divergence,
    log_mean_probs,
    log_mean_without,
    log_probs,
    mean_js_of_all,
)
from jsdelta_db.compute.metrics.draws import MOST_PAIRS as MOST_DRAWN
from jsdelta_db.compute.metrics.draws import draw_pairs, draws
from jsdelta_db.records import Baselines, ImageMeans, LabelPair
from jsdelta_db.runtime import seeding

MOST_PAIRS = 1_000_000


# Log-probabilities of some images, by their rows: all images' at once are 200 MB a model with 1,000 classes.
LogProbs = Callable[[NDArray[np.int64]], Tensor]


def compare_labels(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    pairs: Iterable[LabelPair],
    temperature: float = 1.0,
) -> dict[LabelPair, ImageMeans]:
    """Compare every image of one label with every image of the other, for each label pair.

    With many classes, at most 100 image pairs of each label pair: a keyed draw.

    Args:
        logits: one model's clean logits on the baseline split ``(n, classes)``.
        labels: the images' labels ``(n,)``; misclassified images count, too.
        pairs: label pairs; one whose label has no image is left out.
        temperature: of the softmax.
    """
    of_model = partial(_log_probs, logits, temperature)
    return _compare(of_model, labels, pairs, is_drawn=draws(logits.shape[1]))


def combine_baselines(
    members: Sequence[Mapping[LabelPair, ImageMeans]],
    member_logits: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    temperatures: Sequence[float] = (),
) -> Baselines:
    """Return the baselines of a set of evaluators, for the label pairs that all members have.

    Args:
        members: each evaluator's image means.
        member_logits: each evaluator's clean logits on the baseline split, for the mean outputs.
        temperatures: one an evaluator, 1 if not given.
    """
    scaled = list(zip(member_logits, temperatures or [1.0] * len(members), strict=True))

    def of_members(rows: NDArray[np.int64]) -> Tensor:
        return torch.stack([_log_probs(logits, t, rows) for logits, t in scaled])

    def of_mean(rows: NDArray[np.int64]) -> Tensor:
        return log_mean_probs(of_members(rows))

    pairs, is_drawn = sorted(set.intersection(*map(set, members))), draws(member_logits[0].shape[1])
    means = _compare(of_mean, labels, pairs, is_drawn=is_drawn)
    left_out = range(len(members) if len(members) > 1 else 0)
    return {
        pair: ImageMeans(
            np.mean([member[pair].low for member in members], axis=0),
            np.mean([member[pair].high for member in members], axis=0),
            members[0][pair].n_drawn,
        ).as_baseline(
            means[pair].rho,
            tuple(_rho_without(of_members, each, labels, pair, is_drawn) for each in left_out),
        )
        for pair in pairs
    }


def _rho_without(
    of_members: LogProbs, left_out: int, labels: NDArray[np.int64], pair: LabelPair, is_drawn: bool
) -> float:
    """Return ρ of the mean outputs of all members but one, over the pairs that ρ of all is a mean over."""

    def of_others(rows: NDArray[np.int64]) -> Tensor:
        return log_mean_without(of_members(rows), left_out)

    low, high = _images_to_compare(labels, pair)
    if is_drawn and len(low) * len(high) > MOST_DRAWN:
        return _means_of_drawn(of_others, low, high).rho
    return mean_js_of_all(of_others(low), of_others(high))


def _log_probs(logits: NDArray[np.float32], temperature: float, rows: NDArray[np.int64]) -> Tensor:
    return log_probs(logits[rows] / np.float32(temperature))


def _compare(
    log_p: LogProbs, labels: NDArray[np.int64], pairs: Iterable[LabelPair], *, is_drawn: bool
) -> dict[LabelPair, ImageMeans]:
    means = {}
    for pair in pairs:
        low, high = _images_to_compare(labels, pair)
        if is_drawn and len(low) * len(high) > MOST_DRAWN:
            means[pair] = _means_of_drawn(log_p, low, high)
        elif len(low) and len(high):
            means[pair] = _image_means(log_p(low), log_p(high))
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


def _means_of_drawn(log_p: LogProbs, low: NDArray[np.int64], high: NDArray[np.int64]) -> ImageMeans:
    """Compare some pairs of the images of two labels.

    An image's mean over the few others that it meets spreads with these, too, which the standard error counts
    once for each label: it is too large rather than too small.
    """
    low, high, (of_low, of_high) = draw_pairs(low, high)
    places = torch.from_numpy(of_low), torch.from_numpy(of_high)
    js = js_by_entropies(log_p(low), log_p(high), places).numpy()
    low_means, high_means = (np.bincount(place, js) / np.bincount(place) for place in (of_low, of_high))
    return ImageMeans(low_means, high_means, n_drawn=len(js))
