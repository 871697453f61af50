"""Worker processes: a job's tasks side by side, each worker with a workbench of its own.

The parent hands a worker one task at a time over a pipe of the worker's own, so that a worker that dies
takes nothing with it but the task it had; another one takes its place.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import torch

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import STOPPING_ALL, JsdeltaError, TrainingError
from jsdelta_db.runtime.memory import release_variables
from jsdelta_db.runtime.parent import end_with
from jsdelta_db.runtime.progress import Task as Bar
from jsdelta_db.workbench.workbench import Workbench, open_workbench

END_SECONDS = 4.0  # to give back what it holds, after which a worker is killed

Task = TypeVar("Task", contravariant=True)
Key = int  # of a task, such as a member's position


class Job(Protocol[Task]):
    """Work of one kind; it is pickled on its way to a process, and so are its tasks."""

    def prepare(self, bench: Workbench) -> Callable[[Task], None]:
        """Open what all tasks need, and return the function that does one.

        An error of ours fails its task alone, unless it is one of ``errors.STOPPING_ALL``.
        """


@dataclass(frozen=True, slots=True)
class _Setting(Generic[Task]):
    """All that a worker needs to begin."""

    job: Job[Task]
    workspace: Workspace
    threads: int
    parent: int
    worker: int


@dataclass(frozen=True, slots=True)
class _Worker:
    """A worker process, and what another one in its place would need."""

    process: SpawnProcess
    setting: _Setting[Any]


@dataclass(frozen=True, slots=True)
class _News:
    """A worker's message: a line, a full bar (``label``), or a task's end (``key``).

    Attributes:
        error: that the task failed with; without a key one that stops all work.
    """

    line: str = ""
    label: str = ""
    total: int = 0
    key: Key | None = None
    error: JsdeltaError | OSError | None = None


def run_side_by_side(
    bench: Workbench, job: Job[Task], tasks: Mapping[Key, Task], workers: int
) -> dict[Key, JsdeltaError]:
    """Do all tasks in worker processes, among which this process's threads are divided.

    Returns:
        The errors of the tasks that failed alone.

    Raises:
        JsdeltaError, OSError: one of ``errors.STOPPING_ALL`` was raised in a worker; the others are stopped.
    """
    workers = min(workers, len(tasks))
    threads = max(1, torch.get_num_threads() // workers)
    settings = [
        _Setting(job, bench.workspace, threads, os.getpid(), worker=number) for number in range(workers)
    ]
    with ExitStack() as stack:

        def start(setting: _Setting[Any]) -> tuple[Connection, _Worker]:
            return stack.enter_context(_worker(setting))

        at_hand = dict(start(setting) for setting in settings)
        try:
            return _hand_out(bench, tasks, at_hand, start)
        except BaseException:
            for worker in at_hand.values():
                worker.process.terminate()  # all at once; each is waited for below
            raise


def _hand_out(
    bench: Workbench,
    tasks: Mapping[Key, Any],
    workers: dict[Connection, _Worker],
    start: Callable[[_Setting[Any]], tuple[Connection, _Worker]],
) -> dict[Key, JsdeltaError]:
    """Keep every worker busy until all tasks are done or have failed; replace those that die."""
    errors: dict[Key, JsdeltaError] = {}
    waiting, idle = list(reversed(tasks)), list(workers)
    at_work: dict[Connection, Key] = {}
    while True:
        while idle and waiting:
            connection, key = idle.pop(), waiting.pop()
            connection.send((key, tasks[key]))
            at_work[connection] = key
        if not at_work:
            return errors
        for ready in wait(list(at_work)):
            assert isinstance(ready, Connection)
            try:
                news = ready.recv()
            except (EOFError, ConnectionError):  # it died: killed from outside, most likely
                dead = workers.pop(ready)
                errors[at_work.pop(ready)] = _explain_end(dead.process)
                if waiting:
                    connection, workers[connection] = start(dead.setting)
                    idle.append(connection)
                continue
            _pass_on(bench, news)
            if news.key is not None:
                del at_work[ready]
                idle.append(ready)
                if news.error is not None:
                    errors[news.key] = news.error


def _explain_end(process: SpawnProcess) -> TrainingError:
    process.join()
    code = process.exitcode
    reason = (
        "killed, perhaps for want of memory; try fewer --jobs"
        if code == -signal.SIGKILL
        else f"exit code {code}"
    )
    return TrainingError(f"its process ended before it was trained ({reason})")


def _pass_on(bench: Workbench, news: _News) -> None:
    """Show a worker's message to whoever watches this process.

    Raises:
        JsdeltaError, OSError: the worker met one that stops all work.
    """
    if news.key is None and news.error is not None:
        raise news.error
    if news.label:
        with bench.progress.task(news.label, news.total) as advance:
            advance(news.total, news.line)
    elif news.line:
        bench.report_once(news.line)


@contextmanager
def _worker(setting: _Setting[Any]) -> Iterator[tuple[Connection, _Worker]]:
    """Start a worker; stop it when the block ends, however it ends."""
    context = get_context("spawn")  # a fork would share the threads' locks and the database's connections
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, setting), name="jsdelta-worker", daemon=True)
    with _without_interrupts():
        process.start()
    theirs.close()
    try:
        yield ours, _Worker(process, setting)
        with suppress(ConnectionError):  # it may have died
            ours.send(None)
    except BaseException:
        process.terminate()
        raise
    finally:
        ours.close()
        process.join(END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C in a process that is started here: its parent stops it."""
    resource_tracker.ensure_running()  # else it is started with the first worker, and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Reporter:
    """Progress that is sent to the parent; a bar arrives once it is full."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def report(self, message: str) -> None:
        """Send one line of news."""
        self._connection.send(_News(line=message))

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Bar]:
        """Send the last note when the work is done."""
        last = ""

        def advance(done: int = 1, note: str = "") -> None:
            nonlocal last
            del done
            last = note or last

        yield advance
        self._connection.send(_News(line=last, label=label, total=total))


def _work(connection: Connection, setting: _Setting[Any]) -> None:
    """Do the tasks that come over the pipe, until None comes or the parent is gone."""
    end_with(setting.parent)
    torch.set_num_threads(setting.threads)
    try:
        with open_workbench(setting.workspace, _Reporter(connection), worker=setting.worker) as bench:
            signal.signal(signal.SIGTERM, _stop_quietly)
            work = setting.job.prepare(bench)
            while (received := connection.recv()) is not None:
                key, task = received
                connection.send(_News(key=key, error=_do(work, task)))
    except (JsdeltaError, OSError) as error:  # not this task's alone: the store, a disk, or the data set
        with suppress(OSError):  # the parent may be gone
            connection.send(_News(error=error))
        sys.exit(1)
    except (KeyboardInterrupt, EOFError):
        sys.exit(1)  # stopped by the parent, or left alone


def _do(work: Callable[[Any], None], task: object) -> JsdeltaError | None:
    """Do one task; return the error that it failed with alone.

    Raises:
        JsdeltaError, OSError: it stops all work.
    """
    try:
        work(task)
    except STOPPING_ALL:
        raise
    except JsdeltaError as error:
        release_variables(error)
        return error
    return None


def _stop_quietly(signum: int, frame: FrameType | None) -> None:
    """Stop without a traceback of a database library that was cut short; what is held is given back."""
    del frame
    signal.signal(signum, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    raise KeyboardInterrupt
