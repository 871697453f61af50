"""``jsdelta query`` beyond bugs: samples, stability, transfer, controls and assumptions, in process."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jsdelta_db.config.locations import resolve_workspace
from jsdelta_db.queries.controls import ASSUMPTION_KEYS, CONTROL_KEYS
from jsdelta_db.queries.samples import SAMPLE_KEYS
from jsdelta_db.queries.stability import STABILITY_KEYS
from jsdelta_db.queries.transfer import TRANSFER_KEYS
from jsdelta_db.store.migrate import upgrade
from tests.cli.calls import DEFAULT_KEYS, call, parse_markdown, parse_table, query, query_json, refused, words
from tests.reading import ask, tell
from tests.workspaces import copy_files, tiny_attacks

KEYS = {
    "samples": list(SAMPLE_KEYS),
    "stability": [*DEFAULT_KEYS, *STABILITY_KEYS],
    "transfer": [*DEFAULT_KEYS, *TRANSFER_KEYS],
    "controls": list(CONTROL_KEYS),
    "assumptions": list(ASSUMPTION_KEYS),
}
FORBIDDEN = {"torch", "mlflow", "sqlalchemy", "alembic", "matplotlib", "scipy", "sklearn", "pandas"}


@pytest.fixture(scope="module")
def looked_at(tiny, tmp_path_factory):
    """The tiny store, its stronger attack looked at with --controls and --stability."""
    from jsdelta_db.pipeline.attack import attack_and_score
    from jsdelta_db.pipeline.evaluation.finished import Extras
    from jsdelta_db.workbench.workbench import open_workbench

    root = tmp_path_factory.mktemp("looked-at") / "workspace"
    copy_files(tiny.root, root)
    with open_workbench(resolve_workspace(root)) as bench:
        attack_and_score(bench, tiny_attacks(8), extras=Extras(controls=True, stability=True))
    return resolve_workspace(root)


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_the_documented_ones(name, looked_at, capsys):
    """Each row has the same keys in JSON and in CSV, in that order."""
    rows, _ = query_json(capsys, looked_at, name, "--eps", "8")
    assert rows
    assert {tuple(row) for row in rows} == {tuple(KEYS[name])}
    _, out, _ = call(capsys, looked_at, "query", name, "--eps", "8", "--format", "csv")
    assert list(csv.DictReader(io.StringIO(out)).fieldnames) == KEYS[name]


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(("form", "parse"), [("markdown", parse_markdown), ("table", parse_table)])
def test_people_get_a_row_for_each(name, form, parse, looked_at, capsys):
    """Tables have as many rows as JSON, uids shortened to eight characters, ε in pixel levels."""
    rows, _ = query_json(capsys, looked_at, name, "--eps", "8")
    code, out, _ = call(capsys, looked_at, "query", name, "--eps", "8", "--format", form)
    cells = parse(out)
    assert (code, len(cells)) == (0, len(rows))
    for shown, row in zip(cells, rows, strict=True):
        assert [shown[key] for key in ("attack", "evaluation") if key in row] == [
            row[key][:8] for key in ("attack", "evaluation") if key in row
        ]
        assert shown.get("eps", "8/255") == "8/255"


@pytest.mark.parametrize("name", KEYS)
def test_output_file_and_no_header(name, looked_at, tmp_path, capsys):
    """-o writes what stdout would show; --no-header leaves the column names out."""
    arguments = ["query", name, "--format", "csv", "--no-header"]
    _, expected, _ = call(capsys, looked_at, *arguments)
    code, out, _ = call(capsys, looked_at, *arguments, "-o", str(tmp_path / "rows.csv"))
    assert (code, out, (tmp_path / "rows.csv").read_text()) == (0, "", expected)
    assert expected.partition(",")[0] != KEYS[name][0]


@pytest.mark.parametrize("name", KEYS)
def test_store_without_rows_is_no_failure(name, workspace, capsys):
    """An empty store gives an empty list, and a hint on stderr."""
    upgrade(workspace.db_url)
    rows, err = query_json(capsys, workspace, name)
    assert rows == []
    assert "jsdelta" in err


def test_samples_are_the_stored_rows(looked_at, capsys):
    """The rows are those that plain SQL finds, the smallest JSΔ first; the rest is counted on stderr."""
    rows, err = query_json(capsys, looked_at, "samples", "--eps", "8", "--limit", "3")
    found = ask(
        looked_at,
        "SELECT js_delta, js, confidence FROM sample JOIN score USING (sample_index, requested_target)"
        " JOIN evaluation ON evaluation.id = evaluation_id AND evaluation.attack_id = sample.attack_id"
        " JOIN attack ON attack.id = sample.attack_id WHERE eps = ? AND success = 1 ORDER BY js_delta",
        8 / 255,
    )
    assert [(row["js_delta"], row["js"], row["confidence"]) for row in rows] == found[:3]
    assert f"{len(found) - 3} more; --limit 0 lists all" in err
    everything, err = query_json(capsys, looked_at, "samples", "--eps", "8", "--limit", "0")
    assert (len(everything), err) == (len(found), "")


def test_bugs_among_the_samples_are_those_counted(tiny, capsys):
    """--bugs lists exactly the samples that query bugs counts, largest first on request."""
    (counted,) = query(capsys, tiny, "--eps", "8", "--beta", "0.1")
    rows, _ = query_json(
        capsys, tiny, "samples", "--eps", "8", "--bugs", "0.1", "--limit", "0", "--sort", "-js_delta"
    )
    values = [row["js_delta"] for row in rows]
    assert len(rows) == counted["n_bugs"]
    assert values == sorted(values, reverse=True)
    assert max(values) < 0.1


def test_failed_attempts_and_labels_on_request(tiny, capsys):
    """--all adds the failed attempts; --source and --target keep one label."""
    (counted,) = query(capsys, tiny, "--eps", "3", "--beta", "0.1")
    rows, _ = query_json(capsys, tiny, "samples", "--eps", "3", "--all", "--limit", "0")
    assert len(rows) == counted["n_attempted"] + counted["n_no_baseline"]
    for key in ("source", "target"):
        label = rows[0][f"{key}_label"]
        kept, _ = query_json(
            capsys, tiny, "samples", "--eps", "3", "--all", "--limit", "0", f"--{key}", label
        )
        assert kept == [row for row in rows if row[f"{key}_label"] == label]


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["samples", "--sort", "colour"], "unknown --sort 'colour'; there is: attack, evaluation"),
        (["samples", "--limit", "-1"], "-1 is out of range: must be a whole number from 0"),
        (["samples", "--bugs", "0"], "is out of range: must be a number above 0"),
        (["samples", "--bugs", "0.1", "--all"], "--all"),
        (["samples", "--source", "cat"], "unknown --source 'cat'; there is: 0, 1, 2"),
        (["stability", "--beta", "x"], "must be a number above 0"),
        (
            ["transfer", "--population", "all"],
            "unknown population 'all'; there is: attacked-correct, all-correct",
        ),
        (["bugs", "--norm", "l3", "--eps", "3"], "unknown norm 'l3'; there is: linf, l2"),
        (["bugs", "--norm", "l2", "--eps", "0"], "must be a number in (0, 1000] for l2"),
        (["bugs", "--temperature", "2"], "unknown temperature '2'; there is: 1, fit"),
        (["controls", "--objective", "x"], "unknown objective 'x'; there is: target, margin, bug, feature"),
        (["assumptions", "--library", "x"], "unknown library 'x'; there is: jsdelta"),
    ],
    ids=words,
)
def test_bad_input_is_one_line(arguments, fragment, tiny, capsys):
    """What cannot be asked is a usage error in one line that names what can."""
    refused(capsys, tiny, 2, fragment, "query", *arguments)


def test_stability_of_what_was_measured(looked_at, capsys):
    """The measured attack has a row with the attacked model's sharpness; the other is named with what to run."""
    (row,), err = query_json(capsys, looked_at, "stability", "--beta", "0.2")
    assert (row["eps"], row["beta"]) == (8 / 255, 0.2)
    assert (
        row["n_bugs"] + row["n_features"]
        == query(capsys, looked_at, "--eps", "8", "--beta", "9")[0]["n_success"]
    )
    assert row["difference"] == pytest.approx(row["stability_bugs"] - row["stability_features"])
    assert row["sharpness"] > 0
    assert "run the same jsdelta attack" in err
    assert "--stability" in err
    assert query_json(capsys, looked_at, "stability", "--eps", "8")[1] == ""


