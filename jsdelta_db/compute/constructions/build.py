"""The four constructions of Ilyas et al. 2019, "Adversarial Examples Are Not Bugs, They Are Features".

- ``robust`` (D_R) and ``nonrobust`` (D_NR): another image is moved until its penultimate features are
  those of x, by an adversarially trained or a standard model; the label stays y.
- ``rand`` (D_rand) and ``det`` (D_det): x is attacked towards a label, drawn uniformly over all classes
  or y + 1, and gets that label.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks import BALLS, PreparedModel, Steps, build_objective, pgd
from jsdelta_db.compute.constructions.features import penultimate
from jsdelta_db.compute.data import Split
from jsdelta_db.config.construction import FEATURE_KINDS, ConstructionConfig
from jsdelta_db.errors import UsageError
from jsdelta_db.runtime import seeding

STORED = torch.float16  # spacing in [0.5, 1): an eighth of a pixel level
SHARE_OF_EPS = 4.0  # a ball must be at least this many times as wide as the largest rounding error


def choose_partners(split: Split, rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Draw for each image the row of another one to start from, keyed by seed and image alone."""
    draws = [seeding.generator("partner", seed, int(index)).random() for index in split.index[rows]]
    steps = 1 + np.floor(np.array(draws) * (len(split) - 1)).astype(np.int64)
    partners: NDArray[np.int64] = (rows + steps) % len(split)
    return partners


def choose_labels(
    kind: str, split: Split, rows: NDArray[np.int64], classes: int, seed: int
) -> NDArray[np.int64]:
    """Return the label that each image gets, ``(n,)``."""
    labels = split.labels.numpy()[rows]
    if kind in FEATURE_KINDS:
        return np.asarray(labels)
    if kind == "det":
        return np.asarray((labels + 1) % classes)
    draws = [seeding.generator("label", seed, int(index)).random() for index in split.index[rows]]
    drawn: NDArray[np.int64] = np.floor(np.array(draws) * classes).astype(np.int64)
    return drawn


def construct(
    prepared: PreparedModel,
    split: Split,
    rows: NDArray[np.int64],
    classes: int,
    config: ConstructionConfig,
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Return the images and labels of some rows: float16 ``(n, c, h, w)`` in [0, 1] and ``(n,)``.

    Args:
        prepared: the model whose features, or whose mistakes, go into the data set.
        split: the train split that it is made from.
    """
    check_ball(config, int(np.prod(split.images.shape[1:])))
    labels = choose_labels(config.kind, split, rows, classes, config.seed)
    device = prepared.device
    x = split.batch(rows).to(device).contiguous(memory_format=torch.channels_last)
    if config.kind in FEATURE_KINDS:
        partners = split.batch(choose_partners(split, rows, config.seed)).to(device)
        made = match_features(prepared, x, partners.contiguous(memory_format=torch.channels_last), config)
    else:
        target = torch.from_numpy(labels).to(device)
        objective = build_objective("target", prepared.frozen, [], x, target, target)
        made = pgd(
            objective, BALLS["l2"](x, config.eps or 0.0), torch.zeros_like(x),
            Steps(config.steps, config.step_size), capture=prepared.capture,
        )  # fmt: skip
        made = _round_inside(x, made, config.eps or 0.0)
    return made.to(STORED).cpu().contiguous().numpy(), labels


def check_ball(config: ConstructionConfig, values: int) -> None:
    """Check that a ball is wider than the precision that images are stored in.

    Args:
        values: number of pixel values of an image.

    Raises:
        UsageError: ε is too small.
    """
    least = SHARE_OF_EPS * 2.0**-12 * values**0.5  # half a float16 step below 1, in every pixel
    if config.eps is not None and config.eps < least:
        raise UsageError(
            f"--eps {config.eps:g} is less than float16 images can hold: must be a number from {least:.3g}"
        )


def _round_inside(x: Tensor, made: Tensor, eps: float) -> Tensor:
    """Round to the stored precision without leaving the ball; changes that would are shortened first."""
    change = (made - x).double()
    length = change.flatten(1).norm(dim=1).clamp(min=1e-30)
    limit = torch.full_like(length, eps)
    while True:
        share = (limit / length).clamp(max=1.0).view(-1, *[1] * (x.dim() - 1))
        rounded: Tensor = (x + change * share).clamp(0.0, 1.0).to(STORED)
        outside = (rounded.double() - x).flatten(1).norm(dim=1) > eps
        if not bool(outside.any()):
            return rounded
        limit[outside] *= 1.0 - 2.0**-11


def match_features(prepared: PreparedModel, x: Tensor, start: Tensor, config: ConstructionConfig) -> Tensor:
    """Return images moved from ``start`` to the features of ``x``: ‖h(x_r) − h(x)‖₂ is lowered."""
    features = penultimate(prepared.frozen, x[:1])
    with torch.no_grad():
        target_features = features(x)

    def objective(images: Tensor) -> tuple[Tensor, Tensor]:
        distance = (features(images) - target_features).norm(dim=1)
        return distance, distance

    # As wide as [0, 1] itself: there is no ball to stay in.
    everywhere = BALLS["l2"](start, float(start[0].numel()))
    steps = Steps(config.steps, config.step_size)
    return pgd(objective, everywhere, torch.zeros_like(start), steps, capture=prepared.capture)
