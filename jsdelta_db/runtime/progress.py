"""How long work tells its caller where it is; the library itself never prints."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar: call it with the units done and, if there is news, a short note."""

    def __call__(self, done: int = 1, note: str = "") -> None:
        """Advance by ``done`` units."""


class Progress(Protocol):
    """What the pipeline reports to."""

    def say(self, message: str) -> None:
        """Show one line of news."""

    def task(self, label: str, total: int) -> AbstractContextManager[Task]:
        """Open a bar of ``total`` units for the duration of a ``with`` block."""


class Silent:
    """The default: says nothing."""

    def say(self, message: str) -> None:
        """Drop the message."""

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Task]:
        """Count nothing."""

        def advance(done: int = 1, note: str = "") -> None:
            del done, note

        yield advance
