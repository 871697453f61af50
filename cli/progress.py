"""Progress on the terminal: bars and messages on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from jsdelta_db.runtime.escaping import escape
from jsdelta_db.runtime.progress import Task

from .output import note


class TerminalProgress:
    """Messages and bars on stderr; where it is no terminal, a line per finished task."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def report(self, message: str) -> None:
        """Print one message."""
        self._console.print(escape(message), style="yellow", markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Task]:
        """Show a bar with the time that is left and the latest note."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        last = ""
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}", style="dim", markup=False),
        )  # fmt: skip
        terminal = self._console.is_terminal
        with Progress(*columns, console=self._console, disable=not terminal) as progress:
            bar = progress.add_task(escape(label), total=total, note="")

            def advance(done: int = 1, note: str = "") -> None:
                nonlocal last
                last = escape(note) or last
                progress.update(bar, advance=done, note=last)

            yield advance
        if not terminal:
            note(f"{label}: done{', ' + last if last else ''}")
