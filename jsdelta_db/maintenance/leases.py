"""Leases of processes on hosts that are gone: released by ``jsdelta doctor --repair``.

A host's heartbeats may come from a clock that is ahead of ours: then they are watched until they would have
changed.
"""

import time
from collections import Counter

from sqlalchemy import select

from jsdelta_db.runtime import leases
from jsdelta_db.runtime.leases import describe, is_alive, is_elsewhere
from jsdelta_db.store import runs
from jsdelta_db.store.clock import read_clock
from jsdelta_db.store.schema import LEASED, PENDING, RUNNING, Lease
from jsdelta_db.workbench.claims import POLL_SECONDS, Wait
from jsdelta_db.workbench.workbench import Workbench


def break_leases(bench: Workbench) -> list[str]:
    """Release the rows of other hosts' processes that have been silent for too long.

    Returns:
        One line for each such process.
    """
    wait = Wait(bench.progress, "watching for a sign of life, for about a minute, from")
    end = time.monotonic() + leases.SILENCE_SECONDS + 2 * POLL_SECONDS
    released: Counter[str] = Counter()
    while True:
        ahead = _release_silent(bench, released)
        if ahead is None or time.monotonic() > end:
            return [
                f"released what {describe(owner)} was working on ({count}): nothing was heard of it"
                for owner, count in released.items()
            ]
        wait.once(ahead)


def _release_silent(bench: Workbench, released: Counter[str]) -> str | None:
    """Release what can be released now; return an owner whose clock is ahead and who may be alive."""
    ahead = None
    with bench.store.transaction() as session:
        now = read_clock(session)
        for table in LEASED:
            for row in session.scalars(select(table).where(table.status == RUNNING)):
                assert isinstance(row, Lease)
                if row.owner is None or not is_elsewhere(row.owner):
                    continue  # of this host: the next command sees at once that a process is gone
                if not is_alive(row.owner, row.heartbeat_at, now):
                    released[row.owner] += 1
                    runs.leave(row, PENDING)
                elif row.heartbeat_at is not None and row.heartbeat_at > now:
                    ahead = row.owner
    return ahead