def test_controls_of_what_was_looked_at(looked_at, capsys):
    """Each control has its verdict; an evaluation without controls is named with what to run."""
    rows, err = query_json(capsys, looked_at, "controls")
    assert {row["control"] for row in rows if row["eps"] == 3 / 255} == {"evaluator_accuracy"}
    verdicts = {row["control"]: row["verdict"] for row in rows}
    assert (verdicts["identity"], verdicts["bug_seeking"]) == ("pass", "shown")
    assert not {name for name in verdicts if name.startswith(("agreement", "accuracy", "invariance"))}
    assert [row["kind"] for row in rows[-3:]] == ["identity"] * 3
    assert "--controls" in err
    assert "--controls" not in query_json(capsys, looked_at, "controls", "--eps", "8")[1]


def test_assumptions_explain_what_fails(looked_at, capsys):
    """Agreement is shown for all; a failed invariance is explained in plain words."""
    rows, err = query_json(capsys, looked_at, "assumptions")
    assert [row["assumption"] for row in rows if row["eps"] == 3 / 255] == [
        "agreement_label", "agreement_js", "accuracy_spread",
    ]  # fmt: skip
    failed = [row for row in rows if row["verdict"] == "fail"]
    assert {row["assumption"] for row in failed} >= {"invariance_flip"}
    assert err.count("these models were not trained to expect") == len(failed)


