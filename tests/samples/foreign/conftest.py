"""Samples that every form of file holds."""

from pathlib import Path

import numpy as np
import pytest

from jsdelta_db.compute import data
from tests.samples.foreign.cases import N


@pytest.fixture(scope="session")
def digits():
    """The data set that the samples are said to be from."""
    return data.load("digits", Path("unused"))


@pytest.fixture(scope="session")
def given(digits):
    """Good arrays: the first images of the attack split, a little brighter, aimed at the next label."""
    split = digits.splits["attack"]
    x, label = split.batch(slice(0, N)).numpy(), split.labels.numpy()[:N]
    return {"x": x, "x_adv": x + np.float32(1 / 255), "label": label, "target_label": (label + 1) % 10}


@pytest.fixture(scope="session")
def levels(given):
    """The same samples as image writers leave them: whole pixel levels, uint8."""
    return {**given, **{name: np.round(given[name] * 255).astype(np.uint8) for name in ("x", "x_adv")}}
