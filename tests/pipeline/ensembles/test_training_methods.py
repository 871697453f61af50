"""Ensembles of each method: stopped and gone on with, failing, mixed, side by side, and what is stored of them."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from jsdelta_db.compute.metrics.agreement import measure_agreement
from jsdelta_db.config.attack import ROBUST_CHECKS
from jsdelta_db.config.recipes import recipe_for
from jsdelta_db.errors import TrainingError, UnknownNameError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.ensembles import member
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.train import check_training, train_ensemble
from jsdelta_db.queries.ensembles import ENSEMBLE_KEYS, query_ensembles
from jsdelta_db.runtime.progress import Silent
from jsdelta_db.store.session import reading_store
from jsdelta_db.tracking import Connection
from jsdelta_db.workbench.workbench import open_workbench
from tests.workspaces import tiny_attacks, tiny_recipe

PATIENCE = 120  # seconds until something must have happened; a hang would otherwise never end
MODELS = "SELECT id, seed, method, status, owner, checkpoint_sha256, clean_accuracy, threads FROM model ORDER BY seed"
METRICS = "SELECT * FROM model_metric ORDER BY model_id, name, eps"


class Listening(Silent):
    """Keeps what the pipeline says."""

    def __init__(self):
        self.lines = []

    def report(self, message):
        """Keep one line."""
        self.lines.append(message)


def _ask(workspace, statement):
    with closing(sqlite3.connect(workspace.root / "jsdelta.db", timeout=30)) as connection:
        return connection.execute(statement).fetchall()


def _recipe(method, **changes):
    """Short trainings of one member; adversarial training in two steps."""
    settings = {"train_steps": 2, "train_step_size": 3 / 255} if method == "adversarial" else {}
    return recipe_for("digits", method).override(
        **{"members": 1, "epochs": 3, "width": 4, **settings, **changes}
    )


def _train(workspace, recipe, progress=None, **options):
    with open_workbench(workspace, progress) as bench:
        return train_ensemble(bench, recipe, **options)


def _result(workspace):
    """Return all that must not depend on where a training stopped; uids and addresses differ from store to store."""
    files = [
        ((workspace.root / uri).read_bytes(), (workspace.root / uri).with_name("history.json").read_bytes())
        for (uri,) in _ask(workspace, "SELECT checkpoint_uri FROM model ORDER BY seed")
    ]
    agreement = [row["agreement"] for row in _query(workspace)]
    robust = _ask(workspace, METRICS.replace("ORDER", "WHERE name NOT LIKE 'agreement%' ORDER"))
    return _ask(workspace, MODELS), robust, files, agreement


def _query(workspace):
    with reading_store(workspace.db_url) as connection:
        return query_ensembles(connection)


def _losses(workspace):
    """Return MLflow's steps of the loss, run by run."""
    client_runs = Connection(workspace, pytest.fail).attempt(
        lambda client: [
            (
                run.info.run_name,
                run.info.status,
                [each.step for each in client.get_metric_history(run.info.run_id, "loss")],
            )
            for experiment in client.search_experiments()
            for run in client.search_runs([experiment.experiment_id])
            if run.info.run_name.startswith("member")
        ]
    )
    return sorted(client_runs)


