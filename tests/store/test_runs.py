"""Run rows: found or made, claimed, given back, finished."""

import threading
import time
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

from jsdelta_db.errors import StoreError
from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.store import clock, runs
from jsdelta_db.store import heartbeat as heartbeat_module
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.heartbeat import heartbeat
from jsdelta_db.store.runs import ChunkWork
from jsdelta_db.store.schema import (
    FAILED,
    FINISHED,
    PENDING,
    RUNNING,
    Attack,
    AttackChunk,
    Ensemble,
    Evaluation,
    EvaluationChunk,
    Model,
)
from tests.stores import (
    ELSEWHERE,
    ENGINES,
    START,
    add_attack,
    add_chunks,
    add_dataset,
    add_evaluation,
    add_model,
    add_samples,
    add_scores,
    new_store,
)

ROWS = [(index, 0, 1, 1, 0.05) for index in range(6)]


@pytest.fixture(scope="module", params=ENGINES)
def store(request, tmp_path_factory):
    """A store on each engine; every test makes rows of its own."""
    with new_store(request, tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path):
    """An empty SQLite store."""
    opened = open_for_writing(f"sqlite:///{tmp_path / 'jsdelta.db'}")
    yield opened
    opened.close()


@pytest.fixture
def planned(store) -> tuple[Attack, Evaluation]:
    """An attack of six attempts and its evaluation, in three pending chunks."""
    with store.transaction() as session:
        dataset = add_dataset(session)
        attack = add_attack(session, add_model(session, dataset, 0))
        evaluation = add_evaluation(
            session, attack, [add_model(session, dataset, 1)], status=PENDING, finished_at=None
        )
        attack.finished_at = None
        add_chunks(session, attack, evaluation, 3)
    return attack, evaluation


def _claim(store, planned):
    with store.transaction() as session:
        return runs.claim_chunk(session, *planned)


def _set(store, planned, table, position, **values) -> None:
    parent = planned[0] if table is AttackChunk else planned[1]
    with store.transaction() as session:
        chunk = session.get_one(table, (parent.id, position))
        for name, value in values.items():
            setattr(chunk, name, value)


def _states(store, planned) -> list[tuple[str, str]]:
    attack, evaluation = planned
    with store.transaction() as session:
        return [
            (
                session.get_one(AttackChunk, (attack.id, position)).status,
                session.get_one(EvaluationChunk, (evaluation.id, position)).status,
            )
            for position in range(3)
        ]


