"""What MLflow shows of a training and an attack: runs, nesting, parameters, curves, files."""

import hashlib
import sqlite3
import subprocess
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from jsdelta_db.config.evaluation import DEFAULT_BETAS
from jsdelta_db.config.locations import Workspace
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.store.session import reading_store
from jsdelta_db.tracking import EXPERIMENT, Connection, NullConnection, Tracker
from jsdelta_db.tracking.connection import LOG_LATER
from tests.workspaces import TINY_STEPS

PARENT_TAG = "mlflow.parentRunId"


@pytest.fixture(scope="module")
def client(tiny):
    """MLflow as a bare `mlflow ui` in the workspace would open it."""
    return MlflowClient(f"sqlite:///{tiny.root / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(client):
    """All runs of the tiny store, by name."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


@pytest.fixture
def select(tiny):
    """Ask the tiny store in SQL."""
    connection = sqlite3.connect(tiny.root / "jsdelta.db")
    yield lambda statement: connection.execute(statement).fetchall()
    connection.close()


def history(client, run, key):
    """Return a metric's values by step."""
    return {point.step: point.value for point in client.get_metric_history(run.info.run_id, key)}


def files(client, run, folder=None):
    """Return the paths of a run's artifacts, without folders."""
    found = client.list_artifacts(run.info.run_id, folder)
    return {
        path for each in found for path in (files(client, run, each.path) if each.is_dir else {each.path})
    }


MEMBERS = [f"member seed {seed}" for seed in range(3)]
ATTACKS = {f"attack on seed 0, ε = {level}/255": level for level in (3, 8)}


def test_one_run_for_the_training_and_one_for_the_attack_call(runs):
    """Seven runs: one parent a call, one nested run a member and an attack; all of them finished."""
    assert set(runs) == {"train digits", *MEMBERS, "attack digits", *ATTACKS}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


@pytest.mark.parametrize(
    ("name", "parent"),
    [*((name, "train digits") for name in MEMBERS), *((name, "attack digits") for name in ATTACKS)],
)
def test_runs_are_nested(name, parent, runs):
    """A member's run belongs to the training, an attack's to the call."""
    assert runs[name].data.tags[PARENT_TAG] == runs[parent].info.run_id
    assert PARENT_TAG not in runs[parent].data.tags


def test_rows_name_their_runs(runs, select):
    """Models, ensembles, attacks and evaluations hold their run's id, and the run holds the row's uid."""
    rows = dict(select("SELECT 'member seed ' || seed, mlflow_run_id FROM model"))
    rows |= dict(select("SELECT 'train ' || name, mlflow_run_id FROM ensemble"))
    for table in ("attack", "evaluation"):
        join = "" if table == "attack" else "JOIN attack ON attack.id = attack_id"
        found = select(
            f"SELECT 'attack on seed 0, ε = ' || CAST(round(eps * 255) AS INTEGER) || '/255', {table}.mlflow_run_id"
            f" FROM {table} {join}"
        )
        assert dict(found) == {name: runs[name].info.run_id for name in ATTACKS}
    assert rows == {name: runs[name].info.run_id for name in rows}
    uids = {
        uid
        for (uid,) in select(
            "SELECT uid FROM model UNION SELECT uid FROM ensemble UNION SELECT uid FROM evaluation"
        )
    }
    assert {run.data.tags["jsdelta.uid"] for run in runs.values()} >= uids


def test_every_run_says_who_made_it_and_from_what(runs):
    """Source, user and owner are tags; the commit is too, where the current folder is a checkout."""
    shown = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    for run in runs.values():
        tags = run.data.tags
        assert tags["mlflow.source.name"].startswith("jsdelta")
        assert tags["mlflow.source.type"] == "LOCAL"
        host, boot, pid, _ = tags["jsdelta.owner"].split(
            "\t"
        )  # any process of the tests: the store is shared
        assert [host, boot] == current_owner().split("\t")[:2]
        assert pid.isdigit()
        assert tags["mlflow.user"]
        if shown.returncode == 0:
            assert len(tags["mlflow.source.git.commit"]) == 40
        else:
            assert "mlflow.source.git.commit" not in tags


def test_parameters_of_the_training(runs):
    """The parent has what was asked for, each member its whole configuration and what it came to."""
    parent = runs["train digits"].data.params
    expected = {"recipe": "digits", "members": "3", "first_seed": "0", "method": "standard", "epochs": "3"}
    assert {key: parent[key] for key in expected} == expected
    for seed in range(3):
        params = runs[f"member seed {seed}"].data.params
        expected = {
            "seed": str(seed), "dataset": "digits", "arch": "cnn-small", "epochs": "3", "batch_size": "32",
            "learning_rate": "0.05", "resolved_device": params["resolved_device"], "resolved_dtype": "float32",
        }  # fmt: skip
        assert {key: params[key] for key in expected} == expected


@pytest.mark.parametrize("seed", range(3))
def test_curves_of_a_member(seed, client, runs, select):
    """Each epoch is a point of every curve; the clean accuracy is the row's."""
    run = runs[f"member seed {seed}"]
    for key in ("loss", "train_accuracy", "baseline_accuracy", "learning_rate"):
        assert list(history(client, run, key)) == [1, 2, 3]
    losses = list(history(client, run, "loss").values())
    assert losses[-1] < losses[0]
    ((clean_accuracy,),) = select(f"SELECT clean_accuracy FROM model WHERE seed = {seed}")
    assert run.data.metrics["clean_accuracy"] == clean_accuracy
    assert history(client, runs["train digits"], "clean_accuracy")[seed] == clean_accuracy


@pytest.mark.parametrize("seed", range(3))
def test_files_of_a_member(seed, client, runs, select, tmp_path):
    """The checkpoint that MLflow hands out is the recorded one; the clean logits lie beside it."""
    run = runs[f"member seed {seed}"]
    ((sha256, uri),) = select(f"SELECT checkpoint_sha256, checkpoint_uri FROM model WHERE seed = {seed}")
    downloaded = client.download_artifacts(run.info.run_id, "checkpoint.pt", str(tmp_path))
    assert files(client, run) == {"checkpoint.pt", "history.json", "logits-baseline.npy", "logits-attack.npy"}
    assert hashlib.sha256(Path(downloaded).read_bytes()).hexdigest() == sha256
    assert uri == f"mlruns/{run.info.run_id}/artifacts/checkpoint.pt"


def test_data_set_is_an_input(runs, select):
    """Members and attacks name the data set they used by its uid."""
    ((uid,),) = select("SELECT uid FROM dataset")
    for name in ("train digits", *MEMBERS, *ATTACKS):
        (given,) = runs[name].inputs.dataset_inputs
        context = "attack" if name in ATTACKS else "training"
        assert (given.dataset.name, given.dataset.digest) == ("digits", uid)
        assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": context}


@pytest.mark.parametrize(("name", "level"), ATTACKS.items())
def test_parameters_of_an_attack(name, level, runs, select):
    """An attack's run has its configuration, the attacked model and the evaluators."""
    params = runs[name].data.params
    seeds = dict(select("SELECT seed, uid FROM model"))
    expected = {
        "steps": str(TINY_STEPS), "targets": "random", "norm": "linf", "images": "60", "seed": "0",
        "prepared_as": "folded",
        "attacked_model": seeds[0], "attacked_seed": "0", "evaluators": f"{seeds[1]} {seeds[2]}",
    }  # fmt: skip
    assert {key: params[key] for key in expected} == expected
    assert float(params["eps"]) == level / 255
    assert float(params["step_size"]) == pytest.approx(2.5 * level / 255 / TINY_STEPS)


def expected_metrics(tiny, level):
    """Return what the store says about one ε, as MLflow names it."""
    with reading_store(tiny.db_url) as connection:
        rows = [row for row in query_bugs(connection, DEFAULT_BETAS).rows if row["eps"] == level / 255]
    metrics = {f"bug_fraction_beta_{row['beta']:g}": row["bug_fraction"] for row in rows}
    return metrics | {"success_rate": rows[0]["n_success"] / rows[0]["n_attempted"]}


@pytest.mark.parametrize("level", [3, 8])
@pytest.mark.parametrize("key", ["success_rate", *(f"bug_fraction_beta_{beta:g}" for beta in DEFAULT_BETAS)])
def test_results_over_eps_are_curves_of_the_parent(key, level, tiny, client, runs):
    """Success and bug fractions are logged with step = round(255·ε), on the call's run and the attack's own."""
    parent, nested = runs["attack digits"], runs[f"attack on seed 0, ε = {level}/255"]
    expected = expected_metrics(tiny, level)[key]
    assert set(history(client, parent, key)) == {3, 8}
    assert history(client, parent, key)[level] == expected
    assert history(client, nested, key) == {level: expected}


@pytest.mark.parametrize("name", ATTACKS)
def test_figure_of_an_attack(name, client, runs, tmp_path):
    """The JSΔ histogram is an artifact of the attack's run, as PNG, and there is no second one."""
    assert files(client, runs["attack digits"]) == set()
    assert "js_delta.png" in files(client, runs[name])
    figure = Path(client.download_artifacts(runs[name].info.run_id, "js_delta.png", str(tmp_path)))
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ATTACKS)
def test_files_of_an_attack(name, client, runs, select):
    """Perturbations and logits are artifacts of the attack's run, where the rows say."""
    run = runs[name]
    uris = select("SELECT uri FROM attack_chunk UNION SELECT uri FROM evaluation_chunk")
    folder = f"mlruns/{run.info.run_id}/artifacts/"
    named = {uri.removeprefix(folder) for (uri,) in uris if uri.startswith(folder)}
    assert named == {"samples/chunk-00000.npz", "scores/chunk-00000.npz"}
    assert files(client, run) == named | {"js_delta.png"}


