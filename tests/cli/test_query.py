"""``jsdelta query bugs``, in process on the tiny store."""

import csv
import io
import json
import sqlite3
import subprocess

import pytest

from cli.output import note_pooled
from jsdelta_db.config.evaluation import DEFAULT_BETAS
from jsdelta_db.store.migrate import upgrade
from tests.cli.calls import DEFAULT_KEYS, call, parse_markdown, parse_table, query
from tests.faults.attacks import JSDELTA
from tests.reading import ask

COUNTED = [
    "beta", "n_attempted", "n_skipped", "n_success", "n_no_baseline", "n_outside", "n_bugs",
    "bug_fraction", "bug_fraction_low", "bug_fraction_high", "bug_rate", "bug_rate_low", "bug_rate_high",
    "interval", "covers", "n_images", "n_images_bug", "n_images_non_bug", "too_few", "warnings", "measure",
    "n_no_relative", "n_models", "share_models",
]  # fmt: skip


def test_json_keys_are_the_group_and_the_counts(tiny, capsys):
    """Each row has exactly the group's keys and the counts, in that order."""
    for row in query(capsys, tiny):
        assert list(row) == DEFAULT_KEYS + COUNTED


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("eps", ["eps"]),
        ("eps,method", ["eps", "method"]),
        ("eps, attacked", ["eps", "attacked"]),
        ("norm,label-pair", ["norm", "source_label", "target_label"]),
        ("target-label", ["target_label"]),
        ("evaluators", ["evaluators"]),
    ],
)
def test_by_decides_the_keys_of_a_row(by, keys, tiny, capsys):
    """--by replaces the default keys by its own, in the order given."""
    rows = query(capsys, tiny, "--by", by)
    assert [list(row) for row in rows] == [keys + COUNTED] * len(rows)
    assert len(rows) >= len(DEFAULT_BETAS)


def test_one_row_per_eps_and_beta(tiny, capsys):
    """Two attacks and two --beta give four rows, β varying fastest; the stored ε are exact."""
    rows = query(capsys, tiny, "--beta", "0.10", "--beta", "0.01")
    assert [(row["eps"], row["beta"]) for row in rows] == [
        (3 / 255, 0.10), (3 / 255, 0.01), (8 / 255, 0.10), (8 / 255, 0.01),
    ]  # fmt: skip


def test_without_beta_the_usual_three_are_asked(tiny, capsys):
    """The default thresholds are strict, middling and borderline."""
    rows = query(capsys, tiny, "--eps", "8")
    assert [row["beta"] for row in rows] == list(DEFAULT_BETAS)


def test_counts_belong_together(tiny, capsys):
    """Counts nest, fractions follow from them, and each lies inside its interval."""
    for row in query(capsys, tiny):
        assert row["n_attempted"] + row["n_no_baseline"] + row["n_skipped"] == 60
        assert row["n_bugs"] <= row["n_success"] <= row["n_attempted"]
        assert row["bug_fraction"] == row["n_bugs"] / row["n_success"]
        assert row["bug_rate"] == row["n_bugs"] / row["n_attempted"]
        assert 0 <= row["bug_fraction_low"] <= row["bug_fraction"] <= row["bug_fraction_high"] <= 1
        assert 0 <= row["bug_rate_low"] <= row["bug_rate"] <= row["bug_rate_high"] <= 1
        assert row["interval"] == "wilson"  # each image appears once in the group
        assert (row["covers"], row["n_images"]) == ("images", row["n_success"])
        assert row["too_few"] == (
            row["n_success"] < 30 or min(row["n_images_bug"], row["n_images_non_bug"]) < 5
        )


def test_counts_are_those_of_the_stored_rows(tiny, capsys):
    """What is printed is what plain SQL counts in the tables."""
    (row,) = query(capsys, tiny, "--eps", "8", "--beta", "0.1")
    (found,) = ask(
        tiny,
        "SELECT count(*), sum(success), sum(success AND js_delta < 0.1) FROM sample"
        " JOIN attack ON attack.id = sample.attack_id JOIN evaluation ON evaluation.attack_id = attack.id"
        " JOIN score ON score.evaluation_id = evaluation.id"
        " AND score.sample_index = sample.sample_index AND score.requested_target = sample.requested_target"
        " WHERE eps = ? AND js_delta IS NOT NULL",
        8 / 255,
    )
    assert (row["n_attempted"], row["n_success"], row["n_bugs"]) == found


