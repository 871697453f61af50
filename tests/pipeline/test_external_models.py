"""Networks from elsewhere: added, attacked, judging; and what is said of those that cannot be used."""

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jsdelta_db.compute import data
from jsdelta_db.errors import CheckpointError, JsdeltaError, ModelError, ModelOutputError, UsageError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.evaluation.finished import Extras
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.external_models import ExternalRequest, add_model
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.workbench import open_workbench
from tests import elsewhere
from tests.elsewhere import Touch
from tests.reading import ask, contents, judges_of, samples_of, scores_of
from tests.workspaces import copy_of, tiny_attacks

HERE = "tests.elsewhere"


@pytest.fixture(scope="module")
def digits():
    """The data set that the network is for."""
    return data.load("digits", Path("unused"))


@pytest.fixture(scope="module")
def trained(digits):
    """A perceptron trained on the digits, normalized by the data set's own mean and std, in half a second."""
    torch.manual_seed(0)
    network = elsewhere.bare()
    split = digits.splits["train"]
    x = (split.batch(slice(None)) - digits.mean[0]) / digits.std[0]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(network(x), split.labels).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def checkpoint(trained, tmp_path_factory):
    """Its weights, as a training script saves them."""
    path = tmp_path_factory.mktemp("elsewhere") / "mine.pt"
    torch.save(trained.state_dict(), path)
    return path


def add(workspace, checkpoint, name="mine", factory="mlp", **options):
    """Add a network the way ``jsdelta models add`` does."""
    made_by = factory if ":" in factory else f"{HERE}:{factory}"
    options = {"dataset": "digits", "mean": "dataset", "std": "dataset", **options}
    with open_workbench(workspace) as bench:
        return add_model(bench, ExternalRequest(name, made_by, checkpoint, **options))


def check(workspace):
    """Let the store say what is wrong with it."""
    with reading_store(workspace.db_url) as connection:
        return list(find_problems(connection, workspace.root))


NO_EXTRAS = Extras()


def attack(workspace, *, extras=NO_EXTRAS, **references):
    """Attack a few images, quickly."""
    configs, request = (
        tiny_attacks(8, images=20, steps=3),
        RoleRequest(**{"ensemble": "digits", **references}),
    )
    with open_workbench(workspace) as bench:
        return attack_and_score(bench, configs, request, extras=extras).evaluations[0]


@pytest.fixture(scope="module")
def added(tiny, checkpoint, tmp_path_factory):
    """The tiny store with the network in it; only read."""
    workspace = copy_of(tiny, tmp_path_factory.mktemp("added") / "workspace")
    row, is_new = add(workspace, checkpoint)
    assert is_new
    return workspace, row


@pytest.fixture
def added_copy(added, tmp_path):
    """A copy of it that a test may change."""
    return copy_of(added[0], tmp_path / "added")


def test_an_added_model_is_a_model_like_any_other(added, trained, digits):
    """Its row has the factory, a copy of its weights and its accuracy; it is finished, and named."""
    workspace, row = added
    split = digits.splits["attack"]
    logits = trained((split.batch(slice(None)) - digits.mean[0]) / digits.std[0])
    accuracy = float((logits.argmax(1) == split.labels).float().mean())
    assert accuracy > 0.8
    assert ask(
        workspace,
        "SELECT name, architecture, method, seed, status, clean_accuracy FROM model WHERE uid = ?",
        row.uid,
    ) == [("mine", f"{HERE}:mlp", "external", 0, "finished", pytest.approx(accuracy, abs=1e-6))]
    kept = torch.load(workspace.root / row.checkpoint_uri, weights_only=True)
    assert set(kept) == {f"network.{name}" for name in trained.state_dict()}
    assert check(workspace) == []


def test_an_added_model_is_attacked(added_copy):
    """It is attacked by name, and the ensemble's members judge."""
    uid = attack(added_copy, attacked="mine", extras=Extras(stability=True))
    assert judges_of(added_copy, uid) == [0, 1, 2]
    rows = samples_of(added_copy, uid)
    assert len(rows) > 10
    assert sum(row[4] for row in rows) > 0
    assert ask(added_copy, "SELECT count(*) FROM model WHERE name = 'mine' AND sharpness > 0") == [(1,)]
    assert check(added_copy) == []


