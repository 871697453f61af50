"""Global generators, seeded by a key for a block: somebody's code draws from whichever it knows."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from jsdelta_db.runtime import seeding


@contextmanager
def seeded(device: torch.device, *key: int | str) -> Iterator[None]:
    """Seed the generators of torch, NumPy and Python by a key; afterwards they go on where they were."""
    for_torch, for_numpy, for_python = seeding.generator(*key).integers(1 << 32, size=3).tolist()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    cards = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    with torch.random.fork_rng(cards):
        torch.manual_seed(for_torch)
        np.random.seed(for_numpy)
        random.seed(for_python)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
