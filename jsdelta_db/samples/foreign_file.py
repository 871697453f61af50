"""Foreign samples: arrays from any tool, checked before a row is made."""

import hashlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks import BALLS
from jsdelta_db.compute.attacks.preflight import check_attempts, check_images
from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.data.dataset import as_unit_range
from jsdelta_db.config.eps import LARGEST_L2, SMALLEST, format_eps
from jsdelta_db.config.names import check_text
from jsdelta_db.errors import DataError, UsageError, one_of
from jsdelta_db.records import FILE_SPLIT, UNTARGETED, Attempts
from jsdelta_db.store.image_keys import SPLITS, Keys, content_key, split_keys

ARRAYS = ("x", "x_adv", "label", "target_label")
# What NumPy and zipfile raise at a file that is none, was damaged, encrypted or packed in an unknown way.
DAMAGED = (
    ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, IndexError, OverflowError,
    RuntimeError, SyntaxError, struct.error, tokenize.TokenError,
)  # fmt: skip
CLAIMS = ("eps", "success")  # of the tool about its samples, if the file holds them
MOST_SHOWN = 40  # characters of a claim that is none


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
    remarks: tuple[str, ...]


def read_file(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file; never runs code from it.

    Raises:
        DataError: not an .npz file, an array is missing, or one holds Python objects.
    """
    advice = f"save it with numpy.savez(file, {', '.join(f'{name}=…' for name in ARRAYS)})"
    try:
        # Opened here: of a damaged file NumPy leaves its own handle open.
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise DataError(f"--samples {path} holds a single array; {advice}")
            found = {name: arrays[name] for name in ARRAYS if name in arrays.files}
            found |= {name: _read_claim(arrays, name) for name in CLAIMS if name in arrays.files}
            there = ", ".join(arrays.files) or "nothing"
    except OSError as error:
        raise DataError(
            f"--samples {path} cannot be read ({error.strerror or error}); give an .npz file"
        ) from error
    except MemoryError as error:
        raise DataError(f"--samples {path} holds an array larger than this machine's memory") from error
    except DAMAGED as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise DataError(
                f"--samples {path} holds pickled objects, which could run code; save plain arrays"
            ) from error
        raise DataError(f"--samples {path} is not a readable .npz file; {advice}") from error
    foreign = [name for name, array in found.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise DataError(f"--samples {path}: {foreign[0]} is no array; {advice}")
    missing = [name for name in ARRAYS[:3] if name not in found]
    if missing:
        raise DataError(f"--samples {path} lacks {', '.join(missing)} (it holds {there}); {advice}")
    return found


def _read_claim(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """Return a claim; in place of one that is pickled, such as None, an array that holds nothing."""
    try:
        return arrays[name]
    except ValueError:
        return np.array(None)


def check_samples(
    given: Mapping[str, NDArray[Any]], dataset: Dataset, *, library: str, norm: str = "linf"
) -> ForeignSamples:
    """Check arrays from elsewhere.

    Args:
        given: ``x`` and ``x_adv``, images ``(n, c, h, w)``, both uint8 in 0..255 or both floating in
            [0, 1]; ``label``, of each image, ``(n,)``; ``target_label``, the labels aimed at ``(n,)``, −1 or
            left out for untargeted samples; the tool's claims, if any: ``eps`` and ``success``.

    Raises:
        DataError, UsageError: an array or a name is not valid; nothing was stored.
    """
    if norm not in BALLS:
        raise UsageError(f"--norm {norm!r} is not valid: must be {one_of(BALLS)}")
    check_text("--library", library)
    arrays = {name: given[name] for name in ARRAYS if name in given}
    arrays.setdefault("target_label", np.full(np.shape(given["label"]), UNTARGETED))
    _check_shapes(arrays, dataset)
    x, x_adv = (_as_images(arrays[name], name) for name in ("x", "x_adv"))
    source, target = (_as_labels(arrays[name], name, dataset) for name in ("label", "target_label"))
    split, index = _find_images(x, source, target, dataset)
    keys = key_images(x, dataset) if split == FILE_SPLIT else split_keys(split, index)
    attempts = Attempts(index, source, target)
    check_attempts(attempts)
    digest = hashlib.sha256()
    for part in (x.numpy(), x_adv.numpy(), source, target):
        digest.update(np.ascontiguousarray(part).data)
    eps, success, remarks = _read_claims(given, len(x))
    if torch.equal(x, x_adv):
        remarks += (
            f"x_adv is x: nothing was changed; ε is stored as {format_eps(SMALLEST, norm)}, never as 0",
        )
    return ForeignSamples(
        x, x_adv, attempts, split, keys, library, norm, digest.hexdigest(), eps, success, remarks
    )


def _read_claims(
    given: Mapping[str, NDArray[Any]], n: int
) -> tuple[float | None, NDArray[np.bool_] | None, tuple[str, ...]]:
    """Return what the tool claims, and a line for each claim that says nothing: it is beside the point."""
    eps, success = (np.asarray(given[name]) if name in given else None for name in CLAIMS)
    remarks = []
    if eps is not None and not (eps.size and _is_number(eps) and ((eps >= 0) & (eps <= LARGEST_L2)).all()):
        remarks.append(
            f"eps of the samples is passed over: it is {_show(eps)}, no size from 0 to {LARGEST_L2:g}"
        )
        eps = None
    if success is not None and not (success.shape == (n,) and _is_number(success)):
        remarks.append(
            f"success of the samples is passed over: it is {_show(success)}, no yes or no a sample"
        )
        success = None
    return (
        None if eps is None else float(eps.max()),
        None if success is None else success.astype(bool),
        tuple(remarks),
    )


def _is_number(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "biuf" and bool(np.isfinite(array).all())


def _show(array: NDArray[Any]) -> str:
    """Return one value of a plain type, else type and shape."""
    if array.ndim == 0 and array.dtype.kind in "biufU":
        return repr(array.item())[:MOST_SHOWN]
    return f"{array.dtype} of shape {array.shape}"


def _check_shapes(arrays: Mapping[str, NDArray[Any]], dataset: Dataset) -> None:
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not lengths["x"]:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"the arrays have different lengths or none ({shown}): must be one row a sample in each"
        )
    for name in ("x", "x_adv"):
        if arrays[name].shape[1:] != dataset.image_shape:
            raise DataError(
                f"{name} has images of {arrays[name].shape[1:]}; {dataset.name!r} has {dataset.image_shape} "
                "(channels, height, width)"
            )
    kinds = {name: arrays[name].dtype for name in ("x", "x_adv")}
    if (kinds["x"] == np.uint8) != (kinds["x_adv"] == np.uint8):
        raise DataError(
            f"x is {kinds['x']} and x_adv is {kinds['x_adv']}: must be uint8 for both or floating for both"
        )


def _as_images(array: NDArray[Any], name: str) -> Tensor:
    if array.dtype == np.uint8:
        return as_unit_range(torch.from_numpy(np.ascontiguousarray(array)))
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{name} is {array.dtype}: must be uint8 in 0..255 or floating in [0, 1]")
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
    if len(bad):
        raise DataError(f"{name} of sample {bad[0]} holds values that are not finite: must be [0, 1]")
    images = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    check_images(images, f"the values of {name}")
    return images.clamp(0.0, 1.0)  # a copy: the array is the caller's


def _as_labels(array: NDArray[Any], name: str, dataset: Dataset) -> NDArray[np.int64]:
    lowest = UNTARGETED if name == "target_label" else 0
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}: must be whole numbers, one a sample"
        )
    labels = array.astype(np.int64)
    bad = np.flatnonzero((labels < lowest) | (labels >= len(dataset.classes)))
    if len(bad):
        raise DataError(
            f"{name} of sample {bad[0]} is {labels[bad[0]]}; valid for {dataset.name!r} is {lowest} to "
            f"{len(dataset.classes) - 1}"
        )
    if name == "target_label" and len(set((labels == UNTARGETED).tolist())) > 1:
        raise DataError(
            "target_label is -1 for some samples only; give targeted and untargeted samples apart"
        )
    return labels


def _find_images(
    x: Tensor, source: NDArray[np.int64], target: NDArray[np.int64], dataset: Dataset
) -> tuple[str, NDArray[np.int64]]:
    """Recognise the data set's own images, so that samples pair up with other attacks' image by image."""
    rows = np.arange(len(x), dtype=np.int64)
    for name in reversed(SPLITS):
        split = dataset.splits[name]
        found = _find_in(split, x)
        if (found < 0).any() or (split.labels.numpy()[found] != source).any():
            continue
        index = split.index[found]
        if len(set(zip(index.tolist(), target.tolist(), strict=True))) == len(x):
            return name, index
        break  # an image twice towards one label: only the row tells the two apart
    return FILE_SPLIT, rows


def key_images(x: Tensor, dataset: Dataset) -> Keys:
    """Return the keys of images that came in a file, int64 ``(n,)``; see ``store/image_keys.py``."""
    keys = np.array([content_key(_pixels(image)) for image in x])
    for name in SPLITS:
        split = dataset.splits[name]
        found = _find_in(split, x)
        keys[found >= 0] = split_keys(name, split.index[found[found >= 0]])
    return keys


def _find_in(split: Split, x: Tensor) -> NDArray[np.int64]:
    """Return the row of each image in a split, −1 where it is none of its images."""
    of_image = {_pixels(image): i for i, image in enumerate(split.batch(slice(None)))}
    return np.array([of_image.get(_pixels(image), -1) for image in x])


def _pixels(image: Tensor) -> bytes:
    """Return an image's pixels to a tenth of a level: writers round differently."""
    return bytes((image * 2550.0).round().to(torch.int16).numpy().data)
