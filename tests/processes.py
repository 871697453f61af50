"""Commands as processes of their own, forked off one that has loaded the heavy modules already.

Starting Python, torch and MLflow costs more than the work of most tests. What is forked is a process like
any other: it has its number, its locks and its signals, and dies alone.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from tests.workspaces import in_chunks_of

HEAVY = [
    "torch",
    "torchvision",
    "mlflow",
    "matplotlib.figure",
    "jsdelta_cli.main",
    "jsdelta_db.pipeline.attack",
    "tests.workspaces",
]


class Forked:
    """A command at work; the part of ``subprocess.Popen`` that tests use."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        cwd: Path,
        output: Path,
        chunk_size: int | None = None,
    ) -> None:
        """Start it.

        Args:
            output: where what it prints goes, with ``.out`` and ``.err`` behind its name.
            chunk_size: attempts in a chunk of what it plans; None for as many as it chooses itself.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(HEAVY)
        self._files = [output.with_name(output.name + end) for end in (".out", ".err")]
        self._process = context.Process(
            target=_run, args=(arguments, environment, cwd, self._files, chunk_size)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return its exit code if it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end."""
        self._process.join(timeout)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it printed.

        Raises:
            subprocess.TimeoutExpired: it has not ended by then.
        """
        if self.wait(timeout) is None:
            raise subprocess.TimeoutExpired("jsdelta", timeout or 0)
        out, err = (path.read_text() if path.exists() else "" for path in self._files)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def _run(
    arguments: list[str],
    environment: dict[str, str],
    cwd: Path,
    files: list[Path],
    chunk_size: int | None,
) -> None:
    """Become the command: what a new process would have, this one gets."""
    from jsdelta_cli.main import run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for descriptor, path in zip((1, 2), files, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout, sys.stderr = _text(1), _text(2)
    if chunk_size is not None:
        in_chunks_of(chunk_size, pytest.MonkeyPatch())
    sys.exit(run(arguments))


def _text(descriptor: int) -> IO[Any]:
    return open(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)
