"""Targets: which images are attacked, and towards which labels."""

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.data import Split
from jsdelta_db.config.attack import TARGET_RULES
from jsdelta_db.config.labels import parse_label
from jsdelta_db.records import UNTARGETED, Attempts
from jsdelta_db.runtime import seeding


def choose_images(split: Split, images: int | None) -> NDArray[np.int64]:
    """Return rows of a split: all, or a fixed random subset that larger ones contain."""
    rows = np.arange(len(split), dtype=np.int64)
    if images is None or images >= len(split):
        return rows
    chosen = seeding.order(split.index, "images")[:images]
    return np.sort(split.rows_of(chosen))


def choose_attempts(
    rule: str,
    sample_index: NDArray[np.int64],
    source_label: NDArray[np.int64],
    classes: tuple[str, ...],
    seed: int,
    clean_logits: NDArray[np.float32] | None = None,
) -> Attempts:
    """Aim each image at labels other than its own.

    An image's random target depends on the seed and the image alone.

    Args:
        rule: ``random`` (one uniform wrong label), ``all`` (every wrong label), ``next`` (y + 1),
            ``least-likely`` (the wrong label of the lowest logit), ``untargeted``
            (any wrong label) or one label, by name or number (images of that label are left out).
        clean_logits: the attacked model's on these images ``(n, classes)``; ``least-likely`` needs them.

    Raises:
        UnknownNameError: not a rule and not a label.
    """
    n_classes = len(classes)
    if rule == "all":
        steps = np.tile(np.arange(1, n_classes), len(sample_index))
        index, source = np.repeat(sample_index, n_classes - 1), np.repeat(source_label, n_classes - 1)
        return Attempts(index, source, (source + steps) % n_classes)
    if rule == "next":
        return Attempts(sample_index, source_label, (source_label + 1) % n_classes)
    if rule == "untargeted":
        return Attempts(sample_index, source_label, np.full(len(sample_index), UNTARGETED))
    if rule == "least-likely":
        assert clean_logits is not None
        others = clean_logits.copy()
        others[np.arange(len(others)), source_label] = np.inf
        return Attempts(sample_index, source_label, others.argmin(1))
    if rule == "random":
        draws = [seeding.generator("target", seed, int(index)).random() for index in sample_index]
        steps = 1 + np.floor(np.array(draws) * (n_classes - 1)).astype(np.int64)
        return Attempts(sample_index, source_label, (source_label + steps) % n_classes)
    target = parse_label("--targets", rule, classes, TARGET_RULES)
    other = source_label != target
    return Attempts(sample_index[other], source_label[other], np.full(int(other.sum()), target))
