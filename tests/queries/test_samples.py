"""What ``query samples`` lists, on small stores made by hand."""

import pytest

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.samples import SAMPLE_KEYS, Wanted, query_samples
from jsdelta_db.queries.selection import Selection
from jsdelta_db.store.schema import Sample, Score
from tests.queries.bench import ROWS, Bench
from tests.stores import ENGINES, new_store

EVERYTHING = Wanted(failures=True)


@pytest.fixture(scope="module", params=ENGINES)
def judged(request, tmp_path_factory):
    """A store on each engine with two attacks of ``ROWS``, the second judged twice; values differ by row."""
    with new_store(request, tmp_path_factory.mktemp("judged")) as store:
        bench = Bench(store)
        bench.judge(ROWS)
        second = bench.attack(ROWS, eps=8 / 255)
        bench.evaluate(second, ROWS)
        bench.evaluate(second, ROWS, temperature_rule="fit")
        with store.transaction() as session:
            for sample in session.query(Sample):
                sample.confidence = sample.sample_index / 10
            for score in session.query(Score):
                score.js_attacked = 0.0 if score.sample_index == 3 else 0.4
                score.n_right = 2 if score.sample_index in (1, 4) else 1
        yield store


def _list(store, wanted=Wanted(), **selection):  # noqa: B008 frozen
    with store.reading() as connection:
        return query_samples(connection, wanted, Selection(**selection))


def _images(rows):
    return [row["sample_index"] for row in rows]


def test_row_holds_what_is_stored(judged):
    """A row is one attempt: uids, labels by name, values as stored, success as a truth value."""
    rows, more = _list(judged, Wanted(limit=1), eps=(3 / 255,))
    (row,) = rows
    assert tuple(row) == SAMPLE_KEYS
    assert more == 4
    assert {key: value for key, value in row.items() if key not in ("attack", "evaluation")} == {
        "sample_index": 1, "source_label": "zero", "target_label": "one", "success": True, "outside": None, "js_delta": 0.0,
        "js": 0.1, "js_attacked": 0.4, "transfer_ratio": 0.25, "confidence": 0.1, "linf": 3 / 255, "l2": 0.1,
        "stability": None, "n_right": 2, "n_at_target": 0, "n_at_target_adv": 0,
    }  # fmt: skip
    assert len(row["attack"]) == len(row["evaluation"]) == 16
    assert row["attack"] != row["evaluation"]


def test_nothing_to_divide_by_has_no_ratio(judged):
    """Where the attacked model's output did not move, the transfer ratio is null."""
    rows, _ = _list(judged, eps=(3 / 255,))
    assert {row["sample_index"]: row["transfer_ratio"] for row in rows} == {
        1: 0.25,
        2: 0.25,
        3: None,
        5: 0.25,
        6: 0.25,
    }


@pytest.mark.parametrize(
    ("wanted", "images"),
    [
        (Wanted(), [1, 2, 3, 6, 5]),
        (EVERYTHING, [1, 4, 2, 3, 6, 5]),
        (Wanted(bugs=0.05), [1, 2]),
        (Wanted(bugs=0.0500001), [1, 2, 3]),
        (Wanted(sort="-js_delta"), [6, 3, 2, 1, 5]),
        (Wanted(sort="-confidence"), [6, 5, 3, 2, 1]),
        (Wanted(sort="sample_index", failures=True), [1, 2, 3, 4, 5, 6]),
        (Wanted(sort="transfer_ratio"), [1, 2, 5, 6, 3]),
        (Wanted(sort="stability"), [1, 2, 3, 5, 6]),
        (Wanted(source="zero"), [1, 2]),
        (Wanted(source="2"), [6, 5]),
        (Wanted(target="zero"), [3, 6]),
        (Wanted(source="one", target="two"), []),
        (Wanted(source="one", target="two", failures=True), [4]),
        (Wanted(limit=2), [1, 2]),
        (Wanted(limit=0), [1, 2, 3, 6, 5]),
    ],
)
def test_filters_order_and_limit(wanted, images, judged):
    """Each filter keeps what it says; rows without the sort key come last, ties in the order of images."""
    assert _images(_list(judged, wanted, eps=(3 / 255,))[0]) == images


@pytest.mark.parametrize(("limit", "more"), [(1, 14), (14, 1), (15, 0), (16, 0), (0, 0)])
def test_rest_is_counted(limit, more, judged):
    """What the limit cuts off is counted, over all judgements."""
    rows, left = _list(judged, Wanted(limit=limit))
    assert (len(rows), left) == (15 - more, more)


@pytest.mark.parametrize("key", SAMPLE_KEYS)
def test_every_key_can_be_sorted_by(key, judged):
    """Up and down hold the same rows, whatever the key."""
    up, down = (_list(judged, Wanted(sort=sign + key, limit=0))[0] for sign in ("", "-"))
    assert len(up) == len(down) == 15
    assert sorted(map(str, up)) == sorted(map(str, down))


def test_population_and_selection_narrow_the_rows(judged):
    """all-correct keeps images that both evaluators have right; the selecting options work as elsewhere."""
    assert _images(_list(judged, EVERYTHING, eps=(3 / 255,), population="all-correct")[0]) == [1, 4]
    assert len(_list(judged, EVERYTHING, temperature="fit")[0]) == 6
    assert _list(judged, norm="l2") == ([], 0)


def test_labels_are_those_of_each_data_set(tmp_path):
    """A label is looked up in each data set; one that a data set lacks leaves that data set out."""
    from jsdelta_db.store.creating import open_for_writing
    from tests.stores import add_dataset, add_ensemble, add_model

    store = open_for_writing(f"sqlite:///{tmp_path / 'jsdelta.db'}")
    Bench(store).judge(ROWS)
    other = Bench(store, dataset="pets")
    with store.transaction() as session:
        other.dataset = add_dataset(session, name="animals", classes=["cat", "zero", "dog", "cow"])
        other.models = [add_model(session, other.dataset, seed) for seed in range(3)]
        other.ensemble = add_ensemble(session, other.dataset, other.models, name="animals")
    other.judge(ROWS)
    assert _images(_list(store, Wanted(source="zero"))[0]) == [1, 2, 3]
    assert _images(_list(store, Wanted(source="cat"))[0]) == [1, 2]
    with pytest.raises(UnknownNameError, match="--target 'mouse'; there is: zero, one, two, three, cat, dog"):
        _list(store, Wanted(source="cat", target="mouse"))
    with pytest.raises(UnknownNameError, match="'cat, one'"):
        _list(store, Wanted(source="cat", target="one"))
    store.close()


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        ({"sort": "colour"}, "--sort 'colour'; there is: attack, evaluation, sample_index"),
        ({"bugs": 0.0}, "must be a number above 0"),
        ({"bugs": 0.1, "failures": True}, "--all"),
    ],
)
def test_what_can_not_be_wanted_is_refused(values, fragment):
    """A key that is no column, a β that is none, and bugs among failures are usage errors."""
    with pytest.raises(UsageError, match=fragment):
        Wanted(**values)
