"""``jsdelta models``: a network of one's own from the command line, in process."""

import csv
import io
import json
import sys

import pytest
import torch

from tests import elsewhere
from tests.cards import pretend_cards
from tests.cli.calls import call, parse_table, refused, words
from tests.reading import ask, contents, judges_of, last_evaluation

KEYS = [
    "model", "name", "dataset", "architecture", "method", "seed", "clean_accuracy", "sharpness", "ensembles",
]  # fmt: skip
ADD = ["models", "add", "mine", "--factory", "tests.elsewhere:mlp", "--dataset", "digits", "--force"]


@pytest.fixture
def checkpoint(tmp_path):
    """Weights of a perceptron that nobody trained."""
    torch.manual_seed(0)
    torch.save(elsewhere.bare().state_dict(), tmp_path / "mine.pt")
    return ["--checkpoint", str(tmp_path / "mine.pt")]


def test_add_prints_the_model_and_what_to_do_with_it(tiny_copy, checkpoint, capsys):
    """The first call adds, the second finds; both print the row and name the next commands."""
    for state in ("added", "found"):
        code, out, err = call(capsys, tiny_copy, *ADD, *checkpoint, "--method", "mine-own", "--seed", "4")
        assert code == 0, err
        (row,) = parse_table(out)
        assert list(row) == ["name", "model", "baseline accuracy", "clean accuracy", "state"]
        assert (row["name"], row["state"]) == ("mine", state)
        assert "jsdelta attack --eps 3 --attacked mine" in err
        assert "--evaluators mine" in err
    assert ask(tiny_copy, "SELECT uid, method, seed FROM model WHERE name = 'mine'") == [
        (row["model"], "mine-own", 4)
    ]


def test_an_added_model_is_attacked_and_judges(tiny_copy, checkpoint, capsys):
    """The commands that the note names run."""
    call(capsys, tiny_copy, *ADD, *checkpoint, "--mean", "dataset", "--std", "0.25")
    short = ["--eps", "8", "--steps", "2", "--images", "60"]
    code, _, err = call(capsys, tiny_copy, "attack", *short, "--evaluators", "mine", "--evaluators", "1,2")
    assert code == 0, err
    assert judges_of(tiny_copy, last_evaluation(tiny_copy)) == [0, 1, 2]
    code, _, err = call(capsys, tiny_copy, "attack", *short, "--attacked", "mine")
    assert code == 0, err
    assert ask(
        tiny_copy,
        "SELECT name FROM attack JOIN model ON model.id = attacked_model_id ORDER BY attack.id DESC LIMIT 1",
    ) == [("mine",)]


@pytest.mark.parametrize("card", [None, "NVIDIA H200"])
def test_a_model_is_checked_where_it_is_asked_for(card, tiny_copy, checkpoint, monkeypatch, capsys):
    """--device cpu leaves a card alone; --device cuda is refused where there is none, and adds nothing."""
    current = pretend_cards(monkeypatch, *([card] if card else []))
    before = contents(tiny_copy)
    refused(
        capsys, tiny_copy, 2, "is not there" if card else "is not available here: must be cpu or auto",
        *ADD, *checkpoint, "--device", "cuda:1",
    )  # fmt: skip
    assert contents(tiny_copy) == before
    code, _, err = call(capsys, tiny_copy, *ADD, *checkpoint, "--device", "cpu")
    assert code == 0, err
    assert current == []


