"""AutoAttack as torchattacks implements it: ``autoattack:standard``, or ``plus`` or ``rand``."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from jsdelta_db.compute.attacks.callables.adapters import torchattacks
from jsdelta_db.errors import UnknownNameError

VERSIONS = ("standard", "plus", "rand")


def make(version: str) -> Callable[..., Tensor]:
    """Return a version of AutoAttack as a callable like any other.

    Raises:
        UnknownNameError: there is no such version.
    """
    if version not in VERSIONS:
        raise UnknownNameError("version of AutoAttack", version, VERSIONS)
    return partial(torchattacks.make("AutoAttack"), version=version)