def test_artifacts_are_where_mlflow_puts_them(tiny, client, runs):
    """The experiment's artifacts are in the workspace's mlruns, so that a bare `mlflow ui` finds them."""
    location = (tiny.root / "mlruns").as_uri()
    assert client.get_experiment_by_name(EXPERIMENT).artifact_location == location
    for run in runs.values():
        assert run.info.artifact_uri == f"{location}/{run.info.run_id}/artifacts"


def test_failing_tracker_says_one_line_and_goes_on(tiny_copy):
    """A store that MLflow cannot read costs one line; what is logged later is skipped silently."""
    (tiny_copy.root / "mlflow.db").write_bytes(b"no database " * 500)
    said = []
    tracker = Tracker(Connection(tiny_copy, said.append))
    run = tracker.start("train", uid="0123456789abcdef", params={"seed": 0})
    run.metrics({"loss": 1.0})
    with run.closing():
        pass
    assert (run.run_id, len(said)) == (None, 1)
    assert "jsdelta doctor --repair" in said[0]
    assert run.folder == tiny_copy.root / "mlruns" / "0123456789abcdef" / "artifacts"


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_is_closed_however_the_block_ends(error, status, tiny_copy):
    """A run ends as FINISHED, FAILED or KILLED, and the error goes on."""
    tracker = Tracker(Connection(tiny_copy, pytest.fail))
    run = tracker.start("train", uid="0123456789abcdef", params={})
    with pytest.raises(error) if error else nullcontext(), run.closing():
        if error is not None:
            raise error
    client = MlflowClient(tracker.connection.uri)
    assert client.get_run(run.run_id).info.status == status


