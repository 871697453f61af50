"""The division of a source into the splits train, baseline and attack, by what its images are.

An image goes by the rank of its pixels' sha256 within its class, so that neither the order of a source nor
its form matters: arrays, files and code with the same images give the same splits and one fingerprint.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.sources.source import PARTS, WHOLE
from jsdelta_db.errors import DataError

SPLITS = ("train", "baseline", "attack")  # in the order in which they are stored
BASELINE_SHARE, LEAST, MOST = 0.1, 10, 500  # of train, a class
WHOLE_SHARES = (0.6, 0.2)  # train and baseline; the rest is attacked
TEST_ONLY_SHARE = 1 / 3  # baseline; the rest is attacked
MOST_SHOWN = 5  # classes in a message
FEW = 10  # baseline images of a class: with fewer a label pair's standard error means little


@dataclass(frozen=True, slots=True)
class Rules:
    """How images are divided.

    Attributes:
        baseline_size: baseline images of each class; None for the usual share.
        test_only: whether there is no train split.
    """

    baseline_size: int | None = None
    test_only: bool = False

    def of_baseline(self, usual: float) -> int:
        """Return the baseline images of a class, given the usual number."""
        return round(usual) if self.baseline_size is None else self.baseline_size

    def of_whole(self, n: int) -> tuple[int, int]:
        """Return how many of a class's ``n`` images are for train and baseline; the rest is attacked."""
        baseline = min(n, self.of_baseline(n * WHOLE_SHARES[1]))
        return round((n - baseline) * WHOLE_SHARES[0] / (1 - WHOLE_SHARES[1])), baseline

    def of_train(self, n: int) -> tuple[int, int]:
        """Return how many of a class's ``n`` training images are for train and baseline."""
        usual = min(max(n * BASELINE_SHARE, LEAST), MOST) if n >= 2 * LEAST else n / 2
        baseline = min(n, self.of_baseline(usual))
        return n - baseline, baseline


@dataclass(frozen=True, slots=True)
class Division:
    """Positions in the source, by split, each in the order of the pixels' hashes.

    Attributes:
        fingerprint: of the images, labels, splits and class names, 64 hex digits.
        notes: what people should know of it.
    """

    rows: Mapping[str, NDArray[np.int64]]
    fingerprint: str
    notes: tuple[str, ...]


def hash_images(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return the sha256 of each image's values, uint8 ``(n, 32)``."""
    digests = b"".join(hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images)
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32)


def divide(
    digests: NDArray[np.uint8],
    labels: NDArray[np.int64],
    parts: Mapping[str, NDArray[np.int64]],
    classes: tuple[str, ...],
    rules: Rules,
) -> Division:
    """Divide images into splits.

    Args:
        digests: of all images of the source, ``(n, 32)``.
        labels: of all of them, in 0..classes − 1.
        parts: positions of the images in each part of the source.

    Raises:
        DataError: a split would be empty.
    """
    order = _order(digests, labels)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    if rules.test_only:
        whole = parts.get(PARTS[1], parts.get(WHOLE, order[:0]))
        split = _split_classes(whole, labels, rank, lambda n: (0, rules.of_baseline(n * TEST_ONLY_SHARE)))
    elif WHOLE in parts:
        split = _split_classes(parts[WHOLE], labels, rank, rules.of_whole)
    else:
        train, test = (parts[part] for part in PARTS)
        split = {**_split_classes(train, labels, rank, rules.of_train), "attack": test}
    rows = {name: split[name][np.argsort(rank[split[name]])] for name in SPLITS if len(split[name])}
    for name in SPLITS[1 if rules.test_only else 0 :]:
        if name not in rows:
            raise DataError(f"no image is left for the {name} split; give more images, or --baseline-size")
    notes = (*_note_few(labels[rows["baseline"]], classes), *_note_repeated(rows, digests, labels))
    return Division(rows, _fingerprint(rows, digests, labels, classes), notes)


def _order(digests: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all positions in the order of the hashes, images that are equal in that of their labels."""
    words = np.ascontiguousarray(digests).view(">u8")
    return np.asarray(np.lexsort((labels, *(words[:, column] for column in reversed(range(4))))))


def _split_classes(
    positions: NDArray[np.int64],
    labels: NDArray[np.int64],
    rank: NDArray[np.int64],
    sizes: Callable[[int], tuple[int, int]],
) -> dict[str, NDArray[np.int64]]:
    """Divide each class: the first by hash are the baseline, then train, and what is left is attacked.

    Args:
        sizes: of a class's number of images, how many are for train and how many for the baseline.
    """
    ordered = positions[np.lexsort((rank[positions], labels[positions]))]
    borders = np.flatnonzero(np.diff(labels[ordered])) + 1
    split: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SPLITS}
    for images in np.split(ordered, borders):
        n_train, n_baseline = sizes(len(images))
        ends = (n_baseline, n_baseline + n_train)
        for name, part in zip(("baseline", "train", "attack"), np.split(images, ends), strict=True):
            split[name].append(part)
    return {name: np.concatenate(each) for name, each in split.items()}


def _fingerprint(
    rows: Mapping[str, NDArray[np.int64]],
    digests: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
) -> str:
    """Hash the class names and each split's pairs of pixel hash and label, in their order.

    The splits are in it: the same images divided otherwise are another data set.
    """
    digest = hashlib.sha256(repr(("added", classes)).encode())
    for name, positions in rows.items():
        digest.update(f"{name} {len(positions)}".encode())
        digest.update(np.ascontiguousarray(digests[positions]).data)
        digest.update(labels[positions].astype("<i8").data)
    return digest.hexdigest()


def _note_few(labels: NDArray[np.int64], classes: tuple[str, ...]) -> Iterator[str]:
    counts = np.bincount(labels, minlength=len(classes))
    few = [f"{classes[label]} ({counts[label]})" for label in np.flatnonzero(counts < FEW)]
    if few:
        more = f" and {len(few) - MOST_SHOWN} more" if len(few) > MOST_SHOWN else ""
        yield (
            f"fewer than {FEW} baseline images of class {', '.join(few[:MOST_SHOWN])}{more}: their label "
            "pairs' baselines are uncertain, and their JSΔ undefined where there is none"
        )


def _note_repeated(
    rows: Mapping[str, NDArray[np.int64]], digests: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Iterator[str]:
    """Say how many attacked images are in another split, too, and how many equal images differ in label."""
    keys = np.ascontiguousarray(digests).view("V32")[:, 0]
    others = np.concatenate([rows[name] for name in rows if name != "attack"])
    shared = int(np.isin(keys[rows["attack"]], keys[others]).sum())
    if shared:
        yield f"{shared:,} attacked images are in train or baseline, too"
    order = _order(digests, labels)
    same = (digests[order[1:]] == digests[order[:-1]]).all(1)
    contradicting = int((same & (labels[order[1:]] != labels[order[:-1]])).sum())
    if contradicting:
        yield f"{contradicting:,} images are there with more than one label"
