"""Sample arrays: what a file or a caller holds under each name, before any check against a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from jsdelta_db.errors import DataError

NEEDED = ("x", "x_adv", "label")
ARRAYS = (*NEEDED, "target_label")
CLAIMS = ("eps", "success")  # of the tool about its samples, if the file holds them


@dataclass(frozen=True, slots=True)
class SampleArrays:
    """Arrays with one row a sample, of any type and layout that :func:`check_samples` can tell.

    Attributes:
        x_adv: adversarial images.
        x: the clean images that they were made from; None if the file lacks them.
        label: of each image.
        target_label: the labels aimed at; None for untargeted samples.
        eps, success: the tool's claims, if it makes any.
        remarks: lines for people: what was read as what.
    """

    x: NDArray[Any] | None
    x_adv: NDArray[Any]
    label: NDArray[Any]
    target_label: NDArray[Any] | None = None
    eps: NDArray[Any] | None = None
    success: NDArray[Any] | None = None
    remarks: tuple[str, ...] = ()


def check_present(
    found: Mapping[str, object], needed: Sequence[str], refuse: str, advice: str, there: str
) -> None:
    """Check that nothing is missing.

    Args:
        refuse: start of the message: which file.
        there: what the file holds, for the message.

    Raises:
        DataError: names what is missing.
    """
    missing = [name for name in needed if name not in found]
    if missing:
        raise DataError(f"{refuse} lacks {', '.join(missing)} (it holds {there or 'nothing'}); {advice}")
