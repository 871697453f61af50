"""What ``query sensitivity`` says of one question under every measure."""

import numpy as np
import pytest

from jsdelta_db.config.measures import MEASURES, Measuring
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.selection import Selection
from jsdelta_db.queries.sensitivity import _read_change, _read_majority, query_sensitivity
from jsdelta_db.store.reading import reading
from tests.queries import brute_force
from tests.reading import tell

BETA = 0.3


@pytest.fixture(scope="module")
def table(each_other):
    """The answer on a real store."""
    with reading(each_other.db_url) as reader:
        return query_sensitivity(reader, BETA, ["eps"], Selection(ensemble="four"))


def test_each_measure_answers_at_the_same_and_at_the_matched_threshold(table):
    """JSΔ at β, every other measure at β and at the threshold that as many of all successes lie below."""
    assert table.separated == ("targets",)
    groups = {(row["eps"], row["targets"]) for row in table.rows}
    assert len(groups) == 5  # ε = 8 on 40 images towards random targets, and 5 and 8 towards two others
    for group in groups:
        rows = [row for row in table.rows if (row["eps"], row["targets"]) == group]
        assert [(row["measure"], row["threshold"]) for row in rows] == [
            ("js-delta", "same"),
            *((measure, threshold) for measure in MEASURES[1:] for threshold in ("same", "matched")),
        ]
        assert {row["beta"] for row in rows if row["threshold"] == "same"} == {BETA}


def test_matched_thresholds_are_quantiles_of_all_successes(table, each_other):
    """At its matched threshold a measure has the default's share of all successes below, whatever the ε."""
    rows, _ = brute_force.read_rows(each_other.root / "jsdelta.db")
    rows = [row for row in rows if row["success"] and row["n_evaluators"] == 3]
    fraction = np.mean([brute_force.value_of(row, "js-delta") < BETA for row in rows])
    for measure in MEASURES[1:]:
        values = [brute_force.value_of(row, measure) for row in rows]
        expected = np.quantile([value for value in values if value is not None], fraction)
        found = {
            row["beta"] for row in table.rows if (row["measure"], row["threshold"]) == (measure, "matched")
        }
        assert pytest.approx(expected, rel=1e-6) == found.pop()
        assert not found


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_are_those_of_the_measure_alone(measure, table, each_other):
    """A row is what query bugs --measure says at the same β."""
    with reading(each_other.db_url) as reader:
        alone = query_bugs(
            reader, [BETA], ["eps"], Selection(ensemble="four"), measuring=Measuring(measure)
        ).rows
    same = [row for row in table.rows if (row["measure"], row["threshold"]) == (measure, "same")]
    assert alone == [{key: row[key] for key in alone[0]} for row in same]


def _row(value, majority, measure="js-delta", eps=1.0):
    return {
        "eps": eps, "measure": measure, "threshold": "same", "bug_fraction": value, "majority": majority,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("default", "others", "reading"),
    [
        ((0.8, "more than half"), [(0.7, "undecided"), (0.6, "undecided")], "robust"),
        ((0.8, "more than half"), [(0.7, "more than half"), (0.4, "undecided")], "depends on the measure"),
        ((0.8, "more than half"), [(0.5, "undecided")], "depends on the measure"),
        ((0.2, "less than half"), [(0.6, "more than half")], "depends on the measure"),
        ((0.6, "undecided"), [(0.7, "more than half")], "not settled"),
        ((0.8, "more than half"), [(None, None)], "not settled"),
        ((None, None), [(None, None)], "not settled"),
    ],
)
def test_readings(default, others, reading):
    """Robust: decided by default and the same sign throughout; depends: some sign is opposite; else not settled."""
    rows = [_row(*default), *(_row(*each, measure="median") for each in others)]
    _read_majority(rows, ["eps"])
    assert {row["reading"] for row in rows} == {reading}


@pytest.mark.parametrize(
    ("of_default", "of_median", "reading"),
    [
        ((0.5, 0.2), (0.6, 0.5), "falls"),
        ((0.2, 0.5), (0.5, 0.6), "rises"),
        ((0.5, 0.2), (0.5, 0.6), "depends on the measure"),
    ],
)
def test_changes_are_read_from_one_eps_to_the_next(of_default, of_median, reading):
    """Whether the share falls or rises is said where all measures agree; the smallest ε has nothing before it."""
    rows = [
        _row(values[place], "undecided", measure, eps)
        for place, eps in enumerate((1.0, 3.0))
        for measure, values in (("js-delta", of_default), ("median", of_median))
    ]
    _read_change(rows, ["eps"])
    assert [row["change_reading"] for row in rows] == [None, None, reading, reading]
    assert rows[2]["change"] == pytest.approx(of_default[1] - of_default[0])
    assert [row["change"] for row in rows[:2]] == [None, None]


def test_an_empty_store_has_no_rows(store):
    """Nothing judged, nothing to be sensitive."""
    with store.reading() as connection:
        assert query_sensitivity(connection).rows == []


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Measuring("js"), UnknownNameError, "unknown measure 'js'; there is: js-delta, js-of-mean"),
        (lambda: Measuring(interval="none"), UnknownNameError, "unknown interval 'none'; there is: models"),
        (
            lambda: Selection(min_change=-1.0),
            UsageError,
            "min_change -1.0 is not valid: must be a number from 0",
        ),
        (lambda: Selection(min_confidence=float("nan")), UsageError, "min_confidence nan is not valid"),
    ],
)
def test_unknown_words_and_impossible_numbers_are_refused(make, error, message):
    """A measure, an interval, a smallest change or confidence that is none: one line says what is allowed."""
    with pytest.raises(error, match=message.replace("[", r"\[")):
        make()


def test_nothing_measured_has_no_number(tiny_copy):
    """Of one attacked model whose own baseline is not stored there is no relative measure: counted, not guessed."""
    attacked = "(SELECT attacked_model_id FROM attack)"
    tell(tiny_copy, f"DELETE FROM rho_baseline WHERE model_id IN {attacked}")
    with reading(tiny_copy.db_url) as reader:
        rows = query_sensitivity(reader).rows
    for row in rows:
        if row["measure"] == "relative":
            assert (row["bug_fraction"], row["n_attempted"], row["reading"]) == (None, 0, "not settled")
            assert row["n_no_relative"] > 50