def test_two_starters_share_one_row(store):
    """Threads that plan the same configuration at once get the same row."""
    with store.transaction() as session:
        dataset = add_dataset(session)
    start, found = threading.Barrier(4), []
    key = f"{dataset.id:x}".zfill(64)

    def plan() -> None:
        start.wait()
        with store.transaction() as session:
            row = runs.find_or_create(
                session, Ensemble, key, lambda: Ensemble(name="shared", dataset_id=dataset.id)
            )
            found.append(row.uid)

    threads = [threading.Thread(target=plan) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    with store.transaction() as session:
        assert session.scalar(select(func.count()).where(Ensemble.config_hash == key)) == 1


def test_another_configuration_gets_another_row(store):
    """A row is recognised by its configuration's hash and nothing else."""
    with store.transaction() as session:
        dataset = add_dataset(session)
        first, second = (
            runs.find_or_create(session, Ensemble, key, lambda: Ensemble(name="same", dataset_id=dataset.id))
            for key in (f"one of {dataset.uid}", f"two of {dataset.uid}")
        )
    assert first.uid != second.uid
    assert len(first.uid) == 16


def test_builtin_dataset_has_the_same_uid_in_every_store(store, sqlite_store):
    """A builtin data set's uid is the start of its fingerprint; asked for again it is the same row."""
    fingerprint = "fe" * 32
    rows = []
    for opened in (store, store, sqlite_store):
        with opened.transaction() as session:
            rows.append(runs.ensure_dataset(session, name="toy", classes=["a", "b"], fingerprint=fingerprint))
    assert [row.uid for row in rows] == ["fefefefefefefefe"] * 3
    assert rows[0].id == rows[1].id


@pytest.mark.parametrize(
    ("status", "owner", "free"),
    [
        (PENDING, None, True),
        (FAILED, None, True),
        (FINISHED, None, False),
        (RUNNING, "own", False),
        (RUNNING, "dead", True),
        (RUNNING, "elsewhere", False),
        (RUNNING, "silent", True),
    ],
)
def test_is_free(status, owner, free):
    """A row is free if it is unfinished and no live process works on it."""
    dead = current_owner().rpartition("\t")[0] + "\t1"  # the process id was given out again
    owners = {None: None, "own": current_owner(), "dead": dead, "elsewhere": ELSEWHERE, "silent": ELSEWHERE}
    beat = time.time() - (3600 if owner == "silent" else 0)
    assert runs.is_free(Model(status=status, owner=owners[owner], heartbeat_at=beat), time.time()) == free


def test_chunks_are_claimed_in_order(store, planned):
    """Each claim takes the first free chunk; what this process holds is not handed out again."""
    claims = [_claim(store, planned) for _ in range(4)]
    assert claims == [*(ChunkWork(position, to_attack=True) for position in range(3)), current_owner()]
    assert _states(store, planned) == [(RUNNING, RUNNING)] * 3


def test_nothing_is_left_when_all_chunks_are_finished(store, planned):
    """A finished evaluation has no work."""
    for position in range(3):
        for table in (AttackChunk, EvaluationChunk):
            _set(store, planned, table, position, status=FINISHED)
    assert _claim(store, planned) is None


@pytest.mark.parametrize("table", [AttackChunk, EvaluationChunk])
def test_chunk_in_live_hands_is_passed_over(table, store, planned):
    """Free chunks behind a busy one are worked on first; then its owner is waited for."""
    _set(store, planned, table, 0, status=RUNNING, owner=ELSEWHERE, heartbeat_at=time.time())
    claims = [_claim(store, planned) for _ in range(2)]
    assert claims == [ChunkWork(1, to_attack=True), ChunkWork(2, to_attack=True)]
    for position in (1, 2):
        _set(store, planned, EvaluationChunk, position, status=FINISHED, owner=None)
    assert _claim(store, planned) == ELSEWHERE


def test_dead_owners_chunk_is_taken_over(store, planned):
    """What a process left that is gone is the first thing to be done again."""
    dead = current_owner().rpartition("\t")[0] + "\t1"
    for table in (AttackChunk, EvaluationChunk):
        _set(store, planned, table, 0, status=RUNNING, owner=dead, heartbeat_at=time.time())
    assert _claim(store, planned) == ChunkWork(0, to_attack=True)


def test_attacked_chunk_is_only_scored(store, planned):
    """Samples that were stored before the stop are not made again."""
    _set(store, planned, AttackChunk, 0, status=FINISHED)
    assert _claim(store, planned) == ChunkWork(0, to_attack=False)
    assert _states(store, planned)[0] == (FINISHED, RUNNING)


def test_samples_in_the_making_elsewhere_are_waited_for(store, planned):
    """Another evaluation of the same attack waits for samples that are just being made."""
    attack, _ = planned
    _claim(store, planned)
    with store.transaction() as session:
        second = add_evaluation(session, session.get_one(Attack, attack.id), status=PENDING)
        session.add_all(
            EvaluationChunk(evaluation_id=second.id, position=position, n_attempts=2) for position in range(3)
        )
    claims = [_claim(store, (attack, second)) for _ in range(3)]
    assert claims == [ChunkWork(1, to_attack=True), ChunkWork(2, to_attack=True), current_owner()]
    assert _states(store, (attack, second))[0] == (RUNNING, PENDING)


def test_release_all_gives_back_only_what_is_ours(store, planned):
    """On leaving, a process gives back its own unfinished rows and nobody else's."""
    _claim(store, planned)
    _set(store, planned, AttackChunk, 1, status=RUNNING, owner=ELSEWHERE, heartbeat_at=time.time())
    _set(store, planned, AttackChunk, 2, status=FINISHED)
    with store.transaction() as session:
        runs.release_all(session)
    assert _states(store, planned) == [(PENDING, PENDING), (RUNNING, PENDING), (FINISHED, PENDING)]
    with store.transaction() as session:
        assert session.get_one(AttackChunk, (planned[0].id, 0)).owner is None
        assert session.get_one(AttackChunk, (planned[0].id, 1)).owner == ELSEWHERE


def test_heartbeat_keeps_our_leases_fresh_and_no_others(store, planned, monkeypatch):
    """While a block runs, this process's rows get new heartbeats."""
    monkeypatch.setattr(heartbeat_module, "HEARTBEAT_SECONDS", 0.01)
    _claim(store, planned)
    _set(store, planned, AttackChunk, 0, heartbeat_at=1.0)
    _set(store, planned, AttackChunk, 1, status=RUNNING, owner=ELSEWHERE, heartbeat_at=1.0)

    def beat(position: int) -> float | None:
        with store.transaction() as session:
            return session.get_one(AttackChunk, (planned[0].id, position)).heartbeat_at

    deadline = time.monotonic() + 10
    with heartbeat(store):
        while beat(0) == 1.0 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert beat(0) > time.time() - 60
    assert beat(1) == 1.0


def test_finished_chunk_is_in_nobodys_hands(store, planned):
    """A chunk that is done names its file and no owner."""
    _claim(store, planned)
    with store.transaction() as session:
        chunk = session.get_one(AttackChunk, (planned[0].id, 0))
        runs.finish_chunk(chunk, uri="samples/chunk-00000.npz", sha256="ab", digest="1:0")
    assert (chunk.status, chunk.owner, chunk.heartbeat_at) == (FINISHED, None, None)
    assert (chunk.uri, chunk.sha256) == ("samples/chunk-00000.npz", "ab")


@pytest.mark.parametrize(("samples", "scores", "judged"), [(0, 0, 0), (6, 5, 5), (5, 6, 5), (0, 6, 0)])
def test_finish_evaluation_refuses_missing_rows(samples, scores, judged, store, planned):
    """An evaluation with fewer scores than attempts, or scores without a sample, is not called finished."""
    attack, evaluation = planned
    with store.transaction() as session:
        add_samples(session, attack, ROWS[:samples])
        add_scores(session, evaluation, ROWS[:scores])
    with (
        pytest.raises(
            StoreError,
            match=f"{evaluation.uid} has {scores} scores, {judged} of them with their sample; 6 were planned.*"
            "jsdelta db check",
        ),
        store.transaction() as session,
    ):
        runs.finish_evaluation(session, attack, evaluation)
    with store.transaction() as session:
        assert session.get_one(Evaluation, evaluation.id).status == PENDING
        assert session.get_one(Attack, attack.id).finished_at is None


def test_finish_evaluation_marks_attack_and_evaluation(store, planned):
    """With all rows there, both are finished and in nobody's hands."""
    attack, evaluation = planned
    with store.transaction() as session:
        add_samples(session, attack, ROWS)
        add_scores(session, evaluation, ROWS)
    with store.transaction() as session:
        runs.finish_evaluation(session, attack, evaluation)
    with store.transaction() as session:
        done = session.get_one(Evaluation, evaluation.id)
        assert (done.status, done.owner) == (FINISHED, None)
        assert done.finished_at is not None
        assert session.get_one(Attack, attack.id).finished_at is not None


def test_second_evaluation_leaves_the_attacks_time_as_it_was(store, planned):
    """An attack is finished when its samples are, not when they are judged again."""
    attack, evaluation = planned
    with store.transaction() as session:
        add_samples(session, attack, ROWS)
        add_scores(session, evaluation, ROWS)
        session.get_one(Attack, attack.id).finished_at = START
    with store.transaction() as session:
        runs.finish_evaluation(session, attack, evaluation)
    with store.transaction() as session:
        assert session.get_one(Attack, attack.id).finished_at.replace(tzinfo=START.tzinfo) == START


def test_heartbeats_go_by_the_servers_clock(store, planned, monkeypatch):
    """On PostgreSQL a claim is stamped in the server's time, whatever this host's clock says; on SQLite in this host's."""
    monkeypatch.setattr(clock, "time", SimpleNamespace(time=lambda: 5.0))
    _claim(store, planned)
    with store.transaction() as session:
        stamped = session.get_one(AttackChunk, (planned[0].id, 0)).heartbeat_at
        assert runs.is_free(session.get_one(AttackChunk, (planned[0].id, 0)), 5.0) is False
    assert (stamped == 5.0) == store.is_sqlite
