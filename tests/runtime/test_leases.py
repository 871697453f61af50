"""Leases: the process that owns a row, and whether it is still alive."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from jsdelta_db.runtime import leases
from jsdelta_db.runtime.leases import current_owner, describe, is_alive

PRINT_OWNER = "from jsdelta_db.runtime.leases import current_owner; print(current_owner(), end='')"
HOST, BOOT, PID, START = range(4)
ELSEWHERE = "some-other-host.example\tboot\t1\t1"


def _changed(owner: str, field: int, value: str) -> str:
    """Return an owner's name with one of its four fields replaced."""
    fields = owner.split("\t")
    fields[field] = value
    return "\t".join(fields)


@pytest.fixture(scope="module")
def dead_owner() -> str:
    """A real process of this host that has ended."""
    return subprocess.run(
        [sys.executable, "-c", PRINT_OWNER], capture_output=True, text=True, check=True
    ).stdout


def test_own_process_is_alive_without_a_heartbeat():
    """On its own host a process needs no heartbeat to count as alive."""
    assert is_alive(current_owner(), None)


def test_owner_has_host_boot_process_and_start():
    """A lease names host, boot id, process id and start time."""
    host, boot, pid, start = current_owner().split("\t")
    assert int(pid) == os.getpid()
    assert all((host, boot, start))


def test_dead_process_of_this_host_is_dead_at_once(dead_owner):
    """A fresh heartbeat does not keep a process alive that this host knows to be gone."""
    assert not is_alive(dead_owner, time.time())


def test_unreaped_process_is_dead():
    """A killed worker whose parent has not collected it yet works no more."""
    process = subprocess.Popen([sys.executable, "-c", PRINT_OWNER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        owner = process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and left uncollected
        assert not is_alive(owner, time.time())
    finally:
        process.communicate()


@pytest.mark.parametrize(
    ("field", "value"),
    [(BOOT, "00000000-0000-0000-0000-000000000000"), (START, "1"), (PID, str(2**22 + 1))],
    ids=["another boot", "process id used again", "no such process"],
)
def test_same_host_but_another_process_is_dead(field, value):
    """After a reboot, and where a process id was given out again, the owner is gone."""
    assert not is_alive(_changed(current_owner(), field, value), time.time())


@pytest.mark.parametrize(
    ("age", "alive"), [(0.0, True), (59.9, True), (60.1, False), (86400.0, False), (None, False)]
)
def test_other_host_lives_by_its_heartbeat(age, alive, monkeypatch):
    """Another host's process counts as gone after 60 s of silence."""
    monkeypatch.setattr(leases, "time", SimpleNamespace(time=lambda: 1_000_000.0))
    assert is_alive(ELSEWHERE, None if age is None else 1_000_000.0 - age) == alive


def test_a_heartbeat_from_the_future_counts_while_it_changes(monkeypatch):
    """A host whose clock is five hours ahead is alive until its heartbeat has been the same for 60 s of waiting."""
    clock = SimpleNamespace(now=1_000_000.0)
    times = SimpleNamespace(time=lambda: clock.now, monotonic=lambda: clock.now)
    monkeypatch.setattr(leases, "time", times)
    monkeypatch.setattr(leases, "_first_seen", {})
    ahead = clock.now + 5 * 3600
    seen = []
    for beat in (ahead, ahead, ahead + 45, ahead + 45, ahead + 45):
        seen.append(is_alive(ELSEWHERE, beat))
        clock.now += 45
    assert seen == [True, True, True, True, False]


def test_the_servers_clock_decides_where_it_is_given():
    """An age is reckoned by the clock that wrote the heartbeat, not by this host's."""
    assert is_alive(ELSEWHERE, 100.0, now=159.0)
    assert not is_alive(ELSEWHERE, 100.0, now=161.0)


def test_nobody_is_not_alive():
    """A row without an owner is in nobody's hands."""
    assert not is_alive(None, time.time())


@pytest.mark.parametrize(
    ("owner", "shown"), [(None, "nobody"), ("node7\tboot\t4711\t99", "process 4711 on node7")]
)
def test_describe_names_the_owner_for_people(owner, shown):
    """The message to a waiting user names process and host."""
    assert describe(owner) == shown