@pytest.mark.parametrize("method", ["standard", "adversarial", "sam"])
def test_a_training_stopped_between_epochs_goes_on(method, workspace, mlflow_template, tmp_path, monkeypatch):
    """Killed after its first epoch it goes on with the second: the same rows and bytes, one MLflow run, no step twice."""
    recipe = _recipe(method)
    logged = []

    def stop_after_one(run, metrics, real=member._log_epoch):
        real(run, metrics)
        logged.append(metrics.epoch)
        if len(logged) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(member, "_log_epoch", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        _train(workspace, recipe)
    ((uid,),) = _ask(workspace, "SELECT uid FROM model")
    kept = workspace.root / ".training" / f"{uid}.pt"
    assert kept.is_file()
    assert _train(workspace, recipe).trained == [0]
    assert logged == [1, 2, 3]
    assert not kept.exists()
    assert _losses(workspace) == [("member seed 0", "FINISHED", [1, 2, 3])]

    monkeypatch.undo()
    empty = tmp_path / "undisturbed"
    empty.mkdir()
    (empty / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    undisturbed = type(workspace)(empty, f"sqlite:///{empty / 'jsdelta.db'}", None, empty / "data")
    _train(undisturbed, recipe)
    assert _result(workspace) == _result(undisturbed)


def _start(workspace, *arguments):
    """Start jsdelta as a user would."""
    return subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "--workspace", workspace.root, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_workers_leave_nothing_running_and_are_gone_on_with(workspace):
    """SIGKILL of the parent of two workers: they end too, and the next call goes on from the epochs that were kept."""
    process = _start(workspace, "train", "--members", "2", "--epochs", "40", "--jobs", "2")
    folder = workspace.root / ".training"
    try:
        _wait_for(lambda: process.poll() is not None or len(list(folder.glob("[!.]*.pt"))) == 2)
        assert process.poll() is None, process.communicate()
        owners = [row[0] for row in _ask(workspace, "SELECT owner FROM model WHERE owner IS NOT NULL")]
        pids = [int(owner.split("\t")[2]) for owner in owners]
    finally:
        process.kill()
        process.communicate()
    assert len(set(pids)) == 2
    assert process.pid not in pids
    _wait_for(lambda: not any(_lives(pid) for pid in pids))
    assert _ask(workspace, "SELECT status FROM ensemble") == [("pending",)]
    recipe = recipe_for("digits").override(2, epochs=40)
    heard = Listening()
    assert _train(workspace, recipe, heard).trained == [0, 1]
    assert heard.lines == []
    assert [status for _, status, _ in _losses(workspace)] == ["FINISHED"] * 2
    for _, _, steps in _losses(workspace):
        assert (
            len(steps) == len(set(steps)) >= 39
        )  # the epoch in which it was killed may be kept and not logged


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie only waits to be collected.
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] not in "ZX"


def test_damaged_progress_is_told_and_not_used(workspace, monkeypatch):
    """A file that is not whole: one line says so, and the member starts anew."""
    recipe = _recipe("standard", epochs=2)

    def interrupt(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(member, "_log_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _train(workspace, recipe)
    (path,) = (workspace.root / ".training").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    heard = Listening()
    _train(workspace, recipe, heard)
    assert heard.lines == [
        f"member seed 0: the state of its training cannot be used ({path}); it starts anew"
    ]
    assert [steps for _, status, steps in _losses(workspace) if status == "FINISHED"] == [[1, 2]]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_member_that_fails_stops_alone(jobs, workspace):
    """A loss that is not finite stops that member; the other is trained and kept, and one line says both."""
    broken = _recipe("standard", epochs=1, learning_rate=1e30, schedule="constant", members=2)
    # A network without a loss to speak of survives any learning rate: the mixture has one of each.
    mixed = broken.mix(["cnn-small", "tests.pipeline.ensembles.test_training_methods:constant"])
    with pytest.raises(TrainingError) as caught:
        _train(workspace, mixed, jobs=jobs)
    assert str(caught.value).startswith("member seed 0 failed: the loss is not finite at step ")
    assert str(caught.value).endswith("; the other member is kept")
    assert len(str(caught.value).splitlines()) == 1
    assert [row[3:5] for row in _ask(workspace, MODELS)] == [("failed", None), ("finished", None)]
    assert _ask(workspace, "SELECT status FROM ensemble") == [("pending",)]


def constant(num_classes, in_channels, image_size, width):
    """A network that says what some pixels say, whatever its weight."""
    import torch
    from torch import nn

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))  # which no decay moves

        def forward(self, x):
            return x.flatten(1)[:, 20 : 20 + num_classes] + self.weight * 0.0

    return Constant()


@pytest.mark.slow
def test_side_by_side_is_as_one_after_the_other(workspace, tmp_path, mlflow_template):
    """--jobs changes nothing but the time: the same rows, checkpoints and histories."""
    recipe = _recipe("standard", members=3, epochs=2)
    _train(workspace, recipe, jobs=2)
    empty = tmp_path / "serial"
    empty.mkdir()
    (empty / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    serial = type(workspace)(empty, f"sqlite:///{empty / 'jsdelta.db'}", None, empty / "data")
    _train(serial, recipe)
    assert _result(workspace) == _result(serial)
    assert _losses(workspace) == _losses(serial)
    with reading_store(workspace.db_url) as connection:
        assert list(find_problems(connection, workspace.root)) == []


@pytest.mark.slow
def test_ctrl_c_stops_all_workers(workspace):
    """An interrupt of the parent: exit 130 and one line, no worker left, nothing held."""
    process = _start(workspace, "train", "--members", "2", "--epochs", "200", "--jobs", "2")
    try:
        _wait_for(
            lambda: process.poll() is not None or len(list((workspace.root / ".training").glob("*.pt"))) == 2
        )
        assert process.poll() is None, process.communicate()
        owners = [row[0] for row in _ask(workspace, "SELECT owner FROM model WHERE owner IS NOT NULL")]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "")
    assert [line for line in err.splitlines() if line.startswith("jsdelta: ")] == [
        "jsdelta: interrupted; finished members and chunks are stored; run the same command again to resume"
    ]
    assert "Traceback" not in err
    assert not any(_lives(int(owner.split("\t")[2])) for owner in owners)
    assert _ask(workspace, "SELECT status, owner FROM model") == [("pending", None)] * 2


def test_members_of_different_architecture_attack_and_judge_each_other(workspace):
    """A mixed ensemble is attacked and judged like any other."""
    recipe = _recipe("standard", epochs=4).mix(["cnn-small", "resnet8"], [6, 4, 8])
    ensemble = _train(workspace, recipe)
    assert ensemble.name == "digits-epochs4-mixed"
    assert [(row.architecture, row.recipe["width"]) for row in ensemble.members] == [
        ("cnn-small", 6), ("resnet8", 4), ("cnn-small", 8),
    ]  # fmt: skip
    with open_workbench(workspace) as bench:
        attack_and_score(bench, tiny_attacks(8, steps=3, images=30), RoleRequest(attacked="all"))
    assert _ask(workspace, "SELECT count(*) FROM evaluation_member") == [(6,)]
    with reading_store(workspace.db_url) as connection:
        assert list(find_problems(connection, workspace.root)) == []


def test_overfitting_is_one_line_of_news(workspace, monkeypatch):
    """An epoch whose accuracy under PGD falls below half of the best is told, once, with its member."""
    liked = iter([0.5, 0.2, 0.1])
    monkeypatch.setattr("jsdelta_db.compute.training.loop._measure_robustness", lambda *given: next(liked))
    heard = Listening()
    _train(workspace, _recipe("adversarial"), heard)
    assert heard.lines == [
        "member seed 0, epoch 2: accuracy under PGD fell from 50.0% to 20.0%, catastrophic overfitting; "
        "the weights of the best epoch (so far 1) are kept"
    ]


def test_accuracies_and_agreement_are_stored(tiny):
    """Every ensemble has its robust accuracy and agreement: means over its members, measured at the end of training."""
    (row,) = _query(tiny)
    assert tuple(row) == ENSEMBLE_KEYS
    clean = [value for (value,) in _ask(tiny, "SELECT clean_accuracy FROM model")]
    robust = _ask(
        tiny, "SELECT norm, eps, steps, value, n, split FROM model_metric WHERE name = 'robust_accuracy'"
    )
    check = ROBUST_CHECKS["digits"]
    assert {each[:3] for each in robust} == {(check.norm, check.eps, check.steps)}
    assert {each[4:] for each in robust} == {(600, "attack")}
    assert row["clean_accuracy"] == pytest.approx(sum(clean) / 3)
    assert row["robust_accuracy"] == pytest.approx(sum(each[3] for each in robust) / 3)
    assert 0 <= row["robust_accuracy"] < row["clean_accuracy"]
    assert (row["method"], row["dataset"], row["members"]) == ("standard", "digits", 3)
    with open_workbench(tiny) as bench:
        import numpy as np

        from jsdelta_db.compute import data

        uris = _ask(tiny, "SELECT uri FROM model_logits WHERE split = 'attack' ORDER BY model_id")
        logits = [np.load(bench.locate(uri)) for (uri,) in uris]
        labels = data.load("digits", tiny.data_dir).splits["attack"].labels.numpy()
    assert row["agreement"] == pytest.approx(measure_agreement(logits, labels).same_label)


def test_ensembles_of_before_have_nulls(tiny_copy):
    """What was not measured of every member is null, and an ensemble of one agrees with nobody."""
    _train(tiny_copy, tiny_recipe(members=1), name="alone")
    with closing(sqlite3.connect(tiny_copy.root / "jsdelta.db")) as connection, connection:
        connection.execute(
            "DELETE FROM model_metric WHERE rowid = "
            "(SELECT min(rowid) FROM model_metric WHERE name LIKE 'agreement%')"
        )
    first, alone = _query(tiny_copy)
    assert (first["agreement"], alone["agreement"]) == (None, None)
    assert None not in (first["robust_accuracy"], alone["robust_accuracy"])
    with closing(sqlite3.connect(tiny_copy.root / "jsdelta.db")) as connection, connection:
        connection.execute("DELETE FROM model_metric WHERE name = 'robust_accuracy' AND model_id = 2")
    first, alone = _query(tiny_copy)
    assert [first[key] for key in ("robust_accuracy", "robust_norm", "robust_eps")] == [None] * 3
    assert alone["robust_accuracy"] is not None


def test_unknown_data_sets_are_refused_before_anything_is_made():
    """A data set is held against the names that the caller knows, a constructed one's among them."""
    recipe = tiny_recipe(dataset="mine")
    check_training(recipe, ["digits", "mine"])
    with pytest.raises(UnknownNameError, match="unknown dataset 'mine'; there is: digits"):
        check_training(recipe, ["digits"])
