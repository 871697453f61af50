"""Somebody's attacks: what takes the place of our steps, as configurations hash it and rows record it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsdelta_db.errors import StoreError

SHA256 = "sha256:"  # before the version of a source file
SHORT_VERSION = 12  # characters of a sha256: enough to tell versions apart in a table


@dataclass(frozen=True, slots=True)
class AttackBy:
    """An attack that is not ours.

    Args:
        name: ``module:callable``, or a library's such as ``torchattacks:PGD``.
        version: sha256 of the source file, or the library's own; what the user says where there is neither.
        arguments: what its call gets beside the images, as JSON can hold it.
        accept_eps: whether samples beyond ε count like others.
        fn: the callable itself: ``(model, x, label, target_label, eps, norm, **arguments)`` → images.
    """

    name: str
    version: str
    arguments: Mapping[str, Any] = field(hash=False)
    fn: Callable[..., Any] = field(compare=False, repr=False)
    accept_eps: bool = False

    def canonical(self) -> dict[str, Any]:
        """Return its part of an attack's ``config_hash``, which is also what the attack's row holds."""
        return {
            "name": self.name, "version": self.version, "arguments": dict(self.arguments),
            "accept_eps": self.accept_eps,
        }  # fmt: skip


def parse_recorded(recorded: object) -> dict[str, Any] | None:
    """Return what the column ``attack_by`` of an attack's row holds; None for our own steps.

    Args:
        recorded: text from SQLite, a mapping from PostgreSQL.

    Raises:
        StoreError: it is nothing that was recorded here.
    """
    by = json.loads(recorded) if isinstance(recorded, str) else recorded
    if by is None:
        return None
    kinds = {"name": str, "version": str, "arguments": dict, "accept_eps": bool}
    if not isinstance(by, dict) or {name: type(value) for name, value in by.items()} != kinds:
        raise StoreError(f"attack_by {by!r} of an attack is not valid: must have {', '.join(kinds)}")
    return by


def as_facts(recorded: object, uid: str) -> tuple[str | None, str | None]:
    """Return the facts ``attack_by`` and ``accept_eps`` of a recorded attack, by which queries group.

    Args:
        recorded: the column of the attack's row.
        uid: of the attack. It stands for ``accept_eps``, so that such an attack is pooled with no other.
    """
    by = parse_recorded(recorded)
    if by is None:
        return None, None
    return _describe(by), uid if by["accept_eps"] else None


def _describe(recorded: Mapping[str, Any]) -> str:
    """Return one text that differs wherever two attacks do, such as ``mine:fgsm(steps=10)@1f0c5bd2a9e4``."""
    given = ", ".join(f"{key}={value}" for key, value in sorted(recorded["arguments"].items()))
    called = f"{recorded['name']}({given})" if given else recorded["name"]
    return f"{called}@{recorded['version'].removeprefix(SHA256)[:SHORT_VERSION]}"
