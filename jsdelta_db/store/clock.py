"""Clock by which a store's heartbeats go: hosts' clocks differ, and a server has one."""

import time

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session


def read_clock(reader: Session | Connection) -> float:
    """Return the time in epoch seconds: the server's, or this host's where the store is a file."""
    bind = reader.get_bind() if isinstance(reader, Session) else reader
    if bind.dialect.name != "postgresql":
        return time.time()
    return float(reader.scalar(select(func.extract("epoch", func.clock_timestamp()))))  # type: ignore[arg-type]