def test_population_is_named_and_narrows(tiny, tmp_path, capsys):
    """all-correct counts fewer attempts, leaves the skipped images as they are, and is said on stderr."""
    (plain,) = query(capsys, tiny, "--eps", "8", "--beta", "0.1")
    (row,), err = query_json(
        capsys, tiny, "bugs", "--eps", "8", "--beta", "0.1", "--population", "all-correct"
    )
    right, _ = query_json(capsys, tiny, "samples", "--eps", "8", "--all", "--limit", "0")
    right = [each for each in right if each["n_right"] == 2 and each["js_delta"] is not None]
    assert (row["n_attempted"], row["n_skipped"]) == (len(right), plain["n_skipped"])
    assert row["n_success"] == sum(each["success"] for each in right)
    assert "population: all-correct" in err
    assert "population" not in query_json(capsys, tiny, "bugs", "--population", "attacked-correct")[1]
    figure = tmp_path / "figure.svg"
    code, _, err = call(
        capsys, tiny, "plot", "histogram", "--eps", "8", "--population", "all-correct", "-o", str(figure)
    )
    assert code == 0
    assert "population: all-correct" in err
    assert f"{row['n_success']} successful" in figure.read_text()


@pytest.mark.parametrize("name", ["bugs", "transfer"])
@pytest.mark.parametrize(("form", "parse"), [("markdown", parse_markdown), ("table", parse_table)])
def test_mixed_evaluators_and_added_models(name, form, parse, tiny_copy, capsys):
    """An added model goes by its name, and a set of evaluators without an ensemble shows a dash."""
    tell(tiny_copy, "UPDATE evaluation SET ensemble_id = NULL WHERE id = 1")
    tell(tiny_copy, "UPDATE model SET name = 'mine' WHERE seed = 0")
    code, out, _ = call(capsys, tiny_copy, "query", name, "--format", form)
    rows = parse(out)
    assert code == 0
    assert {row["judged by"] for row in rows} == {"–", "digits"}
    assert {row["attacked"] for row in rows} == {"mine"}
    rows, _ = query_json(capsys, tiny_copy, name)
    assert {row["ensemble"] for row in rows} == {None, "digits"}


def test_evaluators_that_were_added_go_by_their_names(tiny_copy, capsys):
    """Among the evaluators a seed stands with the start of its uid, an added model by its name."""
    tell(tiny_copy, "UPDATE model SET name = 'mine' WHERE seed = 2")
    ((uid,),) = ask(tiny_copy, "SELECT uid FROM model WHERE seed = 1")
    (row,) = query(capsys, tiny_copy, "--by", "evaluators", "--beta", "0.1")
    assert row["evaluators"] == f"1@{uid[:6]} mine"


def test_eps_of_another_norm(tiny_copy, capsys):
    """With --norm l2 an ε is as written, and only attacks in that norm are looked at."""
    tell(tiny_copy, "UPDATE attack SET norm = 'l2', eps = 0.5 WHERE id = 2")
    rows = query(capsys, tiny_copy, "--norm", "l2", "--eps", "0.5", "--beta", "0.1")
    assert [(row["norm"], row["eps"]) for row in rows] == [("l2", 0.5)]
    assert query(capsys, tiny_copy, "--norm", "linf", "--eps", "0.5/255") == []
    _, out, _ = call(capsys, tiny_copy, "query", "bugs", "--norm", "l2", "--by", "eps", "--beta", "0.1")
    assert parse_table(out)[0]["eps"] == "0.5"
    _, _, err = call(capsys, tiny_copy, "query", "bugs", "--by", "method", "--beta", "0.1")
    assert "pooled over norm: linf, l2" in err
    assert "pooled over eps: 0.0117647, 0.5" in err


def test_questions_import_nothing_slow(looked_at, tmp_path):
    """Every question comes at once: none loads a training, tracking, database or plotting package."""
    code = (
        "import sys; from cli.main import run\n"
        f"asked = [*([name] for name in {list(KEYS)}), ['sql', 'SELECT count(*) FROM sample_scores']]\n"
        f"codes = [run(['--workspace', {str(looked_at.root)!r}, 'query', *words]) for words in asked]\n"
        "print(codes, *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert last.startswith(str([0] * (len(KEYS) + 1)))
    assert set(last.split()) & FORBIDDEN == set()
    assert "typer" in last.split()
