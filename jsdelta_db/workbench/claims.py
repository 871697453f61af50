"""Claims: one process at a time makes what a row stands for; the others wait for it."""

import time

from jsdelta_db.runtime.leases import describe
from jsdelta_db.runtime.progress import Progress
from jsdelta_db.store import runs
from jsdelta_db.store.clock import read_clock
from jsdelta_db.store.runs import LeasedRow
from jsdelta_db.store.schema import FINISHED
from jsdelta_db.workbench.workbench import Workbench

POLL_SECONDS = 1.0


class Wait:
    """A wait for another process: announced once, then a second at a time.

    Args:
        reason: the announcement, up to the name of the process.
    """

    def __init__(self, progress: Progress, reason: str) -> None:
        self._progress, self._reason = progress, reason
        self._is_said = False

    def once(self, owner: str | None) -> None:
        """Wait for a second."""
        if not self._is_said:
            self._progress.report(f"{self._reason} {describe(owner)}; waiting")
            self._is_said = True
        time.sleep(POLL_SECONDS)


def claim_or_wait(bench: Workbench, row: LeasedRow, reason: str) -> LeasedRow:
    """Claim the work on a row, or wait while a live process has it.

    Args:
        reason: of a wait, such as ``member seed 0 is being trained by``.

    Returns:
        The row as it is now: finished, by whomever, or this process's to finish.
    """
    wait = Wait(bench.progress, reason)
    while True:
        with bench.store.transaction() as session:
            runs.serialize(session, row.config_hash)
            current = session.get_one(type(row), row.id, populate_existing=True)
            if current.status == FINISHED:
                return current
            now = read_clock(session)
            if runs.is_free(current, now):
                runs.take(current, now)
                return current
        wait.once(current.owner)
