"""Constructors of other libraries' attacks: found by name, and given what they ask for."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jsdelta_db.compute.models.named_code import users_code
from jsdelta_db.errors import UnknownNameError, UsageError

Constructor = Callable[..., Any]


def find_constructor(module: str, attack: str) -> Constructor:
    """Return a library's class of attacks.

    Raises:
        UnknownNameError: there is none of this name; lists those that there are.
        UsageError: the library cannot be imported.
    """
    with users_code(lambda reason: UsageError(f"{module} cannot be imported: {reason}")):
        library = importlib.import_module(module)
    found: object = getattr(library, attack, None)
    if not inspect.isclass(found):
        known = [name for name in dir(library) if inspect.isclass(getattr(library, name))]
        raise UnknownNameError(f"attack of {module}", attack, known)
    return found


def accepts(constructor: Constructor, name: str) -> bool:
    """Tell whether a constructor takes an argument of a name."""
    return name in inspect.signature(constructor).parameters


def construct(
    constructor: Constructor, *model: object, given: Mapping[str, Any], offered: Mapping[str, Any]
) -> Any:  # noqa: ANN401 of the library
    """Call a constructor with the user's arguments and, of those offered, what it takes beside them."""
    wanted = {name: value for name, value in offered.items() if accepts(constructor, name)}
    return constructor(*model, **{**wanted, **given})
