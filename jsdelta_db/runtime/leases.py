"""Leases: which process owns a row or run, and whether it is still alive.

On the same host a dead process is detected at once; only for other hosts does the heartbeat's age decide. A
heartbeat from the future, of a host whose clock is ahead, has no age: it counts as long as it changes.
"""

import os
import socket
import subprocess
import time
from functools import lru_cache
from pathlib import Path

UNRETURNED: set[str] = set()  # stores, by URL, to which this process could not give its leases back
SILENCE_SECONDS = 60.0  # a heartbeat older than this means that another host's process is gone
_first_seen: dict[tuple[str, float], float] = {}  # heartbeats from the future, by owner and time


@lru_cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: process id and start time must suffice
        return "-"


def _start_of(pid: int) -> str | None:
    """Return the start time of a process, as the system writes it; None if there is no such process."""
    try:
        # Fields 3 and 22, counted behind the command name, which may hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie has ended
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return None
    # ps is wherever the system keeps it, and the only argument is a number of ours.
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "-".join(shown.stdout.split()) or None


def current_owner() -> str:
    """Return this process as a lease's owner: host, boot, process id and start, tab-separated."""
    pid = os.getpid()
    return "\t".join((socket.gethostname(), _boot_id(), str(pid), _start_of(pid) or "-"))


def is_alive(owner: str | None, heartbeat_at: float | None, now: float | None = None) -> bool:
    """Return whether a lease's owner is still alive.

    Args:
        now: by the clock that heartbeats go by; None for this host's.
    """
    if owner is None:
        return False
    _, boot, pid, start = owner.split("\t")
    if is_elsewhere(owner):
        if heartbeat_at is None:
            return False
        age = (time.time() if now is None else now) - heartbeat_at
        if age < 0:
            age = time.monotonic() - _first_seen.setdefault((owner, heartbeat_at), time.monotonic())
        return age < SILENCE_SECONDS
    return boot == _boot_id() and _start_of(int(pid)) == start


def is_elsewhere(owner: str) -> bool:
    """Return whether a lease's owner is a process of another host."""
    return owner.split("\t")[0] != socket.gethostname()


def has_ended(pid: int) -> bool:
    """Return whether no process of this number runs on this host."""
    return _start_of(pid) is None


def describe(owner: str | None) -> str:
    """Return a lease's owner as text for people."""
    if owner is None:
        return "nobody"
    host, _, pid, _ = owner.split("\t")
    return f"process {pid} on {host}"
