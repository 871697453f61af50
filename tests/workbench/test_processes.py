"""Worker processes: numbered, heard once, and what one of them meets stops its task, or all."""

import errno
import os
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import Pipe
from threading import Thread
from types import SimpleNamespace

import pytest

from jsdelta_db import errors
from jsdelta_db.errors import (
    DataError,
    JsdeltaError,
    ModelError,
    OutOfMemoryError,
    StoreError,
    TrainingError,
    UnknownNameError,
    UsageError,
)
from jsdelta_db.workbench import processes
from jsdelta_db.workbench.processes import run_side_by_side
from jsdelta_db.workbench.workbench import Workbench, open_workbench
from tests.workspaces import Listening

FULL_DISK = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/there/checkpoint.pt")


class Crew:
    """Threads that do as worker processes do: each dies at the task ``None``, and answers others with their error."""

    def __init__(self, stack):
        self._stack, self.numbers = stack, []

    def start(self, setting):
        """Start one; the setting is its number."""
        ours, theirs = Pipe()
        self.numbers.append(setting)
        thread = Thread(target=self._work, args=(theirs,), daemon=True)
        thread.start()
        self._stack.callback(ours.close)
        dead = SimpleNamespace(join=thread.join, exitcode=-9)
        return ours, processes._Worker(dead, setting)

    def _work(self, connection):
        try:
            while True:
                key, error = connection.recv()
                if error is None:
                    break
                stops = isinstance(error, errors.STOPPING_ALL)
                connection.send(
                    processes._News(key=None if stops else key, error=error if error != "fine" else None)
                )
        except EOFError:
            pass
        connection.close()


def hand_out(*tasks, workers=1):
    """Have tasks done, each named by what comes of it."""
    with ExitStack() as stack:
        crew = Crew(stack)
        at_hand = dict(crew.start(number) for number in range(workers))
        return processes._hand_out(None, dict(enumerate(tasks)), at_hand, crew.start), crew


def test_a_worker_that_dies_is_replaced(monkeypatch):
    """Its task has failed alone; all others are done, also where every worker has died."""
    failed, crew = hand_out(None, None, "fine", None, "fine", workers=2)
    assert sorted(failed) == [0, 1, 3]
    assert "killed, perhaps for want of memory" in str(failed[0])
    assert set(crew.numbers[2:]) <= {0, 1}  # each in the place of the dead one
    assert 4 <= len(crew.numbers) <= 5


def test_nobody_is_started_for_no_work():
    """The last task's death starts nobody."""
    failed, crew = hand_out("fine", None)
    assert (list(failed), crew.numbers) == ([1], [0])


@pytest.mark.parametrize("error", [StoreError("locked"), DataError("altered"), FULL_DISK])
def test_what_concerns_all_stops_all(error):
    """An error of the store, of the data set or of a disk is raised as it is, and no further task is begun."""
    with pytest.raises(type(error)) as caught:
        hand_out("fine", error, TrainingError("never begun"))
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    "error", [TrainingError("a"), OutOfMemoryError("b"), UsageError("c"), ModelError("d")]
)
def test_any_other_error_of_ours_fails_its_task_alone(error):
    """In the worker, and for the parent, which goes on with the others."""

    def work(task):
        raise task

    assert processes._do(work, error) is error
    failed, _ = hand_out(error, "fine")
    assert {key: (type(each), str(each)) for key, each in failed.items()} == {0: (type(error), str(error))}


@pytest.mark.parametrize("error", [StoreError("locked"), FULL_DISK, KeyboardInterrupt(), ZeroDivisionError()])
def test_a_worker_takes_no_other_error_for_its_tasks(error):
    """What stops all, Ctrl-C and defects go on their way."""

    def work(task):
        raise error

    with pytest.raises(type(error)):
        processes._do(work, None)


def _kinds(kind):
    return [kind, *(each for below in kind.__subclasses__() for each in _kinds(below))]


@pytest.mark.parametrize(
    "kind", [kind for kind in _kinds(JsdeltaError) if kind.__module__ == errors.__name__]
)
def test_every_error_arrives_from_another_process_with_its_line(kind):
    """Errors are pickled on their way; one of another name's is a usage error there."""
    error = kind("name", "mine", ["yours"]) if kind is UnknownNameError else kind("what, and what to do")
    arrived = pickle.loads(pickle.dumps(error))
    assert str(arrived) == str(error)
    assert isinstance(arrived, UsageError if kind is UnknownNameError else kind)


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
