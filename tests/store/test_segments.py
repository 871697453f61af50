"""Column segments: what queries read instead of rows says the same, whichever of the two is there."""

from collections import Counter

import numpy as np
import pytest
from sqlalchemy import delete, func, select, text, update

from jsdelta_db.errors import UsageError
from jsdelta_db.queries.bugs import PANELS, js_delta_by_eps, query_bugs
from jsdelta_db.queries.columns import read_segments
from jsdelta_db.queries.selection import POPULATIONS, Selection, list_evaluations
from jsdelta_db.store import segments
from jsdelta_db.store.derived import list_differing, list_without_segments, write_segments
from jsdelta_db.store.schema import ImageCount, Score, ScoreSegment
from tests.queries.bench import Bench
from tests.stores import ENGINES, new_store

JOINED = text(
    "SELECT sample.sample_index, source_label, target_label, success, n_right, js_delta FROM sample "
    "JOIN score USING (sample_index, requested_target) "
    "WHERE attack_id = :attack_id AND evaluation_id = :evaluation_id"
)
BETAS = (1e-6, 0.05, 0.1, 0.25, 0.7, 3.0)
GROUPINGS = (
    (),
    ("eps",),
    ("label-pair",),
    ("source-label", "eps"),
    ("target-label",),
    ("attacked", "label-pair"),
)


def _random_rows(seed: int, images: int = 60):
    """Attempts of every kind: several targets an image, failures, undefined ones, equal and edge JSΔs."""
    rng = np.random.default_rng(seed)
    rows = []
    for image in rng.choice(400, images, replace=False).tolist():
        source = image % 4
        for target in rng.permutation([label for label in range(4) if label != source])[: rng.integers(1, 4)]:
            js_delta = rng.choice([None, 0.0, 0.05, 0.1, 0.25, *rng.random(8).round(2).tolist()])
            rows.append((image, source, int(target), int(rng.random() < 0.7), js_delta))
    return sorted(rows)


@pytest.fixture(scope="module", params=ENGINES)
def filled(request, tmp_path_factory):
    """Seven evaluations on three models at three ε: one without any success, one with one target an image."""
    with new_store(request, tmp_path_factory.mktemp("segments")) as store:
        bench = Bench(store)
        for seed in range(5):
            bench.judge(_random_rows(seed), attacked=seed % 3, eps=(1 + 2 * (seed % 2)) / 255, seed=seed)
        failed = [(image, source, target, 0, js) for image, source, target, _, js in _random_rows(9)]
        bench.judge(failed, attacked=1, eps=5 / 255)
        one_target = {image: (image, *rest) for image, *rest in _random_rows(10)}
        bench.judge(sorted(one_target.values()), attacked=2, eps=5 / 255)
        with store.transaction() as session:  # two evaluators: right on some images, both, one or none
            session.execute(update(Score).values(n_right=Score.sample_index % 3))
        yield store


@pytest.fixture(params=ENGINES)
def empty(request, tmp_path):
    """A store of its own on each engine."""
    with new_store(request, tmp_path) as store:
        yield store


def _forget(store) -> None:
    with store.transaction() as session:
        for table in (ScoreSegment, ImageCount):
            session.execute(delete(table))


def _fill(store) -> None:
    with store.transaction() as session:
        for evaluation_id in list_without_segments(session.connection()):
            write_segments(session, evaluation_id)


@pytest.fixture(params=["rows", "segments", "small segments"])
def kind(request, filled, monkeypatch):
    """The store without segments, with them, and with many of few rows."""
    if request.param == "small segments":
        monkeypatch.setattr(segments, "SEGMENT_ROWS", 3)
    _forget(filled)
    if request.param != "rows":
        _fill(filled)
    yield request.param
    _forget(filled)


def _attempts(store, population):
    """Return every attempt with its evaluation, straight from the rows."""
    found = []
    with store.reading() as connection:
        for evaluation in list_evaluations(connection):
            names = {"attack_id": evaluation.attack_id, "evaluation_id": evaluation.id}
            for index, source, target, success, n_right, js_delta in connection.execute(JOINED, names):
                if population == "attacked-correct" or n_right == evaluation.n_evaluators:
                    labels = (evaluation.classes[source], evaluation.classes[target])
                    found.append((evaluation, index, *labels, success, js_delta))
    return found


