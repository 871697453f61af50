"""The workbench of a command, with its progress on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jsdelta_db.config.locations import Workspace

from .progress import TerminalProgress

if TYPE_CHECKING:
    from jsdelta_db.workbench.workbench import Workbench


@contextmanager
def open_bench(
    workspace: Workspace, *, makes_store: bool = False, trusts_code: bool = False
) -> Iterator["Workbench"]:
    """Open a workspace for work.

    Raises:
        StoreNotReadyError: there is no store, and the command makes none.
    """
    from jsdelta_db.store.session import open_store
    from jsdelta_db.workbench.workbench import open_workbench

    if not makes_store:
        open_store(workspace.db_url).close()  # fails where there is none; a workbench would make one
    with open_workbench(workspace, TerminalProgress(), trusts_code=trusts_code) as bench:
        yield bench