def test_list_shows_what_there_is(tiny_copy, checkpoint, capsys):
    """Every finished model is listed, oldest first, with its name or its ensembles."""
    call(capsys, tiny_copy, *ADD, *checkpoint)
    code, out, err = call(capsys, tiny_copy, "models", "list", "--format", "json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert [list(row) for row in rows] == [KEYS] * 4
    assert [(row["name"], row["seed"], row["ensembles"]) for row in rows] == [
        (None, 0, "digits"), (None, 1, "digits"), (None, 2, "digits"), ("mine", 0, None),
    ]  # fmt: skip
    assert [row["model"] for row in rows] == [
        uid for (uid,) in ask(tiny_copy, "SELECT uid FROM model ORDER BY id")
    ]
    code, out, _ = call(capsys, tiny_copy, "models", "list", "--format", "csv")
    assert [row["name"] for row in csv.DictReader(io.StringIO(out))] == ["", "", "", "mine"]
    code, out, _ = call(capsys, tiny_copy, "models", "list")
    assert code == 0
    assert "mine" in out


def test_a_member_of_two_ensembles_is_listed_once(tiny_copy, capsys):
    """Models are shared by ensembles: each has one line with all of them."""
    call(capsys, tiny_copy, "train", "--members", "2", "--epochs", "3", "--seed", "1", "--name", "pair")
    rows = json.loads(call(capsys, tiny_copy, "models", "list", "--format", "json")[1])
    assert [row["ensembles"] for row in rows] == ["digits", "digits pair", "digits pair"]


@pytest.mark.parametrize(
    ("options", "code", "fragment"),
    [
        (
            ["--factory", "tests.elsewhere:probabilities"],
            1,
            "returns probabilities (rows add up to 1.0000): add --outputs probs, or leave the softmax out",
        ),
        (
            ["--factory", "tests.elsewhere:wide"],
            1,
            "does not fit the factory's network: 1.weight is (32, 64), the network's is (64, 64)",
        ),
        (["--factory", "tests.elsewhere:broken"], 1, "could not build the model: no such layer"),
        (["--factory", "nope"], 2, "unknown architecture 'nope'; there is: cnn-small"),
        (
            ["--factory", "torchvision:resnet999"],
            2,
            "unknown network of torchvision 'resnet999'; there is: alexnet",
        ),
        (["--factory", "torchvision:resnet18"], 1, "cannot take images of (1, 8, 8)"),
        (["--factory", "timm:no_such_net"], 2, "needs the package timm"),
        (
            ["--factory", "no/nets.py:make"],
            2,
            "there is no file no/nets.py; must be torchvision:resnet18, timm:",
        ),
        (["--set", "hidden"], 2, "--set 'hidden' is not valid: must be key=value"),
        (
            ["--set", "depth=3"],
            1,
            "could not build the model: mlp() got an unexpected keyword argument 'depth'",
        ),
        (["--outputs", "softmax"], 2, "--outputs 'softmax' is not valid: must be logits, probs or log-probs"),
        (["--outputs", "probs"], 1, "--outputs probs is not what model mine returns"),
        (["--resize", "0"], 2, "0 is out of range: must be a whole number from 1"),
        (["--resize", "16"], 1, "does not fit the factory's network"),
        (["--mean", "0.1,0.2,0.3"], 2, "--mean has 3 values: must be 1"),
        (["--mean", "128"], 2, "--mean"),
        (["--std", "0"], 2, "is out of range: must be (0, 1]"),
        (["--std", "half"], 2, "--std 'half' is not valid: must be numbers such as 0.5"),
        (["--dataset", "nope"], 2, "unknown dataset 'nope'"),
        (["--dataset", "cifar10"], 1, "--data-dir or JSDELTA_DATA_DIR"),
    ],
    ids=words,
)
def test_what_can_not_be_added_is_one_line(options, code, fragment, tiny_copy, checkpoint, capsys):
    """Each slip is one line with its exit code, and nothing is entered."""
    before = contents(tiny_copy)
    given = [*ADD, *checkpoint]
    if options[0] in given:
        given[given.index(options[0]) + 1] = options[1]
    else:
        given += options
    refused(capsys, tiny_copy, code, fragment, *given)
    assert contents(tiny_copy) == before


def test_a_network_at_chance_needs_force(tiny_copy, checkpoint, capsys):
    """What learned nothing is refused in a line that asks for its normalization; nothing is entered."""
    before = contents(tiny_copy)
    refused(capsys, tiny_copy, 1, "which is chance", *ADD[:-1], *checkpoint)
    assert contents(tiny_copy) == before


def test_what_was_stripped_is_printed(tiny_copy, tmp_path, capsys):
    """A line on stderr says where the weights were and what their names were."""
    torch.manual_seed(0)
    state = {f"module.{name}": value for name, value in elsewhere.bare().state_dict().items()}
    path = tmp_path / "mine.pt"
    torch.save({"net": state, "epoch": 3}, path)
    code, _, err = call(capsys, tiny_copy, *ADD, "--checkpoint", str(path))
    assert code == 0, err
    assert err.splitlines()[0] == (
        f"--checkpoint {path}: the weights are those under net; names such as module.1.weight were read as 1.weight"
    )


def test_a_file_and_its_arguments_from_the_line(tiny_copy, tmp_path, monkeypatch, capsys):
    """path/to/nets.py:callable with --set, --outputs and --resize, without a checkpoint: its own weights."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "nets.py").write_text(
        "from torch import nn\nfrom tests.elsewhere import wide\n"
        "def make(num_classes, image_size, hidden, soft=False):\n"
        "    assert (image_size, hidden, soft) == (12, 16, True)\n"
        "    return nn.Sequential(*wide(num_classes, 1, image_size, hidden), nn.Softmax(1))\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    code, out, err = call(
        capsys, tiny_copy, "models", "add", "filed", "--factory", "code/nets.py:make", "--dataset", "digits",
        "--set", "hidden=16", "--set", "soft=True", "--outputs", "probs", "--resize", "12", "--force",
    )  # fmt: skip
    assert code == 0, err
    assert parse_table(out)[0]["name"] == "filed"
    assert ask(tiny_copy, "SELECT architecture FROM model WHERE name = 'filed'") == [("nets.py:make",)]


def test_a_network_of_torchvision_from_the_line(tiny_copy, capsys):
    """A library's network needs neither code nor weights; what it has not learned it says."""
    given = ["models", "add", "net", "--factory", "torchvision:shufflenet_v2_x0_5", "--dataset", "digits"]
    refused(capsys, tiny_copy, 1, "cannot take images of (1, 8, 8)", *given)


def test_an_unknown_data_set_makes_no_store(tmp_path, checkpoint, capsys):
    """A mistyped data set in a folder without a store: the names that there are, and nothing is made."""
    folder = tmp_path / "none"
    given = [*ADD, *checkpoint]
    given[given.index("digits")] = "digit"
    refused(capsys, folder, 2, "unknown dataset 'digit'; there is: digits, cifar10", *given)
    assert not folder.exists()


def test_a_factory_beside_the_user_is_found(tiny_copy, tmp_path, monkeypatch, capsys):
    """A module in the current folder can be named: the command looks there."""
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    torch.save(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).state_dict(), tmp_path / "w.pt"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    monkeypatch.chdir(tmp_path)
    code, out, err = call(
        capsys, tiny_copy, "models", "add", "near", "--factory", "my_networks:make", "--checkpoint", "w.pt",
        "--dataset", "digits", "--force",
    )  # fmt: skip
    assert code == 0, err
    assert parse_table(out)[0]["name"] == "near"


def test_list_without_a_store(tmp_path, capsys):
    """Without a store there is nothing to list: exit 3, and nothing is made."""
    code, out, err = call(capsys, tmp_path / "none", "models", "list")
    assert (code, out) == (3, "")
    assert "jsdelta train" in err
    assert list(tmp_path.iterdir()) == []


def test_an_added_model_makes_a_store_of_its_own(workspace, checkpoint, capsys):
    """A first model may be one's own: the store is made, as by train."""
    code, _, err = call(capsys, workspace, *ADD, *checkpoint)
    assert code == 0, err
    assert ask(workspace, "SELECT name FROM model") == [("mine",)]