def test_a_failure_is_kept_apart_from_its_advice(tiny_copy):
    """What failed is a field of the connection, without the advice that the reported line ends with."""
    reported = []
    connection = Connection(replace(tiny_copy, tracking_uri="nonsense://u:hidden@nowhere"), reported.append)
    assert (connection.failure, Tracker(connection).failed) == (None, False)
    assert Tracker(connection).count_runs() is None
    assert connection.failure.startswith("MLflow failed (")
    assert "hidden" not in connection.failure
    assert reported == [f"{connection.failure}; {LOG_LATER}"]


def test_offline_logs_nothing_and_gives_each_run_a_folder(tmp_path, monkeypatch):
    """Without MLflow a run has a folder and no id, nothing counts as failed, and MLflow is never opened."""
    workspace = Workspace(tmp_path, f"sqlite:///{tmp_path / 'jsdelta.db'}", None, tmp_path / "data")
    monkeypatch.setattr(Connection, "_open", pytest.fail)
    tracker = Tracker(NullConnection(workspace))
    run = tracker.start("attack", uid="0123456789abcdef", params={"seed": 0})
    with run.closing():
        run.metrics({"loss": 1.0})
        run.copy_files(tmp_path)
    assert (run.run_id, run.logged_id, tracker.failed) == (None, None, False)
    assert run.folder == workspace.runs_dir / "0123456789abcdef" / "artifacts"
    again = tracker.reopen("run", run.folder, parent=run)
    assert (again.run_id, again.folder) == (None, run.folder)
    assert (tracker.count_runs(), tracker.close_abandoned(), tracker.delete_runs(["run"])) == (None, [], 0)
    assert list(tmp_path.iterdir()) == []
