"""Work that was stopped and goes on, samples that are judged again, and MLflow that fails."""

import json
import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.entities import Run

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import CheckpointError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.maintenance.repair import repair
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.ensembles import member
from jsdelta_db.pipeline.evaluation import sources, work
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.samples import chunks
from jsdelta_db.store.session import reading_store
from jsdelta_db.tracking import Connection, Tracker
from jsdelta_db.workbench import workbench
from jsdelta_db.workbench.workbench import open_workbench
from tests.workspaces import DRAWING, Listening, copy_files, tiny_attacks, tiny_recipe

CHUNK_SIZE = 8
CHUNKS = 3  # of at most 24 attempts
LEVEL = 5  # an ε, in 1/255, that the tiny store has not seen
ATTACK_ID = EVALUATION_ID = 3  # what comes after the tiny store's two


def _keep_it_small(patch: pytest.MonkeyPatch) -> None:
    """Make no drawings: they have tests of their own."""
    patch.setattr(work, "draw_bytes", lambda figure: DRAWING)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    _keep_it_small(monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """On batches this small a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _attack(workspace: Workspace, progress=None):
    """Attack at an ε that is new to the store."""
    with open_workbench(workspace, progress, chunk_size=CHUNK_SIZE) as bench:
        return attack_and_score(bench, tiny_attacks(LEVEL, steps=2, images=CHUNKS * CHUNK_SIZE))


def _ask(workspace: Workspace, statement: str, *values) -> list[tuple]:
    with closing(sqlite3.connect(workspace.root / "jsdelta.db")) as connection:
        return connection.execute(statement, values).fetchall()


def _result(workspace: Workspace) -> dict[str, object]:
    """Return all that must not depend on where work stopped: rows, and files byte for byte."""
    result: dict[str, object] = {
        "sample": _ask(workspace, "SELECT * FROM sample WHERE attack_id = ?", ATTACK_ID),
        "score": _ask(workspace, "SELECT * FROM score WHERE evaluation_id = ?", EVALUATION_ID),
        "baseline": _ask(
            workspace, "SELECT * FROM evaluation_baseline WHERE evaluation_id = ?", EVALUATION_ID
        ),
    }
    for table, parent in (("attack", ATTACK_ID), ("evaluation", EVALUATION_ID)):
        rows = _ask(
            workspace,
            f"SELECT position, n_attempts, status, owner, sha256, uri FROM {table}_chunk "
            f"WHERE {table}_id = ? ORDER BY position",
            parent,
        )
        result[f"{table}_chunk"] = [row[:-1] for row in rows]
        result[f"{table} files"] = [
            (Path(row[-1]).name, (workspace.root / row[-1]).read_bytes()) for row in rows
        ]
    return result


def _run_of(workspace: Workspace, run_id: str) -> Run:
    failures: list[str] = []
    run = Connection(workspace, failures.append).attempt(lambda client: client.get_run(run_id))
    assert failures == []
    assert run is not None
    return run


def _run_id(workspace: Workspace) -> str:
    ((run_id,),) = _ask(workspace, "SELECT mlflow_run_id FROM evaluation WHERE id = ?", EVALUATION_ID)
    return run_id


@pytest.fixture(scope="module")
def never_stopped(tiny, tmp_path_factory) -> dict[str, object]:
    """The result of an attack in several chunks that nobody stopped."""
    root = tmp_path_factory.mktemp("never-stopped") / "workspace"
    copy_files(tiny.root, root)
    workspace = Workspace(root, f"sqlite:///{root / 'jsdelta.db'}", None, root / "data")
    with pytest.MonkeyPatch.context() as patch:
        _keep_it_small(patch)
        _attack(workspace)
    result = _result(workspace)
    assert len(result["attack_chunk"]) == CHUNKS
    return result


@contextmanager
def _counted(module, name: str, stop_at: int = -1):
    """Count the calls of a function; press Ctrl-C just before one of them."""
    real, calls = getattr(module, name), []

    def counted(*arguments, **named):
        calls.append(name)
        if len(calls) == stop_at + 1:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, counted)
        yield calls


@pytest.mark.parametrize(
    ("module", "name", "call", "attacked", "scored"),
    [
        (sources, "find_perturbations", 0, 0, 0),
        (sources, "find_perturbations", 2, 2, 2),
        (work, "judge", 1, 2, 1),
        (work, "save_scores", 2, 3, 2),
        (chunks, "write_samples", 1, 1, 1),
        (chunks, "write_scores", 0, 1, 0),
    ],
    ids=[
        "before the first chunk",
        "between chunks",
        "between samples and scores",
        "before the last scores",
        "between a file and its samples",
        "between a file and its scores",
    ],
)
def test_stopped_attack_goes_on_to_the_same_bytes(
    module, name, call, attacked, scored, tiny_copy, never_stopped
):
    """Wherever Ctrl-C comes: what is stored is not made again, and the end is byte for byte the same."""
    with _counted(module, name, stop_at=call), pytest.raises(KeyboardInterrupt):
        _attack(tiny_copy)
    for table, finished in (("attack", attacked), ("evaluation", scored)):
        states = _ask(
            tiny_copy, f"SELECT status, owner FROM {table}_chunk WHERE {table}_id = 3 ORDER BY position"
        )
        assert states == [("finished", None)] * finished + [("pending", None)] * (CHUNKS - finished)
    run_id = _run_id(tiny_copy)
    stopped = _run_of(tiny_copy, run_id)
    assert stopped.info.status == "KILLED"

    with _counted(sources, "find_perturbations") as made, _counted(work, "save_scores") as kept:
        assert _attack(tiny_copy).worked_on == 1

    assert (len(made), len(kept)) == (CHUNKS - attacked, CHUNKS - scored)
    assert _result(tiny_copy) == never_stopped
    assert _run_id(tiny_copy) == run_id
    resumed = _run_of(tiny_copy, run_id)
    assert resumed.info.status == "FINISHED"
    # One parent run a call: the stopped one stays KILLED, the nested run moves to the new one.
    parents = [_run_of(tiny_copy, run.data.tags["mlflow.parentRunId"]) for run in (stopped, resumed)]
    assert [run.info.status for run in parents] == ["KILLED", "FINISHED"]
    with reading_store(tiny_copy.db_url) as connection:
        assert list(find_problems(connection, tiny_copy.root)) == []


def test_killed_process_leaves_work_that_is_taken_over(tiny_copy, never_stopped, monkeypatch):
    """A process that could give nothing back is seen to be gone, and its chunk is done again."""
    with monkeypatch.context() as patch:
        patch.setattr(workbench, "_release", lambda store, url, limit: None)
        with _counted(work, "judge", stop_at=1), pytest.raises(KeyboardInterrupt):
            _attack(tiny_copy)
    gone = current_owner().rpartition("\t")[0] + "\t1"
    with closing(sqlite3.connect(tiny_copy.root / "jsdelta.db")) as connection:
        taken = connection.execute(
            "UPDATE evaluation_chunk SET owner = ? WHERE status = 'running'", (gone,)
        ).rowcount
        connection.commit()
    assert taken == 1
    _attack(tiny_copy)
    assert _result(tiny_copy) == never_stopped


def test_stopped_training_keeps_finished_members(workspace):
    """Ctrl-C in the second member: the first is kept, runs are closed, the next call trains one."""
    recipe = tiny_recipe(members=2, epochs=1)
    with (
        _counted(member, "train", stop_at=1),
        pytest.raises(KeyboardInterrupt),
        open_workbench(workspace) as bench,
    ):
        train_ensemble(bench, recipe)
    assert _ask(workspace, "SELECT status, owner FROM model ORDER BY seed") == [
        ("finished", None),
        ("pending", None),
    ]
    assert _ask(workspace, "SELECT status FROM ensemble") == [("pending",)]
    (kept,) = _ask(workspace, "SELECT checkpoint_sha256, mlflow_run_id FROM model WHERE seed = 0")
    with open_workbench(workspace) as bench:
        assert train_ensemble(bench, recipe).trained == [1]
        runs = bench.tracker.connection.attempt(
            lambda client: client.search_runs([bench.tracker.connection.experiment_id])
        )
    assert _ask(workspace, "SELECT checkpoint_sha256, mlflow_run_id FROM model WHERE seed = 0") == [kept]
    states = sorted((run.info.run_name, run.info.status) for run in runs)
    assert states == [
        ("member seed 0", "FINISHED"),
        ("member seed 1", "FINISHED"),
        ("member seed 1", "KILLED"),
        ("train digits", "FINISHED"),
        ("train digits", "KILLED"),
    ]


def test_samples_judged_by_another_ensemble_are_not_made_again(tiny_copy, monkeypatch):
    """A pair that shares members with the ensemble judges the same samples in an evaluation of its own."""
    with open_workbench(tiny_copy) as bench:
        pair = train_ensemble(bench, tiny_recipe(members=2), name="pair")
    assert pair.trained == []
    samples = _ask(tiny_copy, "SELECT * FROM sample")
    first = _ask(tiny_copy, "SELECT js, member_js FROM score WHERE evaluation_id = 1")

    def forbidden(*arguments) -> None:
        raise AssertionError("the samples are stored")

    monkeypatch.setattr(sources, "find_perturbations", forbidden)
    with open_workbench(tiny_copy) as bench:
        judged = attack_and_score(bench, tiny_attacks(3), RoleRequest(ensemble="pair"))

    assert judged.worked_on == 1
    assert _ask(
        tiny_copy,
        "SELECT evaluation.uid, ensemble.name FROM evaluation JOIN ensemble ON ensemble.id = ensemble_id "
        "WHERE evaluation.id = 3",
    ) == [(judged.evaluations[0], "pair")]
    assert _ask(tiny_copy, "SELECT * FROM sample") == samples
    assert _ask(tiny_copy, "SELECT count(*) FROM attack") == [(2,)]
    second = _ask(tiny_copy, "SELECT js, member_js FROM score WHERE evaluation_id = 3")
    # Seed 1 is the first of the ensemble's two judges and the pair's only one.
    of_seed_1 = np.array([np.frombuffer(member_js, "<f4")[0] for _, member_js in first])
    np.testing.assert_allclose([js for js, _ in second], of_seed_1, atol=1e-6)
    assert [len(member_js) for _, member_js in second] == [4] * len(first)
    with reading_store(tiny_copy.db_url) as connection:
        assert list(find_problems(connection, tiny_copy.root)) == []


def test_altered_samples_are_not_judged(tiny_copy):
    """Samples are what was scored, or they are refused."""
    with open_workbench(tiny_copy) as bench:
        train_ensemble(bench, tiny_recipe(members=2), name="pair")
    ((uri,),) = _ask(tiny_copy, "SELECT uri FROM attack_chunk WHERE attack_id = 1")
    path = tiny_copy.root / uri
    path.write_bytes(path.read_bytes()[:-1])
    with (
        pytest.raises(CheckpointError, match=f"{path.name} is missing or altered"),
        open_workbench(tiny_copy) as bench,
    ):
        attack_and_score(bench, tiny_attacks(3), RoleRequest(ensemble="pair"))


def _logged(workspace: Workspace) -> dict[str, object]:
    """Return what MLflow shows of the third evaluation."""
    run = _run_of(workspace, _run_id(workspace))
    artifacts = Connection(workspace, pytest.fail).attempt(
        lambda client: [file.path for file in client.list_artifacts(run.info.run_id)]
    )
    return {
        "status": run.info.status,
        "eps": "eps" in run.data.params,
        "metrics": sorted(run.data.metrics),
        "artifacts": sorted(artifacts or []),
    }


FULLY_LOGGED = {
    "status": "FINISHED",
    "eps": True,
    "metrics": [
        "bug_fraction_beta_0.01",
        "bug_fraction_beta_0.05",
        "bug_fraction_beta_0.1",
        "success_rate",
    ],
    "artifacts": ["js_delta.png", "samples", "scores"],
}


def test_finished_attack_is_fully_logged(tiny_copy):
    """What the tests below expect of a repair is what an undisturbed run has."""
    _attack(tiny_copy)
    assert _logged(tiny_copy) == FULLY_LOGGED


def test_mlflow_that_can_not_be_opened_fails_nothing(tiny_copy, never_stopped):
    """With MLflow out of reach the work is done all the same, one line says so, a repair logs it."""
    heard = Listening()
    _attack(replace(tiny_copy, tracking_uri="nonsense://nowhere"), heard)
    assert _result(tiny_copy) == never_stopped
    assert len(heard.lines) == 1
    assert "jsdelta doctor --repair" in heard.lines[0]
    assert "\n" not in heard.lines[0]
    assert _run_id(tiny_copy) is None

    ((uid,),) = _ask(tiny_copy, "SELECT uid FROM evaluation WHERE id = 3")
    with open_workbench(tiny_copy) as bench:
        assert repair(bench) == [f"logged evaluation {uid}"]
        assert repair(bench) == []
    assert _logged(tiny_copy) == FULLY_LOGGED
    assert _result(tiny_copy) == never_stopped


@pytest.mark.parametrize("method", ["log_batch", "set_terminated"])
def test_mlflow_that_fails_half_way_is_repaired(method, tiny_copy, never_stopped, monkeypatch):
    """If MLflow goes away in the middle of a run, the repair logs the rest: nothing is lost for good."""

    def fail(*arguments, **named) -> None:
        raise ConnectionError("the server has gone")

    heard = Listening()
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, method, fail)
        _attack(tiny_copy, heard)
    assert _result(tiny_copy) == never_stopped
    assert [line for line in heard.lines if "jsdelta doctor --repair" in line] == heard.lines
    assert len(heard.lines) == 1
    with open_workbench(tiny_copy) as bench:
        repair(bench)
    assert _logged(tiny_copy) == FULLY_LOGGED


@pytest.mark.parametrize("method", ["create_run", "set_terminated"])
def test_training_that_mlflow_did_not_see_is_repaired(method, workspace, monkeypatch):
    """Members trained while MLflow failed are kept, and logged later with their curves."""

    def fail(*arguments, **named) -> None:
        raise ConnectionError("the server has gone")

    heard = Listening()
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, method, fail)
        with open_workbench(workspace, heard) as bench:
            train_ensemble(bench, tiny_recipe(members=1, epochs=1))
    assert _ask(workspace, "SELECT status FROM model") == [("finished",)]
    assert len(heard.lines) == 1
    with open_workbench(workspace) as bench:
        repair(bench)
    ((run_id, uri),) = _ask(workspace, "SELECT mlflow_run_id, checkpoint_uri FROM model")
    run = _run_of(workspace, run_id)
    assert run.info.status == "FINISHED"
    history = json.loads((workspace.root / uri).with_name("history.json").read_text())
    assert {"clean_accuracy", *history[0]} - {"epoch", "pgd_accuracy"} <= set(run.data.metrics)
    assert run.data.params["seed"] == "0"


def test_repair_closes_the_run_of_a_process_that_is_gone(tiny_copy):
    """A run that a killed process left open is closed as KILLED; a living process's is left alone."""
    gone = current_owner().rpartition("\t")[0] + "\t1"
    with open_workbench(tiny_copy) as bench:
        abandoned = bench.tracker.start("abandoned", uid="0" * 16, params={})
        living = bench.tracker.start("living", uid="1" * 16, params={})
        bench.tracker.connection.attempt(
            lambda client: client.set_tag(abandoned.run_id, "jsdelta.owner", gone)
        )
        mended = repair(bench)
        living.finish()
    assert [abandoned.run_id in line for line in mended] == [True]
    assert _run_of(tiny_copy, abandoned.run_id).info.status == "KILLED"


@pytest.mark.parametrize("table", ["model", "evaluation"])
def test_what_was_finished_but_not_logged_is_logged_anew(table, tiny_copy):
    """Killed after the last row and before the run's end: the run is closed, and the row gets a whole one."""
    gone = current_owner().rpartition("\t")[0] + "\t1"
    with open_workbench(tiny_copy) as bench:
        half = bench.tracker.start("half", uid="0" * 16, params={})
        bench.tracker.connection.attempt(lambda client: client.set_tag(half.run_id, "jsdelta.owner", gone))
    with closing(sqlite3.connect(tiny_copy.root / "jsdelta.db")) as connection, connection:
        connection.execute(f"UPDATE {table} SET mlflow_run_id = ? WHERE id = 1", (half.run_id,))
    with open_workbench(tiny_copy) as bench:
        mended = repair(bench)
        assert len(mended) == 2
        assert half.run_id in mended[0]
        assert repair(bench) == []
    ((run_id,),) = _ask(tiny_copy, f"SELECT mlflow_run_id FROM {table} WHERE id = 1")
    run = _run_of(tiny_copy, run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics
    assert _run_of(tiny_copy, half.run_id).info.status == "KILLED"


def test_repair_that_fails_itself_can_be_repeated(tiny_copy, monkeypatch):
    """If MLflow fails again during the repair, the rows stay marked, and the next repair logs them."""

    def fail(*arguments, **named) -> None:
        raise ConnectionError("the server has gone again")

    _attack(replace(tiny_copy, tracking_uri="nonsense://nowhere"))
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "set_terminated", fail)
        with open_workbench(tiny_copy) as bench:
            repair(bench)
    with open_workbench(tiny_copy) as bench:
        repair(bench)
    assert _logged(tiny_copy) == FULLY_LOGGED


def test_server_that_is_down_is_given_up_soon(tiny_copy, monkeypatch):
    """A tracking server that is down costs a few tries, not minutes of waiting; the user's own number wins."""
    for given, expected in ((None, "1"), ("5", "5")):
        if given is None:
            monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
        else:
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", given)
        heard = Listening()
        tracker = Tracker(Connection(replace(tiny_copy, tracking_uri="nonsense://nowhere"), heard.report))
        assert tracker.start("x", uid="0" * 16, params={}).run_id is None
        assert ["jsdelta doctor --repair" in line for line in heard.lines] == [True]
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == expected
