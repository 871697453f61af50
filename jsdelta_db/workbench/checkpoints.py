"""Checkpoints of stored models: whether their files are whole, without a network being built."""

from jsdelta_db.runtime.files import TRAIN_OTHERS, read_verified
from jsdelta_db.store.schema import Model
from jsdelta_db.workbench.workbench import Workbench


def check_weights(bench: Workbench, row: Model, advice: str = TRAIN_OTHERS) -> None:
    """Check that a model's weights are there and whole.

    Args:
        advice: next step of the user if they are not.

    Raises:
        CheckpointError: the file is missing, cut short or altered.
    """
    read_verified(bench.locate(row.checkpoint_uri or ""), row.checkpoint_sha256 or "", advice)
