"""Members trained side by side: a few worker processes, each with a workbench of its own.

The parent hands a worker one member at a time over a pipe of the worker's own, so that a worker that
dies takes nothing with it but the member it had.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

import torch

from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.locations import Workspace
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import JsdeltaError, ModelError, TrainingError
from jsdelta_db.pipeline.ensembles.member import train_member
from jsdelta_db.runtime.progress import Task
from jsdelta_db.store.schema import FINISHED, Model
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.datasets import open_dataset
from jsdelta_db.workbench.workbench import Workbench, open_workbench

END_SECONDS = 20.0  # to give back what it holds, after which a worker is killed
PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclass(frozen=True, slots=True)
class _Member:
    """One member to train."""

    position: int
    model_id: int
    config: TrainConfig


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a worker needs to begin."""

    workspace: Workspace
    dataset: str
    check: AttackConfig | None
    run_id: str | None
    folder: Path
    threads: int
    parent: int


@dataclass(frozen=True, slots=True)
class _News:
    """What a worker tells: a line, a finished bar (``label``), or a member's end (``position``)."""

    line: str = ""
    label: str = ""
    total: int = 0
    position: int | None = None
    error: JsdeltaError | None = None


def train_side_by_side(
    bench: Workbench,
    rows: Sequence[Model],
    recipe: Recipe,
    check: AttackConfig | None,
    run: RunLog,
    jobs: int,
) -> list[Model | JsdeltaError]:
    """Train members in worker processes, among which this process's threads are divided.

    Returns:
        In the members' order, each one's row or why it could not be trained.
    """
    todo = [
        _Member(position, row.id, recipe.of_member(position))
        for position, row in enumerate(rows)
        if row.status != FINISHED
    ]
    jobs = min(jobs, len(todo))
    setting = _Setting(
        bench.workspace, recipe.train.dataset, check, run.run_id, run.folder,
        threads=max(1, torch.get_num_threads() // jobs), parent=os.getpid(),
    )  # fmt: skip
    errors: dict[int, JsdeltaError] = {}
    with ExitStack() as stack:
        workers = {}
        for _ in range(jobs):
            connection, process = stack.enter_context(_worker(setting))
            workers[connection] = process
        try:
            _hand_out(bench, todo, workers, errors)
        except BaseException:
            for process in workers.values():
                process.terminate()  # all at once; each is waited for below
            raise
    with bench.store.transaction() as session:
        done = [session.get_one(Model, row.id, populate_existing=True) for row in rows]
    return [errors.get(position, row) for position, row in enumerate(done)]


def _hand_out(
    bench: Workbench,
    todo: list[_Member],
    workers: dict[Connection, SpawnProcess],
    errors: dict[int, JsdeltaError],
) -> None:
    """Keep every worker busy until all members are done or have failed."""
    waiting, at_work = list(reversed(todo)), {}
    idle = list(workers)
    while True:
        while idle and waiting:
            connection, member = idle.pop(), waiting.pop()
            connection.send(member)
            at_work[connection] = member
        if not at_work:
            return
        for ready in wait(list(at_work)):
            assert isinstance(ready, Connection)
            try:
                news = ready.recv()
            except (EOFError, ConnectionError):  # it died: killed from outside, most likely
                errors[at_work.pop(ready).position] = _explain_end(workers[ready])
                continue
            _tell(bench, news)
            if news.position is not None:
                del at_work[ready]
                idle.append(ready)
                if news.error is not None:
                    errors[news.position] = news.error
        if waiting and not at_work and not idle:  # no worker is left
            errors.update({member.position: TrainingError("no worker was left") for member in waiting})
            return


def _explain_end(process: SpawnProcess) -> TrainingError:
    process.join()
    code = process.exitcode
    reason = (
        "killed, perhaps for want of memory; try fewer --jobs"
        if code == -signal.SIGKILL
        else f"exit code {code}"
    )
    return TrainingError(f"its process ended before it was trained ({reason})")


def _tell(bench: Workbench, news: _News) -> None:
    if news.label:
        with bench.progress.task(news.label, news.total) as advance:
            advance(news.total, news.line)
    elif news.line:
        bench.progress.say(news.line)


@contextmanager
def _worker(setting: _Setting) -> Iterator[tuple[Connection, SpawnProcess]]:
    """Start a worker; stop it when the block ends, however it ends."""
    context = get_context("spawn")  # a fork would share the threads' locks and the database's connections
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, setting), name="jsdelta-worker", daemon=True)
    with _without_interrupts():
        process.start()
    theirs.close()
    try:
        yield ours, process
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
    """Let a process that is started here never see Ctrl-C: its parent stops it."""
    resource_tracker.ensure_running()  # else it is started with the first worker, and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Reporter:
    """Sends what the pipeline says to the parent; a bar arrives once it is full."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def say(self, message: str) -> None:
        """Pass one line of news on."""
        self._connection.send(_News(line=message))

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Task]:
        """Pass the last note on when the work is done."""
        last = ""

        def advance(done: int = 1, note: str = "") -> None:
            nonlocal last
            del done
            last = note or last

        yield advance
        self._connection.send(_News(line=last, label=label, total=total))


def _work(connection: Connection, setting: _Setting) -> None:
    """Train the members that come over the pipe, until None comes or the parent is gone."""
    _end_with(setting.parent)
    torch.set_num_threads(setting.threads)
    try:
        with open_workbench(setting.workspace, _Reporter(connection)) as bench:
            signal.signal(signal.SIGTERM, _stop_quietly)
            dataset, _ = open_dataset(bench, setting.dataset)
            parent = bench.tracker.reattach(setting.run_id, setting.folder)
            while (member := connection.recv()) is not None:
                with bench.store.transaction() as session:
                    row = session.get_one(Model, member.model_id)
                error = None
                try:
                    train_member(bench, row, dataset, member.config, parent, setting.check)
                except (TrainingError, ModelError) as failed:
                    error = failed
                connection.send(_News(position=member.position, error=error))
    except JsdeltaError as error:  # not this member's alone: the store, or the data set
        connection.send(_News(line=str(error)))
        sys.exit(1)
    except (KeyboardInterrupt, EOFError, ConnectionError):
        sys.exit(1)  # stopped by the parent, or left alone


def _stop_quietly(signum: int, frame: FrameType | None) -> None:
    """Give back what is held, and say nothing: what is cut short in a database's library logs a traceback."""
    del frame
    signal.signal(signum, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    raise KeyboardInterrupt


def _end_with(parent: int) -> None:
    """Have this process stopped when its parent dies; elsewhere than on Linux it ends after its member."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
