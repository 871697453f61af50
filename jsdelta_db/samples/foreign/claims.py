"""Claims of a tool about its samples: named beside what is measured, and passed over where they are none."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.eps import LARGEST_L2
from jsdelta_db.samples.foreign.arrays import SampleArrays

MOST_SHOWN = 40  # characters of a claim that is none


def read_claims(given: SampleArrays) -> tuple[float | None, NDArray[np.bool_] | None, tuple[str, ...]]:
    """Return what the tool claims, and a line for each claim that says nothing: it is beside the point."""
    eps, success = (None if each is None else np.asarray(each) for each in (given.eps, given.success))
    remarks = []
    if eps is not None and not (eps.size and _is_number(eps) and ((eps >= 0) & (eps <= LARGEST_L2)).all()):
        remarks.append(
            f"eps of the samples is passed over: it is {_show(eps)}, no size from 0 to {LARGEST_L2:g}"
        )
        eps = None
    if success is not None and not (success.shape == (len(given.x_adv),) and _is_number(success)):
        remarks.append(
            f"success of the samples is passed over: it is {_show(success)}, no yes or no a sample"
        )
        success = None
    return (
        None if eps is None else float(eps.max()),
        None if success is None else success.astype(bool),
        tuple(remarks),
    )


def _is_number(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "biuf" and bool(np.isfinite(array).all())


def _show(array: NDArray[Any]) -> str:
    """Return one value of a plain type, else type and shape."""
    if array.ndim == 0 and array.dtype.kind in "biufU":
        return repr(array.item())[:MOST_SHOWN]
    return f"{array.dtype} of shape {array.shape}"