def test_skipped_is_null_where_the_grouping_is_finer_than_an_attack(tiny, capsys):
    """Skipped images have no target, so a row per label cannot count them."""
    rows = query(capsys, tiny, "--by", "eps,label-pair", "--beta", "0.1")
    assert {row["n_skipped"] for row in rows} == {None}
    whole = query(capsys, tiny, "--by", "eps", "--beta", "0.1")
    assert sum(row["n_bugs"] for row in rows) == sum(row["n_bugs"] for row in whole)


def test_pooling_counts_images_and_is_named_on_stderr(tiny, capsys):
    """Where an image has several rows the interval is that of the images, and what is pooled is said."""
    code, out, err = call(
        capsys, tiny, "query", "bugs", "--by", "method", "--beta", "0.1", "--format", "json"
    )
    (row,) = json.loads(out)
    assert (code, row["interval"]) == (0, "cluster-robust")
    assert "pooled over eps" in err


def test_many_pooled_values_are_counted(capsys):
    """The note on stderr is short, however many values a row pools and however long they are."""
    note_pooled({"attack": tuple(f"{n:016x}" for n in range(2_032)), "eps": (3 / 255, 8 / 255)})
    many, few = capsys.readouterr().err.splitlines()
    assert many == f"pooled over attack: {', '.join(f'{n:016x}' for n in range(4))} and 2,028 more"
    assert few == "pooled over eps: 3/255, 8/255"
    note_pooled({"evaluators": ("0@abcdef " * 1_000, "1@abcdef " * 1_000)})
    assert len(capsys.readouterr().err) < 200


def test_attack_judged_twice_is_said(four, capsys):
    """Where an attack was judged twice, or on fewer images, a line says how it counts once."""
    code, _, err = call(capsys, four, "query", "bugs", "--by", "eps", "--format", "json")
    assert (code, err.count("also by judged_by: the same attempts")) == (0, 1)
    rows = query(capsys, four, "--by", "eps", "--ensemble", "digits", "--beta", "0.1")
    assert {"ensemble", "judged_by"}.isdisjoint(rows[0])


def test_a_histogram_of_attempts_judged_twice_is_refused(four, tmp_path, capsys):
    """A figure has no column to tell judgements apart: it asks for a choice instead of drawing them twice."""
    place = str(tmp_path / "twice.png")
    code, out, err = call(capsys, four, "plot", "histogram", "-o", place)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "they differ in judged_by (digits, four); choose with --ensemble" in err
    assert call(capsys, four, "plot", "histogram", "-o", place, "--ensemble", "four")[0] == 0


def test_nothing_is_pooled_by_default(tiny, capsys):
    """The default grouping mixes nothing, so there is nothing to say about it."""
    _, _, err = call(capsys, tiny, "query", "bugs", "--format", "json")
    assert "pooled" not in err


def test_csv_holds_the_same_values_as_json(tiny, capsys):
    """CSV loses no digit: its ε and fractions are JSON's."""
    rows = query(capsys, tiny)
    code, out, _ = call(capsys, tiny, "query", "bugs", "--format", "csv")
    parsed = list(csv.DictReader(io.StringIO(out)))
    assert (code, list(parsed[0])) == (0, DEFAULT_KEYS + COUNTED)
    for key in ("eps", "beta", "bug_fraction", "bug_fraction_low", "bug_rate_high"):
        assert [float(row[key]) for row in parsed] == [row[key] for row in rows]


def test_csv_writes_an_empty_cell_for_null(tiny, capsys):
    """A null is an empty cell."""
    _, out, _ = call(capsys, tiny, "query", "bugs", "--format", "csv", "--by", "label-pair")
    assert {row["n_skipped"] for row in csv.DictReader(io.StringIO(out))} == {""}


def test_jsonl_is_json_line_by_line(tiny, capsys):
    """Each line is one row of the JSON output."""
    rows = query(capsys, tiny)
    _, out, _ = call(capsys, tiny, "query", "bugs", "--format", "jsonl")
    assert [json.loads(line) for line in out.splitlines()] == rows


