"""What the pipeline works with: workspace, store, tracker and a place to report to."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sqlalchemy.exc import SQLAlchemyError

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import StoreError
from jsdelta_db.runtime.progress import Progress, Silent
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.heartbeat import heartbeat
from jsdelta_db.store.runs import release_all
from jsdelta_db.store.session import Store, parse_url, translate
from jsdelta_db.tracking import Connection, NullConnection, Tracker

_owed: set[str] = set()  # stores to which this process could not give back what it had claimed


@dataclass(frozen=True, slots=True)
class Workbench:
    """An open workspace."""

    workspace: Workspace
    store: Store
    tracker: Tracker
    progress: Progress

    def relative(self, path: Path) -> str:
        """Return how rows name a file of the workspace, so that the folder can move."""
        return path.relative_to(self.workspace.root).as_posix()

    def locate(self, uri: str) -> Path:
        """Return where a file named by a row lies now."""
        return self.workspace.root / uri


@contextmanager
def open_workbench(
    workspace: Workspace, progress: Progress | None = None, *, is_tracked: bool = True
) -> Iterator[Workbench]:
    """Open a workspace for work; a SQLite store that is missing is made.

    When the block ends, however it ends, what this process had claimed is given back, and errors of
    the database or the disk come out as one line.

    Args:
        is_tracked: whether MLflow is told; without it rows wait for ``jsdelta doctor --repair``.

    Raises:
        StoreError: the store cannot be reached, written, or is not at this version's revision.
    """
    reporter: Progress = progress or Silent()
    url = parse_url(workspace.db_url)
    store = open_for_writing(workspace.db_url)
    if workspace.db_url in _owed:
        _release(store, workspace.db_url)
    try:
        with heartbeat(store), _terminable():
            connection = Connection(workspace, reporter.say) if is_tracked else NullConnection(workspace)
            yield Workbench(workspace, store, Tracker(connection), reporter)
    except SQLAlchemyError as error:
        raise translate(error, url) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StoreError(
            f"a file cannot be written: {error.strerror or error}{where}; what was finished is kept"
        ) from error
    finally:
        _release(store, workspace.db_url)
        store.close()


def _release(store: Store, url: str) -> None:
    try:
        with store.transaction() as session:
            release_all(session)
        _owed.discard(url)
    except SQLAlchemyError:
        _owed.add(url)  # the store is gone or full: the leases end with this process or at its next opening


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
