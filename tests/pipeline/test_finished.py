"""Finished commands: answered from rows, without torch, MLflow, images or networks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.errors import CheckpointError, UsageError
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.datasets.add import AddRequest, add_dataset, open_source
from jsdelta_db.pipeline.ensembles.added import add_ensemble
from jsdelta_db.pipeline.evaluation import open_roles
from jsdelta_db.pipeline.evaluation.finished import Extras
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.score import score_stored
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.workbench import datasets
from jsdelta_db.workbench.workbench import open_workbench
from tests.compute.sources.forms import some_images
from tests.reading import ask, attack_of, contents, last_evaluation, tell
from tests.workspaces import Listening, tiny_attacks, tiny_recipe

HEAVY = ("torch", "torchvision", "mlflow", "sklearn", "scipy", "matplotlib")
RUN = f"""
import sys
from cli.main import run
code = run(sys.argv[1:])
print(code, *(name for name in {HEAVY} if name in sys.modules))
"""
ROOT = Path(__file__).parents[2]


class OpenedError(Exception):
    """A model or a data set was to be opened."""


@pytest.fixture
def closed(monkeypatch):
    """Nothing can be opened: whoever needs a network or an image fails."""

    def fail(*given, **named):
        raise OpenedError

    monkeypatch.setattr(open_roles, "open_models", fail)
    monkeypatch.setattr(datasets.data, "load", fail)
    monkeypatch.setattr(datasets, "open_stored", fail)


@pytest.mark.parametrize(
    ("command", "end"),
    [
        (["train", "--members", "3", "--epochs", "3"], "next: jsdelta attack --eps 3"),
        (["attack", "--eps", "3", "--eps", "8", "--steps", "10", "--images", "60"], "was done again"),
        (["score", "--attack", "UID"], "nothing was done again"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_finished_command_loads_nothing_heavy(command, end, tiny_copy):
    """Train, attack and score say that all is there, and leave the store alone, before torch is imported."""
    before = contents(tiny_copy)
    arguments = [
        attack_of(tiny_copy, last_evaluation(tiny_copy)) if each == "UID" else each for each in command
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--workspace", str(tiny_copy.root), *arguments],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    assert done.stderr.rstrip().endswith(end)
    assert contents(tiny_copy) == before


def attack(workspace, rules="1", progress=None, extras=Extras(), **changes):  # noqa: B008 frozen
    """Attack as the tiny store was; return how many attacks were not finished."""
    with open_workbench(workspace, progress, is_tracked=False) as bench:
        configs = tiny_attacks(3, 8, **changes)
        return attack_and_score(bench, configs, rules=EvaluationConfig(rules), extras=extras).worked_on


def test_extras_that_are_there_are_not_measured_again(tiny_copy, request):
    """With controls and stability stored, an attack that asks for them is finished; without one it is not."""
    extras = Extras(controls=True, stability=True)
    attack(tiny_copy, extras=extras)
    request.getfixturevalue("closed")
    before = contents(tiny_copy)
    assert attack(tiny_copy, extras=extras) == 0
    assert contents(tiny_copy) == before
    tell(tiny_copy, "DELETE FROM control_result WHERE name = 'invariance_flip'")
    with pytest.raises(OpenedError):
        attack(tiny_copy, extras=extras)
    assert attack(tiny_copy, extras=Extras(stability=True)) == 0
    for statement in ("UPDATE model SET sharpness = NULL", "UPDATE sample SET stability = NULL"):
        tell(tiny_copy, statement)
        with pytest.raises(OpenedError):
            attack(tiny_copy, extras=Extras(stability=True))


def test_what_is_not_there_is_worked_on(tiny_copy, closed):
    """Another rule, another setting or an evaluation that was stopped opens the models."""
    assert attack(tiny_copy) == 0
    for changes in ({"rules": "fit"}, {"steps": 11}):
        with pytest.raises(OpenedError):
            attack(tiny_copy, **changes)
    tell(tiny_copy, "UPDATE evaluation SET status = 'pending' WHERE id = 2")
    with pytest.raises(OpenedError):
        attack(tiny_copy)


def test_a_finished_attack_needs_its_models_weights(tiny_copy, closed):
    """An evaluator's file that is gone is refused as before a new attack."""
    ((uri,),) = ask(tiny_copy, "SELECT checkpoint_uri FROM model WHERE seed = 2")
    (tiny_copy.root / uri).unlink()
    with pytest.raises(
        CheckpointError, match=f"{uri} is missing or altered; restore the file from a backup, or"
    ):
        attack(tiny_copy)


def test_a_finished_attack_on_another_split_is_remarked_upon(tiny_copy):
    """The line on images that every model has seen is the same when the attack is finished."""
    first, again = Listening(), Listening()
    assert [attack(tiny_copy, progress=each, split="train", images=20) for each in (first, again)] == [2, 0]
    (line,) = again.lines
    assert line.startswith("all 20 images are of the train split")
    assert line in first.lines