def test_an_added_model_judges_among_others(added_copy):
    """Evaluators of several architectures judge together; each has its own column and ρ."""
    uid = attack(added_copy, evaluators=["mine", "1,2"])
    assert ask(
        added_copy,
        "SELECT architecture FROM evaluation_member JOIN model ON model.id = model_id "
        "JOIN evaluation ON evaluation.id = evaluation_id WHERE evaluation.uid = ? ORDER BY position",
        uid,
    ) == [(f"{HERE}:mlp",), ("cnn-small",), ("cnn-small",)]
    assert ask(added_copy, "SELECT ensemble_id FROM evaluation WHERE uid = ?", uid) == [(None,)]
    member_js = np.array([np.frombuffer(row[-1], "<f4") for row in scores_of(added_copy, uid)])
    assert member_js.shape[1] == 3
    assert (member_js.max(0) > 0).all()
    assert any(row[4] is not None for row in scores_of(added_copy, uid))
    assert check(added_copy) == []


def test_a_surrogate_may_be_an_added_model(added_copy):
    """A network from elsewhere can be held back for an attack that looks at it."""
    with open_workbench(added_copy) as bench:
        configs = tiny_attacks(8, images=20, steps=2, objective="bug")
        judged = attack_and_score(bench, configs, RoleRequest(ensemble="digits", surrogates=["mine"]))
    assert judges_of(added_copy, judged.evaluations[0]) == [1, 2]
    assert ask(added_copy, "SELECT name FROM attack_surrogate JOIN model ON model.id = model_id") == [
        ("mine",)
    ]


def test_the_same_one_is_found(added_copy, checkpoint):
    """Added again it is found: no row, no file, no run is new."""
    before = contents(added_copy)
    row, is_new = add(added_copy, checkpoint)
    assert (row.name, is_new) == ("mine", False)
    assert contents(added_copy) == before


@pytest.mark.parametrize("name", ["bare", "one_argument", "anything"])
def test_a_factory_gets_the_arguments_that_it_takes(name, added, checkpoint, tmp_path):
    """A factory may take none, some or any of num_classes, in_channels and image_size."""
    workspace = copy_of(added[0], tmp_path / "workspace")
    row, is_new = add(workspace, checkpoint, "again", name)
    assert is_new  # built by another factory: another model, of the same weights
    assert row.checkpoint_sha256 == added[1].checkpoint_sha256
    assert row.clean_accuracy == added[1].clean_accuracy


def test_models_of_the_same_weights_do_not_judge_each_other(added_copy, checkpoint):
    """Under another name it is still the same network: it may not judge itself."""
    add(added_copy, checkpoint, "twin", "bare")
    with pytest.raises(UsageError, match=r"attacked model \(mine\) is among the evaluators"):
        attack(added_copy, attacked="mine", evaluators=["twin", "1"])


def test_an_architecture_of_ours_may_be_the_factory(tiny_copy, tmp_path):
    """Weights of a built-in architecture that were trained elsewhere need no code."""
    from jsdelta_db.compute.models.networks import SmallCNN

    torch.manual_seed(3)
    torch.save(SmallCNN(10, 1, 8).state_dict(), tmp_path / "cnn.pt")
    with open_workbench(tiny_copy) as bench:
        request = ExternalRequest("cnn", "cnn-small", tmp_path / "cnn.pt", "digits", force=True)
        row, is_new = add_model(bench, request)
    assert (row.architecture, is_new) == ("cnn-small", True)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"net": {f"module.{name}": value for name, value in state.items()}, "acc": 0.9},
    ],
    ids=["state_dict", "model", "DataParallel", "DataParallel inside"],
)
def test_weights_inside_a_training_scripts_file(wrap, added, trained, tmp_path, tiny_copy):
    """State dicts inside a larger file, and names that DataParallel has prefixed, are understood."""
    path = tmp_path / "wrapped.pt"
    torch.save(wrap(trained.state_dict()), path)
    row, is_new = add(tiny_copy, path)
    assert is_new
    assert row.checkpoint_sha256 == added[1].checkpoint_sha256  # the same weights, whatever they came in


def test_normalization_is_part_of_the_model(added, checkpoint, trained, digits, tiny_copy):
    """What the network wants subtracted and divided by is said once; without it it sees [0, 1] as it is."""
    given = {"mean": digits.mean, "std": digits.std}
    row, _ = add(tiny_copy, checkpoint, "by-numbers", **given)
    assert row.clean_accuracy == added[1].clean_accuracy
    raw, _ = add(tiny_copy, checkpoint, "raw", mean=None, std=None)
    split = digits.splits["attack"]
    accuracy = float((trained(split.batch(slice(None))).argmax(1) == split.labels).float().mean())
    assert raw.clean_accuracy == pytest.approx(accuracy, abs=1e-6)
    assert raw.clean_accuracy < row.clean_accuracy


