"""Clean images of samples whose file lacks them: those of the attack split that they are nearest to."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.data import Dataset
from jsdelta_db.errors import DataError

CLEARLY = 2.0  # times as far must the second nearest image be
SMALLEST = 1e-6  # distance: of a sample that is its clean image


def find_clean(x_adv: Tensor, label: NDArray[np.int64], dataset: Dataset) -> tuple[Tensor, list[str]]:
    """Return the image of the attack split that each sample was made from, and a line about it.

    It is the nearest one (in l2) of the sample's label, if the second nearest is at least twice as far.

    Raises:
        DataError: for some sample it is not clear which image is meant.
    """
    split = dataset.splits["attack"]
    x, ratio = torch.empty_like(x_adv), torch.zeros(len(x_adv))
    for each in np.unique(label):
        samples, rows = np.flatnonzero(label == each), np.flatnonzero(split.labels.numpy() == each)
        if len(rows) > 1:
            images = split.batch(rows)
            distances = torch.cdist(x_adv[samples].flatten(1), images.flatten(1))
            nearest = distances.topk(2, largest=False)
            x[samples] = images[nearest.indices[:, 0]]
            ratio[samples] = nearest.values[:, 1] / nearest.values[:, 0].clamp_min(SMALLEST)
    doubtful = np.flatnonzero(ratio.numpy() < CLEARLY)
    if len(doubtful):
        raise DataError(
            f"the file has no clean images, and for {len(doubtful)} of {len(x)} samples (the first is "
            f"{doubtful[0]}) it is not clear which image of the attack split is meant: the second nearest "
            "of its label is not twice as far; save clean images, too (torchattacks: save_clean_inputs=True)"
        )
    return x, [
        "not in the file; the nearest images of the attack split are taken, "
        f"the next nearest are at least {float(ratio.min()):.1f} times as far"
    ]
