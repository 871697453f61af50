"""Names of other libraries' attacks, such as ``foolbox:LinfPGD``."""

import importlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jsdelta_db.errors import UsageError

# What stands before the colon -> the package that it is of. For each there is a module beside this one, with
# ``make(attack)`` that returns a callable like any other attack.
PACKAGES = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "art": "adversarial-robustness-toolbox",
    "autoattack": "torchattacks",  # which implements it
}


def find_adapter(name: str) -> tuple[Callable[..., Any], str] | None:
    """Return a library's attack and its version; None if the name is of no library that is known here.

    Raises:
        UsageError: the library is not installed, or has no such attack.
    """
    library, colon, attack = name.partition(":")
    package = PACKAGES.get(library) if colon else None
    if package is None:
        return None
    try:
        installed = version(package)
    except PackageNotFoundError as error:
        raise UsageError(
            f"--attack-by {name!r} needs the package {package}, which is not installed: pip install {package}"
        ) from error
    adapter = importlib.import_module(f"{__package__}.{library}")
    fn: Callable[..., Any] = adapter.make(attack)
    return fn, f"{package} {installed}"
