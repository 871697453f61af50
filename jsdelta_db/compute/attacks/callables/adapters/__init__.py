"""Adapters: other libraries' attacks by name, one module a library, imported only when asked for."""

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jsdelta_db.errors import UsageError

# What stands before the colon of a name -> the package that it is installed as. Each has a module here, with
# ``make(name, arguments)`` that returns a callable like any other attack.
LIBRARIES: dict[str, str] = {}


def find_adapter(name: str, arguments: Mapping[str, Any]) -> tuple[Callable[..., Any], str] | None:
    """Return a library's attack and its version; None if the name is of no library that is known here.

    Raises:
        UsageError: the library is not installed, or has no such attack.
    """
    library, colon, attack = name.partition(":")
    package = LIBRARIES.get(library) if colon else None
    if package is None:
        return None
    try:
        installed = version(package)
    except PackageNotFoundError as error:
        raise UsageError(
            f"--attack-by {name!r} needs the package {package}, which is not installed: pip install {package}"
        ) from error
    adapter = importlib.import_module(f"{__name__}.{library}")
    fn: Callable[..., Any] = adapter.make(attack, dict(arguments))
    return fn, f"{package} {installed}"
