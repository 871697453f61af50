"""Files of stored models, verified by their hashes: weights and clean logits; no network is built."""

import io

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.locations import Workspace
from jsdelta_db.runtime.files import TRAIN_OTHERS, read_verified, sha256_of_file
from jsdelta_db.store.schema import Model, ModelLogits

MOST_READ = 1 << 26  # bytes of logits that are read into memory


def check_weights(workspace: Workspace, row: Model, advice: str = TRAIN_OTHERS) -> None:
    """Check that a model's weights are there and whole.

    Args:
        advice: next step of the user if they are not.

    Raises:
        CheckpointError: the file is missing, cut short or altered.
    """
    read_verified(workspace.root / (row.checkpoint_uri or ""), row.checkpoint_sha256 or "", advice)


def read_logits(workspace: Workspace, row: ModelLogits) -> NDArray[np.float32]:
    """Return a model's clean logits on a whole split ``(n, classes)``.

    Many are mapped, not read: five models' on 1,000 classes are half a gigabyte.

    Raises:
        CheckpointError: the file is missing, cut short or altered.
    """
    path = workspace.root / row.uri
    if path.is_file() and path.stat().st_size > MOST_READ and sha256_of_file(path) == row.sha256:
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    content = read_verified(path, row.sha256)
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
