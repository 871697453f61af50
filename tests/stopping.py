"""A PostgreSQL server that stops answering, as a machine that hangs does."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """Stop a server's processes while a block runs."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone()
        pids = [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity").fetchall()]
        pids.append(int(Path(folder, "postmaster.pid").read_text().split()[0]))
        pids.remove(connection.info.backend_pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
