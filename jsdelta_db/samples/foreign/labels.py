"""Labels of foreign samples: numbers, columns of them, or one-hot rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.data import Dataset
from jsdelta_db.errors import DataError
from jsdelta_db.records import UNTARGETED


def as_labels(array: NDArray[Any], name: str, dataset: Dataset) -> tuple[NDArray[np.int64], list[str]]:
    """Return labels as int64 ``(n,)``, and what they were read from if that is not the plain form.

    Raises:
        DataError: they are no labels of the data set.
    """
    plain, told = _flatten(array, name, len(dataset.classes))
    lowest = UNTARGETED if name == "target_label" else 0
    if plain.ndim != 1 or not np.issubdtype(plain.dtype, np.integer):
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}: must be whole numbers, one a sample, "
            f"or one-hot of shape (n, {len(dataset.classes)})"
        )
    labels = plain.astype(np.int64)
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
    return labels, told


def _flatten(array: NDArray[Any], name: str, n_classes: int) -> tuple[NDArray[Any], list[str]]:
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0], [f"a column of shape {array.shape}, read as one label a sample"]
    if array.ndim != 2 or array.shape[1] != n_classes or array.dtype.kind not in "biuf":
        return array, []
    is_one_hot = ((array == 0) | (array == 1)).all(1) & (array.sum(1) == 1)
    if not is_one_hot.all():
        first = int(is_one_hot.argmin())
        raise DataError(
            f"{name} of sample {first} is no one-hot row (from {array[first].min():g} to "
            f"{array[first].max():g}, {array[first].sum():g} in all): must hold one 1 and else 0"
        )
    return array.argmax(1), [f"one-hot of shape {array.shape}, read as label numbers"]