def _expected(store, by, population):
    """Count one attempt after the other, as the definition says."""
    counts: dict[tuple, Counter] = {}
    for evaluation, _, source, target, success, js_delta in _attempts(store, population):
        facts = {**evaluation.facts, "source_label": source, "target_label": target}
        keys = [key.replace("-label", "_label") for key in by]
        keys = [
            each
            for key in keys
            for each in (("source_label", "target_label") if key == "label-pair" else (key,))
        ]
        for beta in BETAS:
            counter = counts.setdefault((*(facts[key] for key in keys), beta), Counter())
            counter["n_no_baseline"] += js_delta is None
            counter["n_attempted"] += js_delta is not None
            counter["n_success"] += js_delta is not None and success
            counter["n_bugs"] += js_delta is not None and success and js_delta < beta
    return counts


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("by", GROUPINGS[1:], ids=",".join)
def test_counts_are_those_of_the_rows(by, population, filled, kind):
    """For every grouping, β and population the numbers are what counting rows one by one gives."""
    with filled.reading() as connection:
        table = query_bugs(connection, BETAS, by, Selection(population=population))
    found = {
        tuple(row[key] for key in (*table.keys, "beta")): {
            name: row[name] for name in ("n_no_baseline", "n_attempted", "n_success", "n_bugs")
        }
        for row in table.rows
    }
    assert _expected(filled, by, population) == found
    assert len(table.rows) == len(found)


@pytest.mark.parametrize("by", GROUPINGS, ids=",".join)
@pytest.mark.parametrize("population", POPULATIONS)
def test_segments_change_nothing_of_an_answer(by, population, filled, monkeypatch):
    """Rows, segments and small segments give equal tables, intervals and order included."""
    answers = []
    for size in (None, segments.SEGMENT_ROWS, 3):
        _forget(filled)
        if size is not None:
            monkeypatch.setattr(segments, "SEGMENT_ROWS", size)
            _fill(filled)
        with filled.reading() as connection:
            answers.append(query_bugs(connection, BETAS, by, Selection(population=population)))
    _forget(filled)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].rows


@pytest.mark.parametrize("beta", [0.707056753354459, 0.1397476776457066, 5e-324, 1e308])
def test_counts_are_exact_at_the_last_digit(beta, empty):
    """Whatever a database makes of β's digits, what lies one step below it is a bug, and β itself is not."""
    bench = Bench(empty)
    for seed, value in enumerate([np.nextafter(beta, 0), beta, beta, np.nextafter(beta, np.inf)]):
        bench.judge([(seed, 0, 1, 1, float(value))], seed=seed)
    _fill(empty)
    with empty.reading() as connection:
        for by in (("eps",), ("label-pair",)):
            (row,) = query_bugs(connection, [np.float64(beta)], by).rows
            assert (row["n_success"], row["n_bugs"]) == (4, 1)


def test_many_thresholds_at_once(filled):
    """As many β as anybody draws a curve with; none is a usage error."""
    _fill(filled)
    betas = np.linspace(0.001, 2, 1500).tolist()
    with filled.reading() as connection:
        rows = query_bugs(connection, betas, ("eps",)).rows
        (some,) = {row["n_bugs"] for row in query_bugs(connection, [betas[70]], ("eps",)).rows[:1]}
        with pytest.raises(UsageError, match="no β is given"):
            query_bugs(connection, [])
    assert rows[70]["n_bugs"] == some
    _forget(filled)


def test_intervals_do_not_depend_on_the_way(filled):
    """Where every evaluator has every image right, both populations are the same attempts, and say the same."""
    _fill(filled)
    with filled.transaction() as session:
        session.execute(update(Score).values(n_right=2))
        for evaluation_id in session.scalars(select(ImageCount.evaluation_id)).all():
            write_segments(session, evaluation_id)
    with filled.reading() as connection:
        n = {evaluation.n_evaluators for evaluation in list_evaluations(connection)}
        tables = [query_bugs(connection, BETAS, ("eps",), Selection(population=each)) for each in POPULATIONS]
    assert n == {2}
    assert tables[0] == tables[1]
    with filled.transaction() as session:
        session.execute(update(Score).values(n_right=Score.sample_index % 3))
    _forget(filled)


def test_many_cells_are_counted_alike(filled, monkeypatch):
    """Where label pairs times images are too many for an array of their own, the counts are the same."""
    _fill(filled)
    with filled.reading() as connection:
        few = query_bugs(connection, BETAS, ("label-pair",))
        monkeypatch.setattr("jsdelta_db.queries.tally.MOST_CELLS", 10)
        assert few == query_bugs(connection, BETAS, ("label-pair",))
        assert query_bugs(connection, BETAS).rows
    _forget(filled)


@pytest.mark.parametrize("population", POPULATIONS)
def test_histograms_read_the_same_values(population, filled, kind):
    """The JSΔ of all successes, by ε, is what the rows have."""
    with filled.reading() as connection:
        found = js_delta_by_eps(connection, Selection(population=population))
    expected: dict[tuple, list[float]] = {}
    for evaluation, _, _, _, success, js_delta in _attempts(filled, population):
        values = expected.setdefault(tuple(evaluation.facts[key] for key in PANELS), [])
        if success and js_delta is not None:
            values.append(js_delta)
    assert {key: sorted(values) for key, values in expected.items()} == {
        key: sorted(values.tolist()) for key, values in found.items()
    }


