"""Who works on a row, and whether they still live.

On the same host a dead process is seen at once; only for other hosts does the heartbeat's age decide.
"""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from jsdelta_db.store.schema import RUNNING, AttackChunk, Ensemble, Evaluation, EvaluationChunk, Model

if TYPE_CHECKING:
    from jsdelta_db.store.session import Store

HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 60.0  # a heartbeat older than this means that another host's process is gone
LEASED = (Model, Ensemble, AttackChunk, Evaluation, EvaluationChunk)


@lru_cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: process id and start time have to do
        return "-"


def _start_of(pid: int) -> str | None:
    """Return when a process started, in the system's own terms; None if there is no such process."""
    try:
        # Field 22, counted behind the command name, which may hold spaces and parentheses.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )  # noqa: S603, S607
    return "-".join(shown.stdout.split()) or None


def current_owner() -> str:
    """Return this process's name for leases: host, boot, process id and start, tab-separated."""
    pid = os.getpid()
    return "\t".join((socket.gethostname(), _boot_id(), str(pid), _start_of(pid) or "-"))


def is_alive(owner: str | None, heartbeat_at: float | None) -> bool:
    """Tell whether a lease's owner still works."""
    if owner is None:
        return False
    host, boot, pid, start = owner.split("\t")
    if host != socket.gethostname():
        return heartbeat_at is not None and time.time() - heartbeat_at < SILENCE_SECONDS
    return boot == _boot_id() and _start_of(int(pid)) == start


def describe(owner: str | None) -> str:
    """Name a lease's owner for people."""
    if owner is None:
        return "nobody"
    host, _, pid, _ = owner.split("\t")
    return f"process {pid} on {host}"


@contextmanager
def heartbeat(store: "Store") -> Iterator[None]:
    """Keep this process's leases fresh while a block runs, from a thread of its own."""
    stop, owner = threading.Event(), current_owner()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                with store.transaction() as session:
                    for table in LEASED:
                        session.execute(
                            update(table)
                            .where(table.owner == owner, table.status == RUNNING)
                            .values(heartbeat_at=time.time())
                        )
            except SQLAlchemyError:
                continue  # the work itself will meet a store that is gone; a late beat harms nobody

    thread = threading.Thread(target=beat, name="jsdelta-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
