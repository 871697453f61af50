"""Place: a workspace that is opened for the length of a call, or held open for a block."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Self

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import UsageError
from jsdelta_db.runtime.progress import Progress
from jsdelta_db.store.reading import Reader, reading
from jsdelta_db.workbench.workbench import Workbench, open_workbench


class Place:
    """A workspace's folder, with what its work reports to.

    Work opens the workspace and gives back what it claimed when it ends. In a ``with`` block the workspace
    stays open from one piece of work to the next, which saves a second each time.
    """

    def __init__(self, location: Workspace, progress: Progress, *, trusts_code: bool = False) -> None:
        self.location = location
        self._progress = progress
        self._trusts_code = trusts_code
        self._bench: Workbench | None = None
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Open the workspace for work; a SQLite store that is missing is made."""
        if self._bench is not None:
            raise UsageError(f"the workspace {self.location.root} is open already: close it first")
        self._bench = self._held.enter_context(self._opened())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Give back what was claimed."""
        self._bench = None
        return self._held.__exit__(kind, error, trace)

    def _opened(self) -> AbstractContextManager[Workbench]:
        return open_workbench(self.location, self._progress, trusts_code=self._trusts_code)

    @contextmanager
    def working(self) -> Iterator[Workbench]:
        """Open the workspace for one piece of work, unless a block holds it open."""
        if self._bench is not None:
            yield self._bench
            return
        with self._opened() as bench:
            yield bench

    def reading(self) -> AbstractContextManager[Reader]:
        """Open the store for questions; makes nothing."""
        return reading(self.location.db_url)

    def __repr__(self) -> str:
        """Name the folder."""
        return f"<jsdelta workspace {self.location.root}>"


def check_workspace(workspace: object) -> None:
    """Check that a caller hands over a workspace, not its folder's name.

    Raises:
        UsageError: says where one comes from.
    """
    if not isinstance(workspace, Place | Workbench):
        raise UsageError(
            f"workspace {workspace!r} is not one: must come from jsdelta_db.open_workspace(folder)"
        )


@contextmanager
def working_in(workspace: Place | Workbench) -> Iterator[Workbench]:
    """Open a workspace for one piece of work, unless it is open."""
    if isinstance(workspace, Workbench):
        yield workspace
        return
    with workspace.working() as bench:
        yield bench
