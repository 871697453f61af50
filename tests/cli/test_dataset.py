"""``jsdelta dataset`` from the command line, in process."""

import csv
import io
import json

import pytest
from PIL import Image

from jsdelta_db.queries.datasets import DATASET_KEYS, FACT_KEYS
from tests.cli.calls import call, parse_table, refused
from tests.reading import ask, contents

BUILD = ["dataset", "build", "det", "--from", "digits", "--name", "made", "--images", "20", "--steps", "2"]


@pytest.fixture
def built(tiny_copy, capsys):
    """The tiny store with a data set ``made``."""
    code, _, err = call(capsys, tiny_copy, *BUILD)
    assert code == 0, err
    return tiny_copy


def test_build_prints_the_set_and_what_to_do_with_it(tiny_copy, capsys):
    """The first call builds, the second finds; both print the row and name the next commands."""
    for state in ("built", "found"):
        code, out, err = call(
            capsys, tiny_copy, *BUILD, "--eps", "0.15", "--step-size", "0.1", "--member", "1"
        )
        assert code == 0, err
        (row,) = parse_table(out)
        assert (row["name"], row["construction"], row["images"], row["state"]) == ("made", "det", "20", state)
        assert "jsdelta train --dataset made" in err
        assert "jsdelta dataset show made" in err
    ((construction,),) = ask(tiny_copy, "SELECT construction FROM dataset WHERE name = 'made'")
    facts = json.loads(construction)
    assert (facts["eps"], facts["step_size"], facts["member"]) == (0.15, 0.1, 1)


def test_a_method_that_differs_is_noted_on_stderr(tiny_copy, capsys):
    """robust from a standard ensemble is made, with a note that is no error."""
    code, _, err = call(
        capsys, tiny_copy, "dataset", "build", "robust", "--from", "digits", "--name", "made", "--images", "10",
        "--steps", "1",
    )  # fmt: skip
    assert code == 0
    assert "robust is defined with adversarial training, made with standard" in " ".join(err.split())


