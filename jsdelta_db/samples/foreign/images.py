"""Images of foreign samples: any usual layout and type, as float32 ``(n, c, h, w)`` in [0, 1].

What an array can be read as in one way only is read so, and told; what could be meant in two ways is refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks.preflight import RANGE_TOLERANCE
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.data.dataset import as_unit_range
from jsdelta_db.compute.models.external import per_channel
from jsdelta_db.errors import DataError, UsageError

LEVEL_TOLERANCE = 0.1  # of a pixel level: what float16 and a normalization leave of a whole level
COARSE_TOLERANCE = 1e-3  # of [0, 1], for those two
MOST_UNCLIPPED = 0.2  # beyond [0, 1]: less is a perturbation that was not clipped, more is another range


@dataclass(frozen=True, slots=True)
class Normalization:
    """What was done to images in [0, 1] before they were saved: ``(x - mean) / std``.

    Attributes:
        mean, std: one a channel or one for all; ``dataset`` for the data set's own.
    """

    mean: tuple[float, ...] | str = (0.0,)
    std: tuple[float, ...] | str = (1.0,)

    def of(self, dataset: Dataset) -> tuple[Tensor, Tensor]:
        """Return mean and std, each ``(c, 1, 1)``, float64.

        Raises:
            UsageError: a number of values that does not fit, or one out of range.
        """
        given = {
            "mean": dataset.mean if self.mean == "dataset" else self.mean,
            "std": dataset.std if self.std == "dataset" else self.std,
        }
        of_channels = []
        for name, values in given.items():
            of_channels.append(per_channel([float(each) for each in values], dataset.image_shape[0], name))
            lowest = 0.0 if name == "mean" else RANGE_TOLERANCE
            if not all(lowest <= float(value) <= 1.0 for value in values):
                valid = "[0, 1]" if name == "mean" else "(0, 1]"
                raise UsageError(f"--{name} {values} is out of range: must be {valid}, as the images are")
        mean, std = (torch.tensor(each, dtype=torch.float64).view(-1, 1, 1) for each in of_channels)
        return mean, std


def as_images(
    array: NDArray[Any], name: str, dataset: Dataset, normalization: Normalization | None
) -> tuple[Tensor, list[str]]:
    """Return images as float32 ``(n, c, h, w)`` in [0, 1], and each conversion in words.

    Raises:
        DataError: they are no images of the data set's shape in [0, 1].
        UsageError: the normalization does not fit.
    """
    array, told = _channels_first(array, name, dataset)
    if array.dtype == np.uint8:
        if normalization is not None:
            raise DataError(f"{name} is uint8, which are pixel levels: leave --mean and --std out")
        return as_unit_range(torch.from_numpy(np.ascontiguousarray(array))), told
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{name} is {array.dtype}: must be uint8 in 0..255 or floating in [0, 1]")
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
    if len(bad):
        raise DataError(f"{name} of sample {bad[0]} holds values that are not finite: must be [0, 1]")
    images, more = _as_float32(array, name, dataset, normalization)
    return images, told + more


def _channels_first(array: NDArray[Any], name: str, dataset: Dataset) -> tuple[NDArray[Any], list[str]]:
    channels, height, width = dataset.image_shape
    shape = array.shape[1:]
    if shape == (channels, height, width):
        return array, []
    if shape == (height, width, channels):
        return array.transpose(0, 3, 1, 2), [f"channels last in {array.shape}, read as channels first"]
    if channels == 1 and shape == (height, width):
        return array[:, None], [f"no axis of channels in {array.shape}, read as one channel"]
    if channels == 1 and shape in ((3, height, width), (height, width, 3)):
        axis = shape.index(3) + 1
        first = array.take([0], axis)
        if (array == first).all():
            grey, _ = _channels_first(first, name, dataset)
            return grey, [f"three equal channels in {array.shape}, read as one"]
    raise DataError(
        f"{name} has images of {shape}; {dataset.name!r} has {dataset.image_shape} "
        "(channels, height, width; channels last will do)"
    )


def _as_float32(
    array: NDArray[Any], name: str, dataset: Dataset, normalization: Normalization | None
) -> tuple[Tensor, list[str]]:
    told = [] if array.dtype == np.float32 and array.dtype.isnative else [_describe(array.dtype)]
    # A copy, also of float32: the array is the caller's, and values are clipped.
    images = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if normalization is not None:
        images = _undo(normalization, images, name, dataset)
        told.append("the normalization undone (times std, plus mean)")
    elif not _is_within(images, COARSE_TOLERANCE if array.dtype == np.float16 else RANGE_TOLERANCE):
        raise DataError(f"{_describe_range(images, name)}: must be [0, 1]; {_advise(images, dataset)}")
    images.clamp_(0.0, 1.0)
    levels = (images * 255).round()
    is_coarse = array.dtype == np.float16 or normalization is not None
    if is_coarse and float((images * 255 - levels).abs().max()) <= LEVEL_TOLERANCE:
        told.append("rounded to the whole pixel levels that they are")
        return as_unit_range(levels.to(torch.uint8)), told
    return images, told


def _undo(normalization: Normalization, images: Tensor, name: str, dataset: Dataset) -> Tensor:
    mean, std = normalization.of(dataset)
    if _is_within(images, RANGE_TOLERANCE):
        raise DataError(f"{_describe_range(images, name)} as they are: leave --mean and --std out")
    undone = (images.to(torch.float64) * std + mean).to(torch.float32)
    if not _is_within(undone, COARSE_TOLERANCE):
        raise DataError(
            f"{_describe_range(undone, name)} with the normalization undone: must be [0, 1]; "
            "are --mean and --std those of the file?"
        )
    return undone


def _describe(dtype: np.dtype[Any]) -> str:
    order = "" if dtype.isnative else "big-endian " if dtype.byteorder == ">" else "little-endian "
    return f"{order}{dtype.name}, read as float32"


def _is_within(images: Tensor, tolerance: float) -> bool:
    low, high = (float(bound) for bound in images.aminmax())
    return low >= -tolerance and high <= 1.0 + tolerance


def _describe_range(images: Tensor, name: str) -> str:
    low, high = (float(bound) for bound in images.aminmax())
    return f"the values of {name} are in [{low:.6g}, {high:.6g}]"


def _advise(images: Tensor, dataset: Dataset) -> str:
    """Say what values beyond [0, 1] look like, and what undoes it."""
    low, high = (float(bound) for bound in images.aminmax())
    if low >= 0 and 1.0 + MOST_UNCLIPPED < high <= 255:
        return "they look like pixel levels: save them as uint8, or divide them by 255"
    if max(-low, high - 1.0) <= MOST_UNCLIPPED:
        return "they look like images that were not clipped: clip them as the attacked model got them"
    if low >= -1.0 - RANGE_TOLERANCE and high <= 1.0 + RANGE_TOLERANCE:
        return "they look like -1 to 1: give --mean 0.5 --std 0.5 to undo it"
    mean, std = (",".join(f"{value:g}" for value in values) for values in (dataset.mean, dataset.std))
    return (
        "they look normalized: give the --mean and --std that were used, to undo it "
        f"(those of {dataset.name!r}, --mean dataset --std dataset, are {mean} and {std})"
    )
