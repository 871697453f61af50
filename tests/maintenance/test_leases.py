"""Work that processes of other hosts hold: released by a repair once those are silent."""

import time

import pytest

from jsdelta_db.maintenance import leases as maintenance
from jsdelta_db.maintenance.leases import break_leases
from jsdelta_db.runtime import leases
from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.store.schema import PENDING, RUNNING, Model
from jsdelta_db.workbench import claims
from jsdelta_db.workbench.claims import claim_or_wait
from jsdelta_db.workbench.workbench import open_workbench
from tests.stores import add_dataset, add_model
from tests.workspaces import Listening

OWNERS = {"silent": "old-host\tboot\t1\t1", "ahead": "fast-host\tboot\t2\t2", "own": current_owner()}


@pytest.fixture
def bench(workspace, monkeypatch):
    """A workbench that waits a third of a second for a sign of life, instead of a minute."""
    monkeypatch.setattr(leases, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(maintenance, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.05)
    with open_workbench(workspace, Listening()) as opened:
        yield opened


def _hold(bench, **heartbeats: float) -> dict[str, Model]:
    """Add a model that each owner works on."""
    with bench.store.transaction() as session:
        dataset = add_dataset(session)
        return {
            name: add_model(
                session, dataset, seed, status=RUNNING, owner=OWNERS[name], heartbeat_at=time.time() + age
            )
            for seed, (name, age) in enumerate(heartbeats.items())
        }


def test_a_repair_releases_what_silent_hosts_hold(bench):
    """Stale leases go at once, those from the future after they were watched; this host's processes are left alone."""
    held = _hold(bench, silent=-3600, ahead=5 * 3600, own=0)
    assert break_leases(bench) == [
        "released what process 1 on old-host was working on (1): nothing was heard of it",
        "released what process 2 on fast-host was working on (1): nothing was heard of it",
    ]
    with bench.store.read_session() as session:
        now = {name: session.get_one(Model, row.id) for name, row in held.items()}
    assert {name: row.status for name, row in now.items()} == {
        "silent": PENDING,
        "ahead": PENDING,
        "own": RUNNING,
    }
    assert bench.progress.lines == [
        "watching for a sign of life, for about a minute, from process 2 on fast-host; waiting"
    ]
    assert break_leases(bench) == []


def test_a_lease_from_the_future_is_taken_over_in_the_end(bench):
    """Work that a host with a fast clock left does not wait for that host's time to come."""
    row = _hold(bench, ahead=5 * 3600)["ahead"]
    assert claim_or_wait(bench, row, "member is being trained by").owner == current_owner()