@pytest.mark.parametrize(("form", "parse"), [("markdown", parse_markdown), ("table", parse_table)])
def test_people_get_short_cells_with_intervals(form, parse, tiny, capsys):
    """Tables for people show ε in pixel levels and the interval beside the fraction, and mark too few."""
    rows = query(capsys, tiny)
    code, out, err = call(capsys, tiny, "query", "bugs", "--format", form)
    parsed = parse(out)
    assert (code, len(parsed)) == (0, len(rows))
    for cells, row in zip(parsed, rows, strict=True):
        assert cells["eps"] == f"{round(row['eps'] * 255)}/255"
        assert cells["attempted"] == str(row["n_attempted"])
        assert cells["successes"] == str(row["n_success"])
        assert cells["bugs"] == str(row["n_bugs"])
        assert cells["dataset"] == row["dataset"]
        low, high = row["bug_fraction_low"], row["bug_fraction_high"]
        expected = f"{row['bug_fraction']:.3f} [{low:.3f}, {high:.3f}]"
        assert cells["bugs / successes"] == expected + (" *" if row["too_few"] else "")
    assert "95 % intervals over images, not over models" in err
    assert ("fewer than 30" in err) == any(row["too_few"] for row in rows)


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl", "markdown"])
def test_output_file_holds_what_stdout_would(form, tiny, tmp_path, capsys):
    """-o FILE writes the same text to the file and nothing to stdout."""
    _, expected, _ = call(capsys, tiny, "query", "bugs", "--format", form)
    code, out, _ = call(capsys, tiny, "query", "bugs", "--format", form, "-o", str(tmp_path / "bugs"))
    assert (code, out) == (0, "")
    assert (tmp_path / "bugs").read_text() == expected


def test_output_to_stdout_is_a_part_of_a_pipe(tiny, tmp_path, monkeypatch, capsys):
    """-o - and -o /dev/stdout print, and leave no file of that name."""
    monkeypatch.chdir(tmp_path)
    question = ("query", "bugs", "--format", "csv")
    printed = call(capsys, tiny, *question)
    assert call(capsys, tiny, *question, "-o", "-") == printed
    done = subprocess.run(
        [JSDELTA, "-w", tiny.root, *question, "-o", "/dev/stdout"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == printed[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("form", "lines"), [("csv", 1), ("table", 2), ("markdown", 2)])
def test_no_header_leaves_only_the_rows(form, lines, tiny, capsys):
    """--no-header drops the column names and keeps every row."""
    _, expected, _ = call(capsys, tiny, "query", "bugs", "--format", form)
    code, out, _ = call(capsys, tiny, "query", "bugs", "--format", form, "--no-header")
    assert code == 0
    # Without a heading to hold them, a table's rows keep the cells that all of them share.
    bare = [line.split()[-4:] for line in out.splitlines()]
    assert bare == [line.split()[-4:] for line in expected.splitlines()[lines:]]


@pytest.mark.parametrize(
    ("arguments", "eps"),
    [
        (["--eps", "3"], {3 / 255}),
        (["--eps", "8/255"], {8 / 255}),
        (["--eps", "3", "--eps", "8"], {3 / 255, 8 / 255}),
        (["--ensemble", "digits", "--dataset", "digits", "--method", "standard"], {3 / 255, 8 / 255}),
        (["--eps", "5"], set()),
    ],
)
def test_selection(arguments, eps, tiny, capsys):
    """Options select attacks; an ε that no attack had gives an empty result."""
    assert {row["eps"] for row in query(capsys, tiny, *arguments)} == eps


@pytest.mark.parametrize("table", ["attack", "evaluation"])
def test_attack_selects_by_uid_prefix(table, tiny, capsys):
    """--attack takes any unique start of an attack's or evaluation's uid."""
    ((uid,),) = ask(tiny, f"SELECT uid FROM {table} ORDER BY id DESC LIMIT 1")
    assert {row["eps"] for row in query(capsys, tiny, "--attack", uid[:8])} == {8 / 255}


@pytest.mark.parametrize(("form", "expected"), [("json", "[]\n"), ("jsonl", ""), ("csv", None)])
def test_store_without_rows_gives_an_empty_result(form, expected, workspace, capsys):
    """A store that holds nothing yet is no failure: exit 0, no rows, and a hint on stderr."""
    upgrade(workspace.db_url)
    code, out, err = call(capsys, workspace, "query", "bugs", "--format", form)
    assert (code, out) == (0, ",".join(DEFAULT_KEYS + COUNTED) + "\n" if expected is None else expected)
    assert "jsdelta attack" in err


def test_without_a_store_the_command_is_named_and_nothing_made(tmp_path, capsys):
    """A query only reads: no folder, no file, exit 3, and the message names what makes a store."""
    code, out, err = call(capsys, tmp_path / "none", "query", "bugs")
    assert (code, out) == (3, "")
    assert "jsdelta train" in err
    assert list(tmp_path.iterdir()) == []


def test_a_query_changes_nothing(tiny_copy, capsys):
    """The store's file is the same after a query, byte for byte."""
    connection = sqlite3.connect(tiny_copy.root / "jsdelta.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = (tiny_copy.root / "jsdelta.db").read_bytes()
    query(capsys, tiny_copy)
    assert (tiny_copy.root / "jsdelta.db").read_bytes() == before