def test_segments_are_alike_inside_and_ascend(filled, kind):
    """Each holds successes or failures, with JSΔ or without, in ascending order, between its ends."""
    with filled.reading() as connection:
        for evaluation, found in read_segments(connection, list_evaluations(connection), segments.BLOBS):
            assert found, evaluation
            for segment in found:
                assert (
                    len(segment.sample_index) == len(segment.label_pair) == len(segment.n_right) == segment.n
                )
                if segment.is_defined:
                    assert (np.diff(segment.js_delta) >= 0).all()
                    assert (segment.low, segment.high) == (segment.js_delta[0], segment.js_delta[-1])
                else:
                    assert np.isnan(segment.js_delta).all()


def test_a_segment_is_opened_only_where_beta_falls_into_it(filled, monkeypatch):
    """Of the doubles, a query reads those of segments that a β divides, and no others."""
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 5)
    _fill(filled)
    opened = closed = 0
    with filled.reading() as connection:
        for _, found in read_segments(connection, list_evaluations(connection), (), betas=(0.1,)):
            for segment in found:
                divided = segment.success and segment.is_defined and segment.low < 0.1 <= segment.high
                is_open = segment.js_delta is not None
                assert is_open >= divided
                assert not is_open or segment.low <= 0.1 <= segment.high  # SQL may take β for its neighbour
                opened, closed = opened + is_open, closed + (not is_open)
    _forget(filled)
    assert 0 < opened < closed


@pytest.mark.parametrize(("largest", "width"), [(255, 1), (256, 2), (65_535, 2), (65_536, 4), (2**31 - 1, 4)])
def test_whole_numbers_take_the_bytes_they_need(largest, width):
    """Image numbers and label pairs are as narrow as the largest of them, and keep their value."""
    narrow = segments._narrowed(np.array([0.0, largest]))
    assert narrow.tolist() == [0, largest]
    assert narrow.dtype.itemsize == width


def test_counts_take_a_bit_an_image_where_that_is_enough(filled):
    """One target an image is a bit, several are a byte; wherever a blob ends, what follows is 0."""
    _fill(filled)
    with filled.reading() as connection:
        bits = connection.scalars(select(ImageCount.bits).order_by(ImageCount.evaluation_id)).all()
    assert bits == [8, 8, 8, 8, 8, 8, 1]


def _assert_seen_and_mended(store, evaluation_id):
    with store.reading() as connection:
        assert [found for found, _ in list_differing(connection)] == [evaluation_id]
    with store.transaction() as session:
        write_segments(session, evaluation_id)
    with store.reading() as connection:
        assert list_differing(connection) == []


@pytest.mark.parametrize("change", [{"n_undefined": 5}, {"success": b"\0"}, {"failure": b""}], ids=str)
def test_altered_counts_are_seen(filled, change):
    """Counts by image that are not those of the rows are named, and made again."""
    _fill(filled)
    with filled.transaction() as session:
        evaluation_id = session.scalars(select(ImageCount.evaluation_id)).first()
        session.execute(update(ImageCount).where(ImageCount.evaluation_id == evaluation_id).values(**change))
    _assert_seen_and_mended(filled, evaluation_id)
    _forget(filled)


def test_altered_rows_or_segments_are_seen(filled):
    """What ``db check`` looks at: segments that are not what the rows make are named; a rebuild mends them."""
    _fill(filled)
    with filled.reading() as connection:
        assert list_differing(connection) == []
        evaluations = list_evaluations(connection)
    with filled.transaction() as session:
        row = session.scalars(select(Score).where(Score.js_delta.is_not(None))).first()
        before, row.js_delta = row.js_delta, 0.123456
        evaluation_id = row.evaluation_id
    _assert_seen_and_mended(filled, evaluation_id)
    with filled.reading() as connection:
        (n,) = connection.execute(
            select(func.sum(ScoreSegment.n)).where(ScoreSegment.evaluation_id == evaluation_id)
        ).one()
    assert n == sum(1 for each in _attempts(filled, POPULATIONS[0]) if each[0].id == evaluation_id)
    with filled.transaction() as session:
        session.scalars(
            select(Score).where(Score.evaluation_id == evaluation_id, Score.js_delta == 0.123456)
        ).one().js_delta = before
    _forget(filled)
    assert {evaluation.id for evaluation in evaluations} >= {evaluation_id}
