"""Arrays as callers hand them over: widened, detached, or refused by name."""

import numpy as np
import pytest
import torch

from jsdelta_db.errors import DataError
from jsdelta_db.samples.given_arrays import as_array

PLAIN = np.array([[0.25, 0.5], [0.75, 1.0]], dtype=np.float32)
TENSOR = torch.from_numpy(PLAIN)


@pytest.mark.parametrize(
    "given",
    [
        PLAIN,
        PLAIN.tolist(),
        list(PLAIN),
        TENSOR,
        TENSOR.clone().requires_grad_(),
        TENSOR.clone().requires_grad_() * 1,
        TENSOR.bfloat16(),
        TENSOR.half(),
        list(TENSOR),
        [each.clone().requires_grad_() for each in TENSOR.bfloat16()],
        tuple(TENSOR),
    ],
    ids=str,
)
def test_arrays_of_any_kind_are_read(given):
    """Gradients, narrow types, and lists of tensors: the numbers are what counts."""
    assert as_array(given, "x").tolist() == PLAIN.tolist()


@pytest.mark.parametrize(
    "given",
    [
        None,
        object(),
        [None, *PLAIN],
        [None, *TENSOR],
        [[0.1], [0.2, 0.3]],
        [TENSOR, TENSOR[:1]],
        TENSOR.to("meta"),
        TENSOR.to_sparse(),
        np.ma.masked_less(PLAIN, 0.5),
        {"x": 1},
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_array_is_refused_by_name(given):
    """A failed sample, a ragged list, an object: one line that names the array."""
    with pytest.raises(DataError, match=r"^x_adv .*must be ") as raised:
        as_array(given, "x_adv")
    assert "\n" not in str(raised.value)
