"""``jsdelta query attacks`` and ``jsdelta attacks show``."""

import json
import shlex

import pytest

from tests.cli.calls import call, query_json, refused
from tests.reading import ask, tell


def test_attacks_are_listed_with_their_progress(tiny_copy, capsys):
    """Finished and unfinished ones, with what is done of them; the list can be narrowed to the latter."""
    tell(tiny_copy, "UPDATE attack_chunk SET status = 'pending' WHERE attack_id = 2")
    rows, _ = query_json(capsys, tiny_copy, "attacks")
    attempts = ask(tiny_copy, "SELECT uid, n_attempts, eps FROM attack ORDER BY id")
    assert [(row["attack"], row["attempts"], row["eps"]) for row in rows] == attempts
    assert [row["status"] for row in rows] == ["finished", "unfinished"]
    assert [row["attempts_done"] for row in rows] == [attempts[0][1], 0]
    uids = ask(tiny_copy, "SELECT uid FROM evaluation ORDER BY attack_id")
    assert [(row["evaluations"],) for row in rows] == uids
    left, _ = query_json(capsys, tiny_copy, "attacks", "--unfinished")
    assert left == rows[1:]


def test_one_attack_is_shown_whole(tiny, capsys):
    """By its uid or that of an evaluation; for people as facts, for machines as one row."""
    ((attack, evaluation),) = ask(
        tiny, "SELECT attack.uid, evaluation.uid FROM attack JOIN evaluation ON attack_id = attack.id LIMIT 1"
    )
    for uid in (attack, evaluation, attack[:6]):
        code, out, err = call(capsys, tiny, "attacks", "show", uid, "--format", "json")
        assert (code, err) == (0, f"its bugs: jsdelta query bugs --attack {attack[:8]}\n")
        (row,) = json.loads(out)
        assert (row["attack"], row["steps"], row["seed"]) == (attack, 10, 0)
        assert row["evaluators"].startswith(f"{evaluation[:8]}: 1@")
    lines = [line.split() for line in call(capsys, tiny, "attacks", "show", attack)[1].splitlines()]
    assert ["attacked", row["attacked"]] in lines
    assert ["eps", "3/255"] in lines
    refused(capsys, tiny, 2, "unknown attack 'zz'; there is: ", "attacks", "show", "zz")


def test_attacks_are_selected_as_in_every_question(tiny_copy, capsys):
    """Unfinished ones, too, also before an evaluation was planned; an empty answer says what left nothing."""
    tell(tiny_copy, "UPDATE attack_chunk SET status = 'pending' WHERE attack_id = 2")
    tell(tiny_copy, "UPDATE evaluation SET status = 'pending' WHERE attack_id = 2")
    rows, _ = query_json(capsys, tiny_copy, "attacks")
    for given in (
        ["--eps", "8"],
        ["--where", "eps=8/255"],
        ["--attack", rows[1]["attack"][:5]],
        ["--unfinished"],
    ):
        assert query_json(capsys, tiny_copy, "attacks", *given)[0] == rows[1:]
    for given in (["--where", "epochs>0"], ["--method", "standard"], ["--ensemble", "digits"]):
        assert query_json(capsys, tiny_copy, "attacks", *given)[0] == rows
    nothing, err = query_json(capsys, tiny_copy, "attacks", "--where", "eps=5")
    assert (nothing, err) == ([], "--where eps=5 leaves nothing; eps is 3/255, 8/255 here\n")
    refused(capsys, tiny_copy, 2, "did you mean 'digits'?", "query", "attacks", "--dataset", "digit")
    assert {row["eps"] for row in query_json(capsys, tiny_copy, "bugs")[0]} == {3 / 255}


def test_both_ensembles_have_their_names(four, capsys):
    """Whose member was attacked and who judged are two columns; machines find the latter under its old name, too."""
    rows, _ = query_json(capsys, four, "attacks", "--eps", "8")
    keys = ("attacked_ensemble", "judged_by", "ensemble")
    assert [tuple(row[key] for key in keys) for row in rows] == [("digits",) * 3, ("four",) * 3]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--evaluators", "1", "--evaluators", "2", "--attacked", "0", "--seed", "3", "--no-random-start"],
        ["--norm", "l2", "--targets", "next", "--restarts", "2", "--relative-step-size", "1.5"],
        ["--targets", "untargeted", "--stop", "first-hit", "--objective", "margin", "--split", "baseline"],
        ["--objective", "feature", "--surrogates", "3"],
        ["--attacked", "3", "--evaluators", "digits:1,2", "--temperature", "fit"],
        ["--attack-by", "nearby.py:push", "--set", "factor=0.5", "--set", 'word="7"'],
    ],
    ids=" ".join,
)
def test_the_command_makes_the_same_attack(options, four_copy, nearby, capsys):
    """Typed again, it finds the attack and the evaluation that are there: nothing is done."""
    given = ["attack", "--ensemble", "four", "--eps", "3", "--images", "12", *options]
    given += [] if "--attack-by" in options else ["--steps", "2"]
    assert call(capsys, four_copy, *given)[0] == 0
    rows, _ = query_json(capsys, four_copy, "attacks")
    program, *words = shlex.split(rows[-1]["command"])
    assert program == "jsdelta"
    code, _, err = call(capsys, four_copy, *words)
    assert (code, "every one of these attacks was finished before" in err) == (0, True), (words, err)
    assert query_json(capsys, four_copy, "attacks")[0] == rows


def test_samples_made_elsewhere_have_no_command(tiny_copy, capsys):
    """There are no steps to repeat."""
    tell(tiny_copy, "UPDATE attack SET steps = 0, library = 'foolbox' WHERE id = 1")
    rows, _ = query_json(capsys, tiny_copy, "attacks")
    assert [row["command"] is None for row in rows] == [True, False]


@pytest.fixture
def nearby(tmp_path, monkeypatch):
    """An attack of somebody's in the folder at hand."""
    (tmp_path / "nearby.py").write_text(
        "def push(model, x, label, target_label, eps, norm, factor, word):\n"
        "    return (x + factor * eps).clamp(0, 1)\n"
    )
    monkeypatch.chdir(tmp_path)
