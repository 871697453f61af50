"""Progress: the interface that long work reports to; the library itself never prints."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar: called with the units done and an optional short note."""

    def __call__(self, done: int = 1, note: str = "") -> None:
        """Advance by ``done`` units."""


class Progress(Protocol):
    """The receiver of messages and bars; the command line shows them on the terminal."""

    def report(self, message: str) -> None:
        """Show one line."""

    def task(self, label: str, total: int) -> AbstractContextManager[Task]:
        """Open a bar of ``total`` units for the duration of a ``with`` block."""


class Silent:
    """The default: shows nothing."""

    def report(self, message: str) -> None:
        """Drop the message."""

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Task]:
        """Count nothing."""

        def advance(done: int = 1, note: str = "") -> None:
            del done, note

        yield advance


class Warnings(Silent):
    """For callers without a terminal of ours: messages are warnings, which notebooks show."""

    def report(self, message: str) -> None:
        """Warn, each time anew."""
        warnings.warn(message, UserWarning, stacklevel=2)
