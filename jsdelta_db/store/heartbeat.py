"""Heartbeat: keeps a process's leases fresh, since other hosts cannot see whether it is alive."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.store.clock import read_clock
from jsdelta_db.store.schema import LEASED, RUNNING
from jsdelta_db.store.session import Store

HEARTBEAT_SECONDS = 15.0
JOIN_SECONDS = 0.5  # for a beat on its way; one that gets no answer does not hold up the end


@contextmanager
def heartbeat(store: Store) -> Iterator[None]:
    """Renew this process's leases from a thread while a block runs."""
    stop, owner = threading.Event(), current_owner()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                with store.transaction() as session:
                    for table in LEASED:
                        session.execute(
                            update(table)
                            .where(table.owner == owner, table.status == RUNNING)
                            .values(heartbeat_at=read_clock(session))
                        )
            except SQLAlchemyError:
                continue  # the work itself fails where the store is gone; a late beat does no harm

    thread = threading.Thread(target=beat, name="jsdelta-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_SECONDS)
