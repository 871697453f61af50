"""SIGKILL in the middle of an attack, then the same command: the end is that of an attack never stopped."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from jsdelta_db.config.locations import Workspace
from tests.faults.attacks import ATTACK, CHUNKS, PATIENCE, Watch, finish, start
from tests.reading import ask

SEED = 20260101  # draws the moments
LOOK_AGAIN = 0.2  # seconds between looks at the store, while a file or a commit is waited for
FINISHED = "SELECT count(*) FROM evaluation_chunk WHERE status = 'finished' AND evaluation_id > 2"
COMMITTING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COMMIT%' AND state = 'active'"


@pytest.fixture(scope="module")
def undisturbed(calm, calm_end) -> tuple[dict[str, Any], float]:
    """The end of an attack that nobody stopped, and the seconds that one of its chunks took."""
    uris = ask(calm, "SELECT uri FROM evaluation_chunk WHERE evaluation_id > 2")
    written = [(calm.root / uri).stat().st_mtime for (uri,) in uris]
    assert len(written) == CHUNKS
    return calm_end, (max(written) - min(written)) / (CHUNKS - 1)


def kill(workspace: Workspace, aim: str, progress: float, seconds_a_chunk: float) -> None:
    """Start the attack and kill it in its work.

    Args:
        aim: ``time``, or the next sample ``file`` that is written or ``commit`` that is made.
        progress: from then on; 0 is the moment when the first chunk was claimed, 1.5 is half a chunk's
            time after the first one was finished.
    """
    process, watch = start(workspace, *ATTACK), Watch(workspace)
    try:
        watch.until_claimed(process)
        watch.until(process, lambda: watch.ask(FINISHED)[0][0] >= int(progress), pause=0.005)
        time.sleep(progress % 1 * seconds_a_chunk)
        if aim != "time":
            with _seen(workspace, aim) as is_seen:
                _wait(process, watch, is_seen)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL


def _wait(process, watch: Watch, is_seen: Callable[[], bool]) -> None:
    """Wait for a short moment by looking all the time; if none is left to come, now is as good."""
    while not is_seen():
        assert process.poll() is None, process.communicate()
        if time.monotonic() % LOOK_AGAIN < 0.001 and watch.ask(FINISHED)[0][0] == CHUNKS:
            return


@contextmanager
def _seen(workspace: Workspace, aim: str) -> Iterator[Callable[[], bool]]:
    """Give what sees a file that is being written, or a commit that is being made."""
    if aim == "file":
        yield lambda: any(workspace.runs_dir.glob("*/artifacts/samples/.*.part"))
    elif workspace.db_url.startswith("sqlite"):
        log = workspace.root / "jsdelta.db-wal"

        def written() -> int:
            return log.stat().st_mtime_ns if log.exists() else 0

        before = written()
        yield lambda: written() != before
    else:
        with psycopg.connect(workspace.db_url, autocommit=True) as connection:
            yield lambda: connection.execute(COMMITTING).fetchone() is not None


def kill_and_go_on(capsys, workspace: Workspace, aims: tuple[str, ...], undisturbed, seed: int) -> None:
    """Kill the attack once for each aim, later and later in its work, then let it finish."""
    expected, seconds_a_chunk = undisturbed
    drawn, kept = random.Random(seed), {}
    watch = Watch(workspace)
    for number, aim in enumerate(aims):
        before, after = number * CHUNKS / len(aims), (number + 1) * CHUNKS / len(aims)
        kill(workspace, aim, drawn.uniform(before, after), seconds_a_chunk)
        kept = _finished_files(workspace, watch)
    finish(capsys, workspace, ATTACK, expected)
    after = _finished_files(workspace, watch)
    assert {uri: after[uri] for uri in kept} == kept


def _finished_files(workspace: Workspace, watch: Watch) -> dict[str, int]:
    """Return when the files of finished chunks were written."""
    uris = [
        uri
        for table in ("attack_chunk", "evaluation_chunk")
        for (uri,) in watch.ask(f"SELECT uri FROM {table} WHERE status = 'finished'")
    ]
    return {uri: (workspace.root / uri).stat().st_mtime_ns for uri in uris}


def test_killed_attack_on_sqlite_goes_on_to_the_same_bytes(sqlite_workspace, undisturbed, capsys):
    """Killed at a random moment, and again while it wrote a file: the third call ends as if nothing had been."""
    kill_and_go_on(capsys, sqlite_workspace, ("time", "file"), undisturbed, SEED)


def test_killed_attack_on_postgresql_goes_on_to_the_same_bytes(postgres_workspace, undisturbed, capsys):
    """Killed while it committed, and the server may have or not have the rows: the end is the same."""
    kill_and_go_on(capsys, postgres_workspace, ("commit",), undisturbed, SEED)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(10))
def test_twenty_kills_on_sqlite(case, sqlite_workspace, undisturbed, capsys):
    """Twice killed, at random moments or while it wrote or committed: the end is the same."""
    aims = (("time", "time"), ("time", "commit"), ("file", "time"), ("commit", "file"))[case % 4]
    kill_and_go_on(capsys, sqlite_workspace, aims, undisturbed, SEED + 1 + case)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(5))
def test_five_kills_on_postgresql(case, postgres_workspace, undisturbed, capsys):
    """Killed at a random moment, or while it wrote or committed: the end is the same."""
    aim = ("time", "file", "time", "commit", "time")[case]
    kill_and_go_on(capsys, postgres_workspace, (aim,), undisturbed, SEED + 1 + case)