def test_followers_are_looked_for_among_finished_evaluations(four_copy, closed):
    """A call that was killed before it could tell who follows is made up for, from rows alone."""
    before = contents(four_copy)
    tell(four_copy, "DELETE FROM control_result WHERE name = 'follows_attacked' AND evaluation_id = 3")
    with open_workbench(four_copy, is_tracked=False) as bench:
        configs = tiny_attacks(8, images=40)
        done = attack_and_score(bench, configs, RoleRequest(ensemble="four"))
        assert done.worked_on == 0
    assert contents(four_copy) == before


def test_a_score_of_several_attacks_is_finished_if_each_is(tiny_copy, closed):
    """Stored samples that were judged by these evaluators are answered for; by others they are judged."""
    uids = [uid for (uid,) in ask(tiny_copy, "SELECT uid FROM attack ORDER BY id")]
    with open_workbench(tiny_copy, is_tracked=False) as bench:
        done = score_stored(bench, uids)
        assert (done.attacks, done.worked_on) == (uids, 0)
        tell(tiny_copy, "UPDATE evaluation SET status = 'pending' WHERE id = 2")
        assert score_stored(bench, uids[:1]).worked_on == 0
        with pytest.raises(OpenedError):
            score_stored(bench, uids)


def test_a_finished_ensemble_is_found_without_its_data(tiny_copy, closed):
    """The members are found; another name, seed or a data set of two fingerprints opens the data."""
    progress = Listening()
    with open_workbench(tiny_copy, progress, is_tracked=False) as bench:
        found = train_ensemble(bench, tiny_recipe())
        assert (found.name, found.trained, progress.lines) == ("digits", [], [])
        assert None not in found.robust_accuracies
        for changes in ({"name": "twin"}, {"seed": 1}):
            with pytest.raises(OpenedError):
                train_ensemble(bench, tiny_recipe(), **changes)
        tell(
            tiny_copy,
            "INSERT INTO dataset (uid, config_hash, created_at, status, name, kind, fingerprint, classes) "
            "SELECT 'ffffffffffffffff', 'f', created_at, status, name, kind, 'f', classes FROM dataset",
        )
        with pytest.raises(OpenedError):
            train_ensemble(bench, tiny_recipe())


def test_a_finished_ensemble_says_again_that_its_default_name_was_taken(tiny_copy):
    """Found under the next name, it is told why it has that one, as when it was trained."""
    lines = []
    for _ in range(2):
        progress = Listening()
        with open_workbench(tiny_copy, progress, is_tracked=False) as bench:
            found = train_ensemble(bench, tiny_recipe(members=2))
        assert found.name == "digits-2"
        lines.append([line for line in progress.lines if "taken" in line])
    assert lines[0] == lines[1]
    assert len(lines[0]) == 1


def test_a_finished_ensemble_of_a_users_data_set_is_found_without_its_images(workspace, tmp_path, request):
    """Trained and attacked once, then found: its file is not opened."""
    noise, labels = some_images(120)
    np.savez(
        tmp_path / "mine.npz", x=noise // 4 + 90 * labels[:, None, None, None].astype(np.uint8), y=labels
    )
    asked = AddRequest("mine", npz=tmp_path / "mine.npz")

    def work():
        recipe = tiny_recipe(dataset="mine")
        with open_workbench(workspace, is_tracked=False) as bench:
            trained = train_ensemble(bench, recipe, name="own").trained
            return len(trained), attack_and_score(bench, tiny_attacks(8, images=10, steps=2)).worked_on

    with open_workbench(workspace, is_tracked=False) as bench:
        add_dataset(bench, asked, open_source(asked))
    assert work() == (3, 1)
    request.getfixturevalue("closed")
    before = contents(workspace)
    assert work() == (0, 0)
    assert contents(workspace) == before


def test_an_attack_on_an_added_ensemble_is_finished_like_any_other(tiny_copy, request):
    """Of models that were there already: attacked once, then found."""
    with open_workbench(tiny_copy, is_tracked=False) as bench:
        add_ensemble(bench, "turned", ["digits:2", "digits:1", "digits:0"])

    def work():
        with open_workbench(tiny_copy, is_tracked=False) as bench:
            return attack_and_score(bench, tiny_attacks(8, images=10), RoleRequest("turned")).worked_on

    assert work() == 1
    request.getfixturevalue("closed")
    assert work() == 0


def test_a_device_that_is_none_is_refused_before_rows_answer(tiny_copy, closed):
    """As where there is work: a mistyped device is not taken in silence."""
    with open_workbench(tiny_copy, is_tracked=False) as bench, pytest.raises(UsageError, match="'tpu'"):
        score_stored(bench, [attack_of(tiny_copy, last_evaluation(tiny_copy))], device="tpu")