def accuracy_of(network, digits, name):
    """The share of a split's images, normalized, that a network calls by their labels."""
    split = digits.splits[name]
    labels = network((split.batch(slice(None)) - digits.mean[0]) / digits.std[0]).argmax(1)
    return float((labels == split.labels).float().mean())


def test_a_network_at_chance_is_refused(trained, digits, tiny_copy, tmp_path):
    """What guesses on the baseline split is no model of this data: the line says what to check; force adds it."""
    moved = copy.deepcopy(trained)
    order = [0, *range(2, 10), 1]  # only the zeros are called by their label
    moved[3].weight.data, moved[3].bias.data = trained[3].weight.data[order], trained[3].bias.data[order]
    torch.save(moved.state_dict(), tmp_path / "moved.pt")
    found = {name: f"{accuracy_of(moved, digits, name):.1%}" for name in ("baseline", "attack")}
    assert found["baseline"] != found["attack"]
    before = contents(tiny_copy)
    with pytest.raises(
        ModelError,
        match=rf"accuracy of {found['baseline']} on the baseline split of .*must be 20\.0% or more; check --mean and --std",
    ):
        add(tiny_copy, tmp_path / "moved.pt")
    assert contents(tiny_copy) == before
    row, _ = add(tiny_copy, tmp_path / "moved.pt", force=True)
    assert row.clean_accuracy < 0.2


def test_both_accuracies_are_stored(trained, digits, tiny_copy, tmp_path):
    """On the baseline and on the attack split; the row's own is on the latter, as that of every model."""
    row, _ = add(tiny_copy, saved(tmp_path / "mine.pt", trained.state_dict()))
    expected = {
        name: (pytest.approx(accuracy_of(trained, digits, name)), len(digits.splits[name]))
        for name in ("attack", "baseline")
    }
    stored = ask(
        tiny_copy,
        "SELECT split, value, n FROM model_metric WHERE model_id = ? AND name = 'clean_accuracy' ORDER BY split",
        row.id,
    )
    assert {split: (value, n) for split, value, n in stored} == expected
    assert row.clean_accuracy == expected["attack"][0]
    assert expected["attack"] != expected["baseline"]


def test_without_a_checkpoint_the_factorys_weights_are_kept(added, trained, tiny_copy, monkeypatch):
    """They are saved like any other: what the factory gives afterwards does not matter; twice is found."""
    monkeypatch.setattr(elsewhere, "ready", lambda: copy.deepcopy(trained), raising=False)
    monkeypatch.setattr(elsewhere.ready, "__module__", HERE)
    row, is_new = add(tiny_copy, None, "ready", "ready")
    assert (is_new, row.checkpoint_sha256) == (True, added[1].checkpoint_sha256)
    assert add(tiny_copy, None, "ready", "ready")[1] is False
    monkeypatch.setattr(elsewhere, "ready", elsewhere.bare)
    assert judges_of(tiny_copy, attack(tiny_copy, attacked="ready")) == [0, 1, 2]
    assert ask(tiny_copy, "SELECT sum(success) > 0 FROM sample") == [(1,)]


def test_weights_that_nobody_trained_are_at_chance(tiny_copy):
    """A factory that draws its weights has learned nothing: the accuracy says it."""
    before = contents(tiny_copy)
    with pytest.raises(
        ModelError, match=r"which is chance: must be 20.0% or more; check that it has learned \(--ch"
    ):
        add(tiny_copy, None)
    assert contents(tiny_copy) == before


def test_arguments_outputs_and_size_are_part_of_the_model(tiny_copy, trained, tmp_path):
    """A network with a softmax that wants another size is added, opened again by its row, and attacked."""
    path = saved(tmp_path / "wide.pt", elsewhere.enlarged(trained).state_dict())
    options = {"outputs": "probs", "resize": 16, "arguments": {"hidden": 32}}
    row, _ = add(tiny_copy, path, "wide", "wide_probabilities", **options)
    assert row.recipe == {
        "factory": f"{HERE}:wide_probabilities", "mean": list(row.recipe["mean"]), "std": list(row.recipe["std"]),
        "arguments": {"hidden": 32}, "outputs": "probs", "resize": 16,
    }  # fmt: skip
    assert row.clean_accuracy > 0.8
    assert judges_of(tiny_copy, attack(tiny_copy, attacked="wide")) == [0, 1, 2]
    assert check(tiny_copy) == []


