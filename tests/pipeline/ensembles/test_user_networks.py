"""Networks as users write them: trained, attacked and judged as what they are, or refused before anything is made."""

import sqlite3
import sys
from contextlib import closing

import pytest

from jsdelta_db.compute.attacks import prepare
from jsdelta_db.config.construction import ConstructionRequest
from jsdelta_db.config.recipes import recipe_for
from jsdelta_db.errors import ModelError, TrainingError
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.datasets.build import build_dataset
from jsdelta_db.pipeline.ensembles import member
from jsdelta_db.pipeline.evaluation import sources
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.runtime import devices
from jsdelta_db.workbench import models
from jsdelta_db.workbench.workbench import open_workbench
from tests.workspaces import Listening, tiny_attacks

NETWORKS = "tests.pipeline.ensembles.networks"


def _ask(workspace, statement):
    with closing(sqlite3.connect(workspace.root / "jsdelta.db", timeout=30)) as connection:
        return connection.execute(statement).fetchall()


def _recipe(name, method="standard", **changes):
    settings = {"train_steps": 1, "train_step_size": 3 / 255} if method == "adversarial" else {}
    return recipe_for("digits", method).override(
        **{"members": 2, "epochs": 2, "arch": name, **settings, **changes}
    )


def _train(workspace, recipe, heard=None):
    with open_workbench(workspace, heard) as bench:
        return train_ensemble(bench, recipe, name="theirs")


@pytest.fixture
def bfloat16(monkeypatch):
    """A machine whose bfloat16 pays, until told otherwise."""

    def pays(answer):
        monkeypatch.setattr(devices, "bfloat16_pays", lambda device_type: answer)

    monkeypatch.setattr(devices, "has_bfloat16", lambda device_type: True)
    pays(True)
    return pays


def test_a_network_that_no_attack_could_use_is_not_trained(workspace):
    """One line before any row is made."""
    with pytest.raises(ModelError, match="Probabilities returns probabilities"):
        _train(workspace, _recipe(f"{NETWORKS}:Probabilities"))
    assert _ask(workspace, "SELECT count(*) FROM model") == [(0,)]
    assert _ask(workspace, "SELECT count(*) FROM ensemble") == [(0,)]


@pytest.mark.parametrize(
    ("name", "prepared_as", "reason"),
    [
        ("Viewing", "folded", None),
        ("Asking", "plain", "its traced copy computes something else: "),
        ("weight_normed", "plain", ""),
    ],
)
def test_what_a_network_computes_is_what_is_attacked(name, prepared_as, reason, workspace):
    """Trained, attacked, judged and built from; the copy that steps ran on is recorded, a plain one is told."""
    heard = Listening()
    _train(workspace, _recipe(f"{NETWORKS}:{name}"), heard)
    assert len(heard.lines) == (reason is not None)
    with open_workbench(workspace, heard) as bench:
        attack_and_score(bench, tiny_attacks(8, 16, steps=3, images=20))
        build_dataset(bench, ConstructionRequest("det", steps=2, images=20), ensemble="theirs", name="made")
    assert _ask(workspace, "SELECT prepared_as, dtype FROM attack") == [(prepared_as, "float32")] * 2
    assert _ask(workspace, "SELECT construction ->> 'prepared_as' FROM dataset WHERE name = 'made'") == [
        (prepared_as,)
    ]
    told = [] if reason is None else [f"seed 0: gradient steps run on its plain copy in float32 ({reason}"]
    said = [line for line in heard.lines if line.startswith("seed 0: ")]
    assert [line[: len(start)] for line, start in zip(said[:1], told, strict=True)] == told


def test_a_resumed_attack_runs_on_what_its_row_says(tiny_copy, monkeypatch):
    """Stopped and gone on with where copies compare otherwise: the same copy, and no new decision."""

    def interrupt(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, open_workbench(tiny_copy) as bench:
        patch.setattr(sources, "find_perturbations", interrupt)
        with pytest.raises(KeyboardInterrupt):
            attack_and_score(bench, tiny_attacks(5))
    assert _ask(tiny_copy, "SELECT prepared_as FROM attack WHERE id = 3") == [("folded",)]
    made = []

    def spy(*given):
        made.append(prepare(*given))
        return made[-1]

    monkeypatch.setattr(sys.modules[prepare.__module__], "find_difference", lambda *given: "everything")
    monkeypatch.setattr(models, "prepare", spy)
    with open_workbench(tiny_copy) as bench:
        attack_and_score(bench, tiny_attacks(5))
        attack_and_score(bench, tiny_attacks(6))
    assert [each.prepared_as for each in made] == ["folded", "plain"]
    assert _ask(tiny_copy, "SELECT prepared_as FROM attack WHERE id > 2") == [("folded",), ("plain",)]


def test_a_resumed_training_keeps_its_dtype(workspace, tmp_path, mlflow_template, bfloat16, monkeypatch):
    """What auto means may change between stop and go: the checkpoint is that of an undisturbed training."""
    recipe = _recipe("cnn-small", members=1, width=4, dtype="auto")
    empty = tmp_path / "undisturbed"
    empty.mkdir()
    (empty / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    undisturbed = type(workspace)(empty, f"sqlite:///{empty / 'jsdelta.db'}", None, empty / "data")
    _train(undisturbed, recipe)

    def interrupt(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(member, "_log_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _train(workspace, recipe)
    assert _ask(workspace, "SELECT status, dtype FROM model") == [("pending", "bfloat16")]
    bfloat16(False)
    heard = Listening()
    _train(workspace, recipe, heard)
    assert heard.lines == []
    checkpoints = "SELECT dtype, checkpoint_sha256 FROM model"
    assert _ask(workspace, checkpoints) == _ask(undisturbed, checkpoints)
    assert _ask(workspace, "SELECT dtype FROM model") == [("bfloat16",)]


def test_a_training_is_not_gone_on_with_in_another_dtype(workspace, bfloat16, monkeypatch):
    """On a machine that lacks it one line says so."""
    recipe = _recipe("cnn-small", members=1, width=4, epochs=1, dtype="auto")

    def interrupt(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(member, "_log_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _train(workspace, recipe)
    bfloat16(False)
    monkeypatch.setattr(devices, "has_bfloat16", lambda device_type: False)
    with pytest.raises(TrainingError, match="it was begun in bfloat16, which this cpu lacks"):
        _train(workspace, recipe)


def test_adversarial_training_in_bfloat16_needs_no_traced_copy(workspace, bfloat16):
    """The robustness of a network that cannot be traced is checked in float32; one line says so."""
    heard = Listening()
    _train(
        workspace, _recipe(f"{NETWORKS}:Untraceable", "adversarial", members=1, epochs=1, dtype="auto"), heard
    )
    assert _ask(workspace, "SELECT dtype, status FROM model") == [("bfloat16", "finished")]
    (line,) = heard.lines
    assert "gradient steps run on its plain copy in float32 (torch.fx cannot trace it: " in line


def test_surrogates_are_prepared_as_the_attacked_model_is(workspace, bfloat16):
    """Where one of an attack's models has no bfloat16 copy, all of its steps are in float32."""
    _train(
        workspace,
        _recipe("cnn-small", dtype="float32").mix(["cnn-small", f"{NETWORKS}:Untraceable", "cnn-small"]),
    )
    with open_workbench(workspace) as bench:
        attack_and_score(
            bench, tiny_attacks(8, steps=2, images=10, objective="feature", dtype="auto"),
            RoleRequest(attacked="0", surrogates=["1"]),
        )  # fmt: skip
    assert _ask(workspace, "SELECT dtype, prepared_as FROM attack") == [("float32", "plain")]
