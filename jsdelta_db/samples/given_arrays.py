"""Given arrays: what a caller hands over, NumPy's, torch's or plain lists, as NumPy arrays."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jsdelta_db.errors import DataError, first_line


def as_array(value: object, name: str) -> NDArray[Any]:
    """Return an array or a tensor, on any device and with or without a gradient, or nested lists of numbers.

    Args:
        name: of the array, for the message.

    Raises:
        DataError: it is ragged, masked, or holds Python objects such as None.
    """
    try:
        if isinstance(value, list | tuple) and any(isinstance(each, torch.Tensor) for each in value):
            value = torch.stack(list(value))
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().resolve_conj().resolve_neg()
            value = (value.float() if value.dtype is torch.bfloat16 else value).numpy()  # NumPy has none
        array = np.asarray(value)
    except Exception as error:  # torch's, NumPy's, or that of an array type of the user's
        raise DataError(
            f"{name} cannot be read as an array ({first_line(error)}): must be numbers of one shape a sample"
        ) from error
    if array.dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects such as None: must be numbers of one shape a sample; "
            "leave failed samples out"
        )
    if np.ma.is_masked(value):
        raise DataError(f"{name} is masked in places: must be whole; leave failed samples out")
    return array
