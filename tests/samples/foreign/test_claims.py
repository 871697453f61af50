"""Claims of a tool about its samples: named, or passed over where they say nothing."""

import re

import numpy as np
import pytest

from jsdelta_db.samples.foreign.npz_file import read_npz
from tests.samples.foreign.cases import N, check, save


@pytest.mark.parametrize(
    ("eps", "claimed", "remark"),
    [
        (0.1, 0.1, None),
        (np.array([0.1, 0.3]), 0.3, None),
        (0, 0.0, None),
        ("8/255", None, "it is '8/255', no size from 0 to 1000"),
        (np.nan, None, "it is nan, no size"),
        (np.array([0.1, np.inf]), None, r"it is float64 of shape \(2,\), no size"),
        (None, None, r"it is object of shape \(\), no size"),
        (-1.0, None, "it is -1.0, no size"),
        (1e308, None, "no size"),
        (np.array([]), None, "no size"),
        (1j, None, "no size"),
        (True, 1.0, None),
    ],
)
def test_a_claimed_eps_that_is_none_is_passed_over(eps, claimed, remark, given, digits, tmp_path):
    """The tool's own eps is beside the point: what is no size is told in one line that names it."""
    samples = check(read_npz(save(tmp_path / "samples.npz", **given, eps=eps)), digits)
    assert samples.eps_claimed == claimed
    if remark is None:
        assert samples.remarks == ()
    else:
        (line,) = samples.remarks
        assert re.match(rf"eps of the samples is passed over: .*{remark}", line)


@pytest.mark.parametrize(
    "success", ["yes", None, np.nan, np.full(N, np.nan), np.ones(N + 1, bool), np.full(N, "1")], ids=str
)
def test_a_claimed_success_that_is_none_is_passed_over(success, given, digits, tmp_path):
    """So is its success, unless it is a yes or no a sample."""
    samples = check(read_npz(save(tmp_path / "samples.npz", **given, success=success)), digits)
    (line,) = samples.remarks
    assert (samples.success_claimed, line[:38]) == (None, "success of the samples is passed over:")