def test_list_shows_all_sets(built, capsys):
    """Every format has the documented keys, the builtin set first."""
    code, out, err = call(capsys, built, "dataset", "list", "--format", "json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert [list(row) for row in rows] == [list(DATASET_KEYS)] * 2
    ((model,),) = ask(built, "SELECT uid FROM model WHERE seed = 0")
    ((uid,),) = ask(built, "SELECT uid FROM dataset WHERE name = 'made'")
    assert rows[1] == {
        "name": "made", "uid": uid, "kind": "constructed", "construction": "det", "parent": "digits",
        "model": model, "images": 20, "status": "finished",
    }  # fmt: skip
    assert (rows[0]["name"], rows[0]["kind"], rows[0]["parent"]) == ("digits", "builtin", None)
    _, out, _ = call(capsys, built, "dataset", "list", "--format", "csv")
    assert [row["name"] for row in csv.DictReader(io.StringIO(out))] == ["digits", "made"]
    for form in ("table", "markdown", "jsonl"):
        code, out, _ = call(capsys, built, "dataset", "list", "--format", form)
        assert (code, "made" in out) == (0, True)


def test_show_prints_facts_and_draws(built, tmp_path, capsys):
    """Facts line by line for people, one object for machines; the figure is a picture of some width."""
    figure = tmp_path / "made.png"
    code, out, err = call(capsys, built, "dataset", "show", "made", "-o", str(figure), "--limit", "4")
    assert code == 0, err
    facts = {row["fact"]: row["value"] for row in parse_table(out)}
    assert (facts["construction"], facts["steps"], facts["chain"]) == ("det", "2", "digits > made")
    with Image.open(figure) as picture:
        assert picture.size[0] > picture.size[1] > 300
    again = ["dataset", "show", "made", "-o", str(figure), "--limit", "2"]
    refused(capsys, built, 2, "add --force to replace it", *again)
    before = figure.read_bytes()
    assert call(capsys, built, *again, "--force")[0] == 0
    assert figure.read_bytes() != before
    _, out, _ = call(capsys, built, "dataset", "show", facts["uid"][:6], "--format", "json")
    (row,) = json.loads(out)
    assert list(row) == list(FACT_KEYS)
    assert row["eps"] == 0.2


def test_show_draws_the_second_order_from_its_origin(built, tmp_path, capsys):
    """A set of a set is drawn with all that came before; a builtin one has nothing to draw."""
    call(capsys, built, "train", "--dataset", "made", "--members", "1", "--epochs", "1", "--name", "on-made")
    short = ["--images", "5", "--steps", "1"]
    code, _, err = call(
        capsys, built, "dataset", "build", "nonrobust", "--from", "on-made", "--name", "again", *short
    )
    assert code == 0, err
    sizes = []
    for name in ("made", "again"):
        figure = tmp_path / f"{name}.png"
        assert call(capsys, built, "dataset", "show", name, "-o", str(figure), "--limit", "5")[0] == 0
        with Image.open(figure) as picture:
            sizes.append(picture.size)
    assert sizes[1][1] > sizes[0][1]  # a row more
    code, out, err = call(capsys, built, "dataset", "show", "digits", "-o", str(tmp_path / "no.png"))
    assert (code, out, (tmp_path / "no.png").exists()) == (2, "", False)
    assert "was not constructed" in err


def test_training_on_a_set_reports_on_the_original_images(built, capsys):
    """train --dataset NAME takes the root's recipe and tells the accuracy on the root's held-out images."""
    code, out, err = call(capsys, built, "train", "--dataset", "made", "--epochs", "1", "--members", "2")
    assert code == 0, err
    assert len(parse_table(out)) == 2
    assert ask(
        built,
        "SELECT DISTINCT dataset.name, model.architecture, metric.n FROM model "
        "JOIN dataset ON dataset.id = model.dataset_id JOIN model_metric metric ON metric.model_id = model.id "
        "WHERE metric.name = 'clean_accuracy' AND dataset.name = 'made'",
    ) == [("made", "cnn-small", 600)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "bugs", "--from", "digits", "--name", "x"], "kind 'bugs' is not valid: must be robust"),
        (["build", "det", "--name", "x"], "Missing option '--from'"),
        (["build", "det", "--from", "digits"], "Missing option '--name'"),
        (["build", "det", "--from", "nobody", "--name", "x"], "unknown ensemble 'nobody'"),
        (["build", "det", "--from", "digits", "--name", "x", "--steps", "0"], "0 is out of range"),
        (["build", "det", "--from", "digits", "--name", "x", "--step-size", "nan"], "step_size nan"),
        (["build", "det", "--from", "digits", "--name", "x", "--eps", "-1"], "--eps '-1' is out of range"),
        (["build", "robust", "--from", "digits", "--name", "x", "--eps", "1"], "does not fit a robust"),
        (["build", "det", "--from", "digits", "--name", "x", "--member", "7"], "--member 7 is no seed"),
        (["build", "det", "--from", "digits", "--name", "x", "--device", "tpu"], "device 'tpu'"),
        (["build", "det", "--from", "digits", "--name", "7"], "--name '7' is not valid"),
        (["show", "nothing"], "unknown dataset 'nothing'; there is: digits, made"),
        (["show", "made", "-o", "made.gif"], "made.gif"),
    ],
)
def test_bad_input_is_one_line(built_once, arguments, message, capsys):
    """Exit code 2, one line on stderr, nothing made."""
    before = contents(built_once)
    refused(capsys, built_once, 2, message, "dataset", *arguments)
    assert contents(built_once) == before


@pytest.fixture(scope="module")
def built_once(tiny, tmp_path_factory):
    """A copy of the tiny store with a data set ``made``, that nothing changes."""
    from cli.main import run
    from tests.workspaces import copy_of

    workspace = copy_of(tiny, tmp_path_factory.mktemp("built") / "copy")
    assert run(["--workspace", str(workspace.root), *BUILD]) == 0
    return workspace


def test_without_a_store_nothing_is_made(tmp_path, capsys):
    """Exit code 3 and the command that makes a store."""
    for arguments in (BUILD, ["dataset", "list"], ["dataset", "show", "made"]):
        refused(capsys, tmp_path, 3, "jsdelta", *arguments)
    assert list(tmp_path.iterdir()) == []
