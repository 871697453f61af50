"""Failures of a training: what the memory or a network's own code does to it, as one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from jsdelta_db.compute.models.named_code import users_code
from jsdelta_db.errors import TrainingError
from jsdelta_db.runtime.memory import ADVICE, explaining_memory


@contextmanager
def explaining_failures(when: str, batch_size: int | None = None) -> Iterator[None]:
    """Turn whatever a network raises in a block, and out of memory, into an error of its training alone.

    Args:
        when: such as ``in epoch 2``.
        batch_size: of the training, where a smaller one takes less memory.

    Raises:
        OutOfMemoryError: the memory does not suffice; says what to try.
        TrainingError: anything else was raised that is not an error of ours.
    """
    doing = when if batch_size is None else f"at batch_size {batch_size}"
    advice = ADVICE if batch_size in (None, 1) else f"try batch_size {batch_size // 2}"
    with (
        users_code(lambda reason: TrainingError(f"its network failed {when} ({reason})")),
        explaining_memory(doing, advice),
    ):
        yield
