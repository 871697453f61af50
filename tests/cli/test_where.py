"""``--where``, ``--by`` and ``query keys``, in process on the tiny store."""

import json

import pytest

from tests.cli.calls import call, query, query_json, refused
from tests.reading import ask


def test_where_is_what_the_named_options_are(tiny, capsys):
    """Conditions select as the options of the same names; several must all hold, repeated options any."""
    for where, options in {
        ("eps=3",): ("--eps", "3"),
        ("eps=8/255", "method=standard"): ("--eps", "8", "--method", "standard"),
        ("eps=3,8", "epochs>0"): ("--eps", "3", "--eps", "8", "--norm", "linf", "--norm", "l2"),
        ("judged_by=digits",): ("--ensemble", "digits", "--ensemble", "digits"),
    }.items():
        given = [part for condition in where for part in ("--where", condition)]
        rows = query(capsys, tiny, *given)
        assert rows == query(capsys, tiny, *options)
        assert rows


def test_ensemble_is_the_old_name_of_judged_by_for_machines(tiny, capsys):
    """JSON and CSV have both names, tables for people the new one; --by takes both."""
    rows = query(capsys, tiny)
    assert {(row["attacked_ensemble"], row["judged_by"], row["ensemble"]) for row in rows} == {
        ("digits",) * 3
    }
    assert query(capsys, tiny, "--by", "ensemble") == query(capsys, tiny, "--by", "judged_by")
    _, out, _ = call(capsys, tiny, "query", "bugs")
    heading = out.splitlines()[0]
    assert "attacked ensemble digits" in heading
    assert "judged by digits" in heading
    assert ", ensemble" not in heading


@pytest.mark.parametrize(
    "name", ["bugs", "samples", "transfer", "stability", "controls", "assumptions", "keys"]
)
def test_an_empty_answer_says_which_condition_left_nothing(name, tiny, capsys):
    """Every query names the condition and the values that there are; the exit code is that of an answer."""
    _, err = query_json(capsys, tiny, name, "--where", "method=standard", "--where", "eps=5")
    assert err == "--where eps=5 leaves nothing; eps is 3/255, 8/255 here\n"


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["query", "bugs", "--where", "colour=red"], "unknown --where 'colour'; there is: dataset, attacked"),
        (["query", "bugs", "--where", "epoch=3"], "did you mean 'epochs'?"),
        (
            ["query", "bugs", "--where", "dataset=digit"],
            "unknown dataset 'digit'; there is: digits; did you mean",
        ),
        (["query", "bugs", "--where", "eps"], "must be KEY=VALUE, or with !=, <"),
        (["query", "bugs", "--where", "eps=0.5"], "0.5/255 is less than a pixel level"),
        (["query", "bugs", "--where", "steps=few"], "'few' is not valid: must be a whole number"),
        (["query", "bugs", "--where", "method>a"], "method has no order; use = or !="),
        (["query", "bugs", "--by", "epoch"], "did you mean 'epochs'?"),
        (["models", "list", "--where", "colour=red"], "unknown --where 'colour'; there is: model, name"),
        (["dataset", "list", "--where", "name=digit"], "unknown name 'digit'; there is: digits"),
        (["query", "ensembles", "--where", "members=many"], "must be a whole number"),
    ],
)
def test_a_slip_is_one_line(arguments, fragment, tiny, capsys):
    """An unknown key or value lists what there is, and is never an empty answer."""
    refused(capsys, tiny, 2, fragment, *arguments)


def test_lists_are_filtered_by_their_columns(tiny, capsys):
    """Models, ensembles and data sets take conditions on what they show."""
    ((uid, name),) = ask(tiny, "SELECT uid, name FROM ensemble LIMIT 1")
    for words, where, count in (
        (["models", "list"], ["seed<2", "method=standard", "ensembles=digits"], 2),
        (["models", "list"], ["seed=7"], 0),
        (["query", "ensembles"], [f"name={name}@{uid[:8]}", "members>=3"], 1),
        (["ensembles", "list"], ["clean_accuracy<0"], 0),
        (["dataset", "list"], ["kind=builtin"], 1),
    ):
        given = [part for condition in where for part in ("--where", condition)]
        code, out, err = call(capsys, tiny, *words, *given, "--format", "json")
        assert (code, len(json.loads(out))) == (0, count)
        assert ("leaves nothing" in err) == (count == 0)


def test_keys_name_what_occurs(tiny, capsys):
    """Each key has its values as --where takes them; people see the first few."""
    rows, _ = query_json(capsys, tiny, "keys")
    found = {row["key"]: row for row in rows}
    assert (found["eps"]["values"], found["eps"]["n_values"]) == ("3/255,8/255", 2)
    assert {"epochs", "judged_by", "attacked_ensemble", "n_evaluators"} <= set(found)
    assert query(capsys, tiny, "--where", f"eps={found['eps']['values']}") == query(capsys, tiny)