def test_a_factory_in_a_file_works_from_another_folder(tiny_copy, checkpoint, tmp_path, monkeypatch):
    """The row names the file by its whole path; once it is edited, the model is refused before anything runs."""
    nets = tmp_path / "nets.py"
    nets.write_text("from tests.elsewhere import mlp as make\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    row, _ = add(tiny_copy, checkpoint, factory="nets.py:make")
    assert (row.architecture, row.recipe["factory"]) == ("nets.py:make", f"{nets}:make")
    monkeypatch.chdir("/")
    assert judges_of(tiny_copy, attack(tiny_copy, attacked="mine")) == [0, 1, 2]
    nets.write_text("raise AssertionError('run')\n")
    before = contents(tiny_copy)
    with pytest.raises(ModelError, match=r"nets.py was edited since the model was added"):
        attack(tiny_copy, attacked="mine", evaluators=["0", "1"])
    assert contents(tiny_copy) == before


def test_a_model_for_a_constructed_data_set(constructed, trained, tmp_path):
    """Any data set by name: its row is the model's, and its root's held-out images are asked about."""
    path = saved(tmp_path / "mine.pt", trained.state_dict())
    row, is_new = add(constructed, path, dataset="digits-det", mean=None, std=None, force=True)
    assert is_new
    assert ask(
        constructed,
        "SELECT dataset.name FROM model JOIN dataset ON dataset.id = dataset_id WHERE model.uid = ?",
        row.uid,
    ) == [("digits-det",)]
    assert ask(
        constructed,
        "SELECT DISTINCT dataset.name FROM model_metric JOIN dataset ON dataset.id = dataset_id WHERE model_id = ?",
        row.id,
    ) == [("digits",)]


@pytest.fixture
def constructed(tiny_copy):
    """The tiny store with a data set that was constructed from its ensemble."""
    from jsdelta_db.config.construction import ConstructionRequest
    from jsdelta_db.pipeline.datasets.build import build_dataset

    with open_workbench(tiny_copy) as bench:
        request = ConstructionRequest("det", 1, 0.1, 0.5, 64, 0, "auto", "auto")
        build_dataset(bench, request, ensemble="digits", name="digits-det")
    return tiny_copy


def test_an_added_model_that_was_moved_away_is_missed(added_copy, added):
    """The workspace's own copy is what counts: without it the line says which file."""
    (added_copy.root / added[1].checkpoint_uri).unlink()
    before = contents(added_copy)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is missing or altered"):
        attack(added_copy, attacked="mine")
    assert contents(added_copy) == before


# ---- what is refused


def write(path, content):
    """Write a file and return where."""
    path.write_bytes(content)
    return path


def saved(path, content):
    """Save with torch and return where."""
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder: folder / "none.pt",
            r"cannot be read \(No such file or directory\); give another file",
        ),
        (lambda folder: folder, r"cannot be read \(Is a directory\)"),
        (lambda folder: write(folder / "x.pt", b""), "does not hold plain weights; save model.state_dict"),
        (lambda folder: write(folder / "x.pt", b"text" * 50), "does not hold plain weights"),
        (lambda folder: saved(folder / "x.pt", elsewhere.bare()), "does not hold plain weights"),
        (
            lambda folder: saved(folder / "x.pt", [1, 2]),
            "holds no state dict but list; save model.state_dict",
        ),
        (lambda folder: saved(folder / "x.pt", {}), "holds no state dict but dict; save"),
        (
            lambda folder: saved(folder / "x.pt", {"epoch": 3, "acc": 1}),
            "holds no state dict but epoch, acc; save",
        ),
        (
            lambda folder: saved(folder / "x.pt", elsewhere.wide(10, 1, 8).state_dict()),
            r"does not fit the factory's network: 1.weight is \(64, 64\), the network's is \(32, 64\)",
        ),
        (
            lambda folder: saved(folder / "x.pt", {"other": torch.zeros(3)}),
            "does not fit the factory's network: it lacks 1.weight, 1.bias, 3.weight and 1 more, and it holds other",
        ),
    ],
    ids=[
        "missing",
        "folder",
        "empty",
        "text",
        "whole model",
        "list",
        "no names",
        "no weights",
        "size",
        "names",
    ],
)
def test_a_checkpoint_that_can_not_be_used(make, message, tiny_copy, tmp_path):
    """What is wrong with the file is said in one line; nothing is entered."""
    before = contents(tiny_copy)
    with pytest.raises(CheckpointError, match=message) as raised:
        add(tiny_copy, make(tmp_path))
    assert "\n" not in str(raised.value)
    assert contents(tiny_copy) == before


