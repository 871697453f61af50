"""Checks of foreign samples against a data set: what passes can be judged."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks import BALLS
from jsdelta_db.compute.attacks.preflight import check_attempts
from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.eps import SMALLEST, format_eps
from jsdelta_db.config.names import check_text
from jsdelta_db.errors import DataError, UsageError, one_of
from jsdelta_db.records import FILE_SPLIT, UNTARGETED, Attempts
from jsdelta_db.samples.foreign.arrays import ARRAYS, SampleArrays
from jsdelta_db.samples.foreign.claims import read_claims
from jsdelta_db.samples.foreign.clean_images import find_clean
from jsdelta_db.samples.foreign.images import Normalization, as_images
from jsdelta_db.samples.foreign.labels import as_labels
from jsdelta_db.samples.foreign.recognition import find_images, key_images
from jsdelta_db.store.image_keys import Keys, split_keys

IMAGES = ("x", "x_adv")


@dataclass(frozen=True, slots=True)
class ForeignSamples:
    """Samples from elsewhere that passed every check.

    Attributes:
        x, x_adv: float32 ``(n, c, h, w)`` in [0, 1].
        attempts: row number or the image's own index, its label, and the label aimed at (−1 for none).
        split: the data set's split that all images are from; ``file`` if some are not.
        image_keys: int64 ``(n,)``, equal where the images are; see ``store/image_keys.py``.
        library: that made them, with its version if that was given.
        norm: to measure their size in.
        fingerprint: sha256 of the arrays.
        eps_claimed, success_claimed: the tool's own, the latter ``(n,)``; None if it claims nothing.
        conversions: lines for people: what was read as what.
        remarks: lines for people: what else the arrays held that is no such claim.
    """

    x: Tensor
    x_adv: Tensor
    attempts: Attempts
    split: str
    image_keys: Keys
    library: str
    norm: str
    fingerprint: str
    eps_claimed: float | None
    success_claimed: NDArray[np.bool_] | None
    conversions: tuple[str, ...]
    remarks: tuple[str, ...]


def check_samples(
    given: SampleArrays,
    dataset: Dataset,
    *,
    library: str,
    norm: str = "linf",
    normalization: Normalization | None = None,
) -> ForeignSamples:
    """Check arrays from elsewhere.

    Args:
        given: images both uint8 in 0..255 or both floating in [0, 1], ``(n, c, h, w)`` or ``(n, h, w, c)``;
            labels whole numbers ``(n,)``, ``(n, 1)`` or one-hot ``(n, classes)``; targets −1 or left out for
            untargeted samples.
        normalization: of floating images, to be undone.

    Raises:
        DataError, UsageError: an array or a name is not valid; nothing was stored.
    """
    if norm not in BALLS:
        raise UsageError(f"--norm {norm!r} is not valid: must be {one_of(BALLS)}")
    check_text("--library", library)
    arrays = {name: array for name in ARRAYS if (array := getattr(given, name)) is not None}
    arrays.setdefault("target_label", np.full(np.shape(given.label)[:1], UNTARGETED))
    _check_pairs(arrays)
    images = {
        name: as_images(arrays[name], name, dataset, normalization) for name in IMAGES if name in arrays
    }
    (source, of_source), (target, of_target) = (
        as_labels(arrays[name], name, dataset) for name in ("label", "target_label")
    )
    x_adv, of_x_adv = images["x_adv"]
    x, of_x = images["x"] if "x" in images else find_clean(x_adv, source, dataset)
    split, index = find_images(x, source, target, dataset)
    keys = key_images(x, dataset) if split == FILE_SPLIT else split_keys(split, index)
    attempts = Attempts(index, source, target)
    check_attempts(attempts)
    eps, success, remarks = read_claims(given)
    converted = _tell({"x": of_x, "x_adv": of_x_adv}) + _tell({"label": of_source, "target_label": of_target})
    if torch.equal(x, x_adv):
        remarks += (
            f"x_adv is x: nothing was changed; ε is stored as {format_eps(SMALLEST, norm)}, never as 0",
        )
    return ForeignSamples(
        x, x_adv, attempts, split, keys, library, norm, _fingerprint(x, x_adv, attempts), eps, success,
        (*given.remarks, *converted), remarks,
    )  # fmt: skip


def _fingerprint(x: Tensor, x_adv: Tensor, attempts: Attempts) -> str:
    digest = hashlib.sha256()
    for part in (x.numpy(), x_adv.numpy(), attempts.source_label, attempts.requested_target):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _check_pairs(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check that there is one row a sample in each array, and one kind of pixels in both images."""
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not lengths["x_adv"]:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"the arrays have different lengths or none ({shown}): must be one row a sample in each"
        )
    kinds = {name: arrays[name].dtype for name in IMAGES if name in arrays}
    if len({kind == np.uint8 for kind in kinds.values()}) > 1:
        raise DataError(
            f"x is {kinds['x']} and x_adv is {kinds['x_adv']}: must be uint8 for both or floating for both"
        )


def _tell(conversions: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Return a line for each conversion, with the names of all arrays that had it."""
    lines = dict.fromkeys(line for lines in conversions.values() for line in lines)
    return tuple(
        f"{' and '.join(name for name, told in conversions.items() if line in told)}: {line}"
        for line in lines
    )
