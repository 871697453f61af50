"""Several processes that write one store at once, and processes that die between any two steps."""

import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jsdelta_db.config.locations import Workspace
from jsdelta_db.runtime.files import write_atomically
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.schema import PENDING, Attack, AttackChunk, Dataset, Evaluation, EvaluationChunk, Model
from tests.faults.attacks import assert_same_end, end_of
from tests.faults.writers import EVALUATORS, POINTS, Told, run_together, work, work_in_turn
from tests.stores import ENGINES, add_attack, add_dataset, add_evaluation, add_model

WRITERS = {"sqlite": 4, "postgresql": 8}
CHUNKS, CHUNK_SIZE = 12, 32
FEW = 3  # chunks


@pytest.fixture(params=ENGINES)
def workspace(request, tmp_path) -> Workspace:
    """A workspace without a store, on each engine."""
    root = tmp_path / "workspace"
    root.mkdir()
    url = f"sqlite:///{root / 'jsdelta.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    return Workspace(root, url, None, root / "data")


def plan(workspace: Workspace, chunks: int) -> list[str]:
    """Plan two attacks and three evaluations, two of them of the same attack; return the evaluations' uids."""
    upgrade(workspace.db_url)
    store, planned = open_for_writing(workspace.db_url), []
    with store.transaction() as session:
        dataset = add_dataset(session)
        attacked, *judges = (
            _add_model(session, workspace.root, dataset, seed) for seed in range(1 + 2 * EVALUATORS)
        )
        for eps, sets in (
            (3 / 255, (judges[:EVALUATORS], judges[EVALUATORS:])),
            (8 / 255, (judges[:EVALUATORS],)),
        ):
            facts = {"chunk_size": CHUNK_SIZE, "n_attempts": chunks * CHUNK_SIZE, "finished_at": None}
            attack = add_attack(session, attacked, eps=eps, **facts)
            enter_chunks(session, attack)
            for evaluators in sets:
                evaluation = add_evaluation(session, attack, evaluators, status=PENDING, finished_at=None)
                enter_chunks(session, attack, evaluation)
                planned.append(evaluation.uid)
    store.close()
    return planned


def enter_chunks(session: Session, attack: Attack, evaluation: Evaluation | None = None) -> None:
    """Enter chunks as ``plan.insert_chunks`` does, which would import torch."""
    of = {"attack_id": attack.id} if evaluation is None else {"evaluation_id": evaluation.id}
    table = AttackChunk if evaluation is None else EvaluationChunk
    for position in range(attack.n_attempts // CHUNK_SIZE):
        session.add(table(**of, position=position, n_attempts=CHUNK_SIZE))


def _add_model(session: Session, root: Path, dataset: Dataset, seed: int) -> Model:
    """Add a model with a file that stands for its weights."""
    path = root / f"{seed}.pt"
    sha256 = write_atomically(path, b"weights of %d" % seed)
    return add_model(session, dataset, seed, checkpoint_uri=path.name, checkpoint_sha256=sha256)


def alone(root: Path, chunks: int) -> dict[str, Any]:
    """Return what one process makes that nobody disturbs."""
    root.mkdir()
    workspace = Workspace(root, f"sqlite:///{root / 'jsdelta.db'}", None, root / "data")
    work(Told(workspace.db_url, root, plan(workspace, chunks)))
    return end_of(workspace)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, Any]:
    """The end of a few chunks that one process made."""
    return alone(tmp_path_factory.mktemp("undisturbed") / "workspace", FEW)


def test_processes_write_at_once_without_loss(workspace, tmp_path, capsys):
    """Four on a SQLite file, eight on PostgreSQL: no batch fails, each chunk is made once, no row is lost or doubled."""
    uids = plan(workspace, CHUNKS)
    writers = WRITERS["sqlite" if workspace.db_url.startswith("sqlite") else "postgresql"]
    # They begin at different evaluations: chunks of one attack are asked for by the judges of two.
    told = [
        Told(workspace.db_url, workspace.root, uids[number % 3 :] + uids[: number % 3])
        for number in range(writers)
    ]
    ended = run_together(work, told)
    assert [(each.code, each.error, each.had_torch) for each in ended] == [(0, None, False)] * writers
    made = sorted(chunk for each in ended for chunk in each.result)
    assert [chunk for chunk in made if chunk[2] == "scores"] == [
        (uid, position, "scores") for uid in sorted(uids) for position in range(CHUNKS)
    ]
    # Two evaluations share the first attack's samples: whoever came first made them.
    first, second = (
        [p for uid, p, kind in made if kind == "samples" and (uid == uids[2]) == of] for of in (False, True)
    )
    assert sorted(first) == sorted(second) == list(range(CHUNKS))
    assert sum(1 for each in ended if each.result) > 1
    assert_same_end(capsys, workspace, alone(tmp_path / "alone", CHUNKS))


def test_process_that_dies_at_any_step_is_taken_over(workspace, undisturbed, capsys):
    """Eleven processes die one after the other, each a step later; the next goes on at once, and the end is the same."""
    uids = plan(workspace, FEW)
    dying = [Told(workspace.db_url, workspace.root, uids, point, may_wait=False) for point in POINTS]
    (ended,) = run_together(
        work_in_turn, [[*dying, Told(workspace.db_url, workspace.root, uids, may_wait=False)]]
    )
    assert (ended.error, ended.had_torch) == (None, False)
    assert ended.result == [-signal.SIGKILL] * len(POINTS) + [0]
    assert_same_end(capsys, workspace, undisturbed)