def test_no_code_of_a_checkpoint_runs(tiny_copy, tmp_path):
    """A pickle that would run code is refused, and does not."""
    before = contents(tiny_copy)
    for number, content in enumerate((pickle.dumps(Touch(tmp_path / "ran")), None)):
        path = tmp_path / f"{number}.pt"
        if content is None:
            torch.save({"state_dict": Touch(tmp_path / "ran")}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match="does not hold plain weights"):
            add(tiny_copy, path)
    assert not (tmp_path / "ran").exists()
    assert contents(tiny_copy) == before


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        ("probabilities", ModelOutputError, r"model mine returns probabilities \(rows add up to 1\.0000\)"),
        ("noisy", ModelOutputError, "model mine gives different outputs for the same images"),
        ("too_few", ModelOutputError, r"returns \(2, 3\) for two images; 'digits' has 10 classes"),
        ("broken", ModelError, "could not build the model: no such layer"),
        ("text", ModelError, "returned str: must be a torch.nn.Module"),
        ("not_callable", UsageError, "not callable: must be"),
        ("missing", UsageError, "cannot be imported"),
        ("no_such_module:make", UsageError, "'no_such_module:make' cannot be imported"),
    ],
)
def test_a_network_that_can_not_be_used(factory, error, message, tiny_copy, checkpoint):
    """What is wrong with the network or its factory is said in one line; nothing is entered."""
    before = contents(tiny_copy)
    with pytest.raises(error, match=message) as raised:
        add(tiny_copy, checkpoint, factory=factory)
    assert "\n" not in str(raised.value)
    assert contents(tiny_copy) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.5, 0.5, 0.5)}, "--mean has 3 values: must be 1"),
        ({"std": (0.5, 0.5)}, "--std has 2 values"),
        ({"mean": (127.5,)}, r"--mean .* is out of range: must be \[0, 1\]"),
        ({"std": (0.0,)}, r"--std .* is out of range: must be \(0, 1\]"),
        ({"std": (float("nan"),)}, "--std .* is out of range"),
        ({"dataset": "nope"}, "unknown dataset 'nope'; there is: digits, cifar10, svhn"),
        ({"outputs": "softmax"}, "--outputs 'softmax' is not valid: must be logits, probs or log-probs"),
        ({"resize": 0}, "--resize 0 is not valid: must be a whole number from 1 to 4096"),
        ({"resize": 5000}, "--resize 5000 is not valid"),
    ],
    ids=str,
)
def test_settings_that_are_not_valid(options, message, tiny_copy, checkpoint):
    """A normalization that no images have, or a data set that is not there."""
    before = contents(tiny_copy)
    with pytest.raises(UsageError, match=message):
        add(tiny_copy, checkpoint, **options)
    assert contents(tiny_copy) == before


def test_a_name_names_one_model(added_copy, checkpoint, tmp_path):
    """Another model of the name, or the same under another name, is refused with what to do."""
    torch.save(elsewhere.bare().state_dict(), tmp_path / "other.pt")
    before = contents(added_copy)
    with pytest.raises(UsageError, match=r"there is another model 'mine' \(\w{16}\); choose another name"):
        add(added_copy, tmp_path / "other.pt", force=True)
    with pytest.raises(UsageError, match=r"this model was added as 'mine' \(\w{16}\); use that name"):
        add(added_copy, checkpoint, "yours")
    assert contents(added_copy) == before


@pytest.mark.parametrize("name", ["digits", "first", "all", "0", "1,2", "a:b", ""])
def test_a_name_that_means_something_else_is_refused(name, tiny_copy, checkpoint):
    """A name that no option could tell from an ensemble, a seed or a rule is refused."""
    before = contents(tiny_copy)
    with pytest.raises(JsdeltaError, match=r"choose another|must be 1 to 100"):
        add(tiny_copy, checkpoint, name)
    assert contents(tiny_copy) == before
