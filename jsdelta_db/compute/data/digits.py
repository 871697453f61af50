"""The embedded default: scikit-learn's handwritten digits, at low contrast."""

from pathlib import Path

import numpy as np

from jsdelta_db.compute.data.dataset import Dataset, Split, stratified_split

CONTRAST = 1 / 8  # so that ε of 1 to 8 pixel levels spans weak to strong attacks
SIZES = (897, 300, 600)  # train, baseline, attack


def load_digits(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load 1,797 digits, 8×8, shown at 1/8 contrast around mid-grey; nothing is read from ``data_dir``.

    Source: UCI ML hand-written digits (Alpaydin and Kaynak 1998), as shipped with scikit-learn.
    """
    del data_dir, download  # embedded
    import torch
    from sklearn.datasets import load_digits as load_bundled  # a second to import

    bundle = load_bundled()
    images = torch.from_numpy(0.5 + (bundle.images / 16.0 - 0.5) * CONTRAST).to(torch.float32)[:, None]
    labels = bundle.target.astype(np.int64)
    parts = stratified_split(labels, SIZES, "digits")
    splits = {
        name: Split(images[part], torch.from_numpy(labels[part]), part)
        for name, part in zip(("train", "baseline", "attack"), parts, strict=True)
    }
    # Mean and deviation over all images, at this contrast.
    return Dataset("digits", tuple("0123456789"), (0.4757,), (0.0470,), splits)
