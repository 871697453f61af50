"""Workbench: a workspace opened for work, with its store, its tracker and a place to report to."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from jsdelta_db.config.checks import check_device
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import StoreError
from jsdelta_db.runtime.leases import UNRETURNED
from jsdelta_db.runtime.memory import ADVICE, explaining_memory
from jsdelta_db.runtime.patience import Limit, LimitedCalls, NoAnswerError
from jsdelta_db.runtime.progress import Progress, Silent
from jsdelta_db.runtime.reasons import explain
from jsdelta_db.store.addresses import parse_url
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.heartbeat import heartbeat
from jsdelta_db.store.runs import release_all
from jsdelta_db.store.session import Store, translate
from jsdelta_db.tracking import Connection, NullConnection, Tracker
from jsdelta_db.workbench.deletions import Leftovers

if TYPE_CHECKING:
    import torch

GIVING_BACK = Limit(20, tell=20)
GIVING_UP = Limit(4, tell=4)  # after an error or Ctrl-C: the store may be what does not answer


@dataclass(frozen=True, slots=True)
class Workbench:
    """An open workspace.

    Attributes:
        chunk_size: attempts in a chunk of what is planned here; None for as many as the memory takes.
        trusts_code: whether the user agrees to run code that rows name.
        finished_deletions: uids of runs whose deletion a kill had cut short, until this workbench opened.
        worker: number of this process among those that work side by side, each on a card of its own.
    """

    workspace: Workspace
    store: Store
    tracker: Tracker
    progress: Progress
    chunk_size: int | None = None
    trusts_code: bool = False
    finished_deletions: tuple[str, ...] = ()
    worker: int = 0
    _said: set[str] = field(default_factory=set, compare=False, repr=False)

    def device(self, requested: str) -> "torch.device":
        """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

        Raises:
            UsageError: none of these, or a card that is not there or cannot be used.
        """
        from jsdelta_db.runtime.devices import resolve_device

        check_device(requested)
        return resolve_device(requested, self.worker, self.report_once)

    def report_once(self, message: str) -> None:
        """Report what several parts of a run, or several workers, would say alike."""
        if message not in self._said:
            self._said.add(message)
            self.progress.report(message)

    @property
    def leftovers(self) -> Leftovers:
        """What deletions leave behind."""
        return Leftovers(self.workspace, self.store, self.tracker)

    def relative(self, path: Path) -> str:
        """Return the path by which rows name a file of the workspace, so that the folder can move."""
        return path.relative_to(self.workspace.root).as_posix()

    def locate(self, uri: str) -> Path:
        """Return the place of a file that a row names."""
        return self.workspace.root / uri


@contextmanager
def open_workbench(
    workspace: Workspace,
    progress: Progress | None = None,
    *,
    is_tracked: bool = True,
    chunk_size: int | None = None,
    trusts_code: bool = False,
    worker: int = 0,
) -> Iterator[Workbench]:
    """Open a workspace for work; a SQLite store that is missing is made.

    When the block ends, however it ends, what this process had claimed is given back, and errors of
    the database, the disk or the memory are raised as one line.

    Args:
        is_tracked: whether runs are logged; without it rows wait for ``jsdelta doctor --repair``.
        chunk_size, trusts_code, worker: see :class:`Workbench`.

    Raises:
        StoreError: the store cannot be reached, written, or is not at this version's revision.
        OutOfMemoryError: a device's memory or the machine's does not suffice.
    """
    reporter: Progress = progress or Silent()
    url = parse_url(workspace.db_url)
    store = open_for_writing(workspace.db_url)
    if workspace.db_url in UNRETURNED:
        _release(store, workspace.db_url)
    limit = GIVING_UP
    try:
        with heartbeat(store), _terminable():
            connection = Connection(workspace, reporter.report) if is_tracked else NullConnection(workspace)
            tracker = Tracker(connection)
            finished = tuple(Leftovers(workspace, store, tracker).finish()) if is_tracked else ()
            for uid in finished:
                reporter.report(f"finished the deletion of {uid}, which was cut short")
            with explaining_memory("while working in the workspace", f"{ADVICE}; what was finished is kept"):
                yield Workbench(
                    workspace, store, tracker, reporter, chunk_size, trusts_code, finished, worker
                )
        limit = GIVING_BACK
    except SQLAlchemyError as error:
        raise translate(error, url) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StoreError(
            f"a file cannot be read or written{where}: {explain(error, 'check its rights')}; "
            "what was finished is kept"
        ) from error
    finally:
        _release(store, workspace.db_url, limit)
        store.close()


def _release(store: Store, url: str, limit: Limit = GIVING_BACK) -> None:
    def release() -> None:
        with store.transaction() as session:
            release_all(session)

    try:
        LimitedCalls("jsdelta-release").make(release, limit, lambda: None)
        UNRETURNED.discard(url)
    except (SQLAlchemyError, NoAnswerError):
        UNRETURNED.add(url)  # the store is gone or full: the next opening gives back, or this process's end


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C: a scheduler's stop gives back what was claimed, too."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: signals are not ours
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
