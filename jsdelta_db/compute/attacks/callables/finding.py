"""Names of attacks: ``module:callable``, a file's, or a library's; and versions, by which edits show.

The version is the sha256 of the source file that the callable is written in. Where there is none to read (a
notebook, a closure, an extension module) nobody could tell that it was edited: then the user names a version.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jsdelta_db.compute.attacks.callables.adapters.finding import find_adapter
from jsdelta_db.compute.models.named_code import find_source, load_callable
from jsdelta_db.config.attack_by import SHA256, AttackBy
from jsdelta_db.config.consent import give_consent, is_in_file
from jsdelta_db.errors import UsageError
from jsdelta_db.runtime.files import sha256_of_file

FORMS = "module:callable, path/to/file.py:callable, or a library's such as torchattacks:PGD"
VERSION = "version"  # the argument that names one


def find_attack(name: str, arguments: Mapping[str, Any], *, accept_eps: bool = False) -> AttackBy:
    """Return the attack of a name that the user typed, which is consent to run its code.

    Args:
        arguments: for its calls; of a library's, for its constructor.
        accept_eps: whether samples beyond ε count like others.

    Raises:
        UsageError: there is no such callable or library, or its version cannot be told.
    """
    adapted = find_adapter(name)
    if adapted is not None:
        fn, version = adapted
        return AttackBy(name, version, _as_json(arguments), fn, accept_eps)
    give_consent(name)
    fn = load_callable(name, "--attack-by", FORMS)
    # A file's folder is no part of the attack: its content is.
    short = name.rpartition("/")[2] if is_in_file(name) else name
    return _versioned(short, fn, find_source(fn), arguments, accept_eps=accept_eps)


def wrap_function(
    fn: Callable[..., Any], arguments: Mapping[str, Any], *, accept_eps: bool = False
) -> AttackBy:
    """Return the attack that is a function of a caller in Python.

    Raises:
        UsageError: it is not callable, or its version cannot be told.
    """
    if not callable(fn):
        raise UsageError(
            f"fn {fn!r} is not valid: must be a function of model, x, label, target_label, eps, norm"
        )
    kind = fn if hasattr(fn, "__qualname__") else type(fn)
    module, qualname = getattr(kind, "__module__", "unknown"), getattr(kind, "__qualname__", "unknown")
    # A closure, a lambda or an object is more than its source file says.
    source = find_source(fn) if _named(module, qualname) is fn else None
    return _versioned(f"{module}:{qualname}", fn, source, arguments, accept_eps=accept_eps)


def _versioned(
    name: str, fn: Callable[..., Any], source: Path | None, arguments: Mapping[str, Any], *, accept_eps: bool
) -> AttackBy:
    given = _as_json(arguments)
    version = SHA256 + (sha256_of_file(source) or "") if source is not None else str(given.pop(VERSION, ""))
    if not version:
        raise UsageError(
            f"{name} has no source file that would tell when it is edited; name its version: --set version=1"
        )
    return AttackBy(name, version, given, fn, accept_eps)


def _named(module: str, qualname: str) -> object:
    """Return what a module holds under a name, None if nothing."""
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _as_json(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as rows can hold them.

    Raises:
        UsageError: one of them is nothing that JSON knows.
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(arguments), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"arguments {arguments!r} are not valid ({error}): must be numbers, texts, flags or lists"
        ) from error
    return found
