"""Worker processes: each knows its number, and what all of them say is heard once."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from jsdelta_db.workbench.processes import run_side_by_side
from jsdelta_db.workbench.workbench import Workbench, open_workbench
from tests.workspaces import Listening


@dataclass(frozen=True)
class _Telling:
    """A job whose tasks say who works on them."""

    def prepare(self, bench: Workbench) -> Callable[[int], None]:
        bench.progress.report("the same line")
        return lambda task: bench.progress.report(f"task {task}: worker {bench.worker}")


@pytest.mark.slow
def test_workers_are_numbered(tiny_copy):
    """From 0, so that each can take a card of its own; they share a line that says the same."""
    heard = Listening()
    with open_workbench(tiny_copy, heard) as bench:
        assert run_side_by_side(bench, _Telling(), {0: 0, 1: 1}, workers=2) == {}
    assert heard.lines.count("the same line") == 1
    told = [line for line in heard.lines if line.startswith("task ")]
    assert {line.partition(": ")[0] for line in told} == {"task 0", "task 1"}
    assert {line.partition(": ")[2] for line in told} == {"worker 0", "worker 1"}
