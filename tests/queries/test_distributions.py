"""Distributions of JSΔ: bins, shares below, quantiles and label pairs, against counting row by row."""

import shutil
from math import exp, log

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import text, update

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.captions import describe
from jsdelta_db.queries.distributions import choose_edges, query_below, query_histogram, query_quantiles
from jsdelta_db.queries.grouping import Table
from jsdelta_db.queries.pairs import pivot, query_pairs, sort_labels
from jsdelta_db.queries.selection import POPULATIONS, Selection, list_evaluations
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.derived import write_segments
from jsdelta_db.store.schema import Score
from tests.queries.bench import Bench
from tests.stores import CLASSES

BETAS = (0.01, 0.05, 0.1)
JOINED = text(
    "SELECT eps, sample.sample_index, n_right, js_delta "
    "FROM sample JOIN attack ON attack.id = sample.attack_id JOIN evaluation USING (attack_id) "
    "JOIN score ON score.evaluation_id = evaluation.id AND score.sample_index = sample.sample_index "
    "AND score.requested_target = sample.requested_target WHERE success = 1 AND js_delta IS NOT NULL"
)


def random_rows(seed, images=40):
    """Up to three targets an image, failures and undefined ones; JSΔ of an image hang together."""
    rng = np.random.default_rng(seed)
    rows = []
    for image in sorted(rng.choice(90, images, replace=False).tolist()):
        source, level = image % 4, rng.random()
        for target in sorted(set(range(4)) - {source})[: rng.integers(1, 4)]:
            js_delta = None if rng.random() < 0.1 else float(round(level * rng.random() * 2, 2))
            rows.append((image, source, int(target), int(rng.random() < 0.8), js_delta))
    return rows


@pytest.fixture(scope="module", params=["rows", "segments"])
def filled(request, tmp_path_factory, empty_store):
    """Four attacks on two models at two ε, read from rows or from column segments."""
    folder = tmp_path_factory.mktemp("distributions")
    shutil.copy(empty_store, folder / "jsdelta.db")
    store = open_for_writing(f"sqlite:///{folder / 'jsdelta.db'}")
    bench = Bench(store)
    found = [
        bench.judge(random_rows(seed), attacked=seed % 2, eps=(3, 8)[seed // 2] / 255) for seed in range(4)
    ]
    with store.transaction() as session:
        session.execute(update(Score).values(n_right=Score.sample_index % 3))
        if request.param == "segments":
            for evaluation in found:
                write_segments(session, evaluation.id)
    yield store
    store.close()


def values_by_eps(store, population="attacked-correct"):
    """JSΔ and images of the successes, by ε."""
    found = {}
    with store.reading() as connection:
        for eps, image, n_right, js_delta in connection.execute(JOINED):
            if population == "attacked-correct" or n_right == 2:
                found.setdefault(eps, []).append((image, js_delta))
    return {eps: tuple(map(np.array, zip(*pairs, strict=True))) for eps, pairs in sorted(found.items())}


def interval(image, hit):
    """The 95 % interval of a share over images, by its formula (metric.md), in plain loops."""
    n, hits = len(hit), int(hit.sum())
    images = np.unique(image)
    if hits in (0, n):
        z2, count = stats.norm.ppf(0.975) ** 2, len(images)
        end = count / (count + z2)
        return (0.0, 1 - end) if hits == 0 else (end, 1.0)
    share = hits / n
    errors = [hit[image == each].sum() - share * (image == each).sum() for each in images]
    variance = len(images) / (len(images) - 1) * sum(error**2 for error in errors) / n**2
    few = min(len(np.unique(image[hit])), len(np.unique(image[~hit])))
    if few < 5:
        variance = max(variance, share * (1 - share) / n)
    margin = stats.t.ppf(0.975, len(images) - 1) * variance**0.5 / (share * (1 - share))
    centre = log(share / (1 - share))
    return tuple(1 / (1 + exp(-(centre + sign * margin))) for sign in (-1, 1))


@pytest.mark.parametrize("population", POPULATIONS)
def test_bins_hold_what_counting_rows_gives(population, filled):
    """Each bin has its successes and their share of all, with the share's interval; those below β are its bugs."""
    selection = Selection(population=population)
    with filled.reading() as connection:
        table = query_histogram(connection, 10, BETAS, ("eps",), selection)
        bugs = query_bugs(connection, BETAS, ("eps",), selection).rows
    for eps, (image, js_delta) in values_by_eps(filled, population).items():
        rows = [row for row in table.rows if row["eps"] == eps]
        assert sum(row["n"] for row in rows) == rows[0]["n_success"] == len(js_delta)
        for row in rows:
            high = np.inf if row["js_delta_to"] is None else row["js_delta_to"]
            hit = (js_delta >= row["js_delta_from"]) & (js_delta < high)
            assert (row["n"], row["share"]) == (hit.sum(), pytest.approx(hit.mean()))
            assert (row["share_low"], row["share_high"]) == pytest.approx(interval(image, hit), abs=1e-9)
        below = {beta: sum(row["n"] for row in rows if row["js_delta_from"] < beta) for beta in BETAS}
        assert below == {row["beta"]: row["n_bugs"] for row in bugs if row["eps"] == eps}


def test_shares_below_are_bug_fractions(filled):
    """The share below a point is the bug fraction with that point as β, whatever the grouping."""
    by = ("eps", "attacked", "source-label")
    with filled.reading() as connection:
        below = query_below(connection, BETAS, by)
        bugs = query_bugs(connection, BETAS, by)
    names = {"js_delta": "beta", "n_below": "n_bugs", "n_success": "n_success", "n_images": "n_images"}
    names |= {f"share_below{end}": f"bug_fraction{end}" for end in ("", "_low", "_high")}
    found = [{names.get(key, key): row[key] for key in (*below.keys, *names)} for row in below.rows]
    expected = [
        {key: row[key] for key in (*bugs.keys, *names.values())} for row in bugs.rows if row["n_success"]
    ]
    assert len(found) == 2 * 2 * 4 * len(BETAS)
    assert found == expected


def test_quantiles_and_their_intervals(filled):
    """A quantile is NumPy's; its interval has just the values at which the share below may be the quantile."""
    wanted = (0.02, 0.25, 0.5, 0.9, 0.99)
    with filled.reading() as connection:
        rows = query_quantiles(connection, wanted, ("eps",)).rows
    for eps, (image, js_delta) in values_by_eps(filled).items():
        order = np.argsort(js_delta, kind="stable")
        first = np.arange(len(order))
        bounds = [interval(image[order], first < k) for k in range(len(order) + 1)]
        ordered = js_delta[order]
        for row in (row for row in rows if row["eps"] == eps):
            q = row["q"]
            possible = [k for k, (low, high) in enumerate(bounds) if low <= q <= high]
            low = ordered[possible[0] - 1] if possible[0] else 0.0
            high = ordered[possible[-1]] if possible[-1] < len(ordered) else None
            assert row["js_delta"] == pytest.approx(np.quantile(js_delta, q))
            assert (row["js_delta_low"], row["js_delta_high"]) == (low, high)
            assert row["n_success"] == len(js_delta)
    assert any(row["js_delta_high"] is None for row in rows)  # nothing speaks against a larger 99 %


def test_label_pairs(filled):
    """A row for each pair with a success, as query bugs counts it; the matrix has the fractions, None elsewhere."""
    with filled.reading() as connection:
        table = query_pairs(connection, 0.1, ("eps",))
        bugs = query_bugs(connection, (0.1,), ("eps", "label-pair")).rows
    assert table.rows == [row for row in bugs if row["n_success"]]
    keys, rows = pivot(table)
    assert keys == ["eps", "beta", "source_label", *sorted(CLASSES)]
    assert len(rows) == 2 * len(CLASSES)
    fractions = {(r["eps"], r["source_label"], r["target_label"]): r["bug_fraction"] for r in bugs}
    for row in rows:
        for target in CLASSES:
            assert row[target] == fractions.get((row["eps"], row["source_label"], target))
        assert row[row["source_label"]] is None


def test_labels_that_are_called_as_a_key_is():
    """A label 'beta' does not hide the threshold; numbers come by their value, before names."""

    rows = [
        {"source_label": "a", "target_label": target, "beta": 0.1, "bug_fraction": fraction}
        for target, fraction in (("beta", 0.5), ("b", 0.25))
    ]
    assert pivot(Table(("source_label", "target_label"), rows, {}, "")) == (
        ["beta", "source_label", "b", "to beta"],
        [{"beta": 0.1, "source_label": "a", "b": 0.25, "to beta": 0.5}],
    )
    assert sort_labels({"10", "9", "cat", "Ast"}) == ["9", "10", "Ast", "cat"]


@pytest.mark.parametrize("betas", [(0.1,), BETAS, (0.07,), (0.3, 0.02), (2.0,), ()])
@pytest.mark.parametrize("bins", [1, 10, 40, 1000])
def test_every_beta_is_an_edge(betas, bins):
    """Edges rise from 0 to 1.5 at least, each β exactly among them, at about the width that was asked for."""
    edges = choose_edges(bins, betas)
    widths = np.diff(edges)
    assert edges[0] == 0.0
    assert edges[-1] >= 1.4
    assert set(betas) <= set(edges)
    assert min(widths) > 0
    if betas:
        assert max(widths) <= max(2 / bins, max(betas)) + 1e-9
    else:
        assert widths == pytest.approx(np.full(len(widths), 1 / bins))


@pytest.mark.parametrize(
    ("ask", "error", "fragment"),
    [
        (
            lambda c: query_quantiles(c, [1.0]),
            UsageError,
            "quantile 1 is out of range: must be a number between",
        ),
        (lambda c: query_histogram(c, 0), UsageError, "--bins 0 is out of range"),
        (lambda c: query_histogram(c, 10, (-1.0,)), UsageError, "out of range"),
        (lambda c: query_below(c, [0.1], ("color",)), UnknownNameError, "'color'"),
        (lambda c: query_pairs(c, 0.1, ("source-label",)), UsageError, "leave it out"),
        (lambda c: query_pairs(c, 0.1, ("label-pair",)), UsageError, "leave it out"),
    ],
)
def test_bad_questions(ask, error, fragment, filled):
    """Each is refused in one line that says what is valid."""
    with filled.reading() as connection, pytest.raises(error, match=fragment):
        ask(connection)


def test_nothing_to_count(store):
    """An empty store has no rows; an attack without any success has a row of none, without bounds."""
    bench = Bench(store)
    with store.reading() as connection:
        assert query_quantiles(connection).rows == []
    bench.judge([(1, 0, 1, 0, 0.5), (2, 0, 1, 0, 0.5)])
    with store.reading() as connection:
        (row,) = query_quantiles(connection, [0.5], ("eps",)).rows
        assert (row["n_success"], row["js_delta"], row["js_delta_low"]) == (0, None, None)
        assert {row["share"] for row in query_histogram(connection, 10, (), ("eps",)).rows} == {None}
        assert query_pairs(connection, 0.1, ("eps",)).rows == []


def test_one_image_has_no_interval(store):
    """Of one image alone nothing can be said about others."""
    Bench(store).judge([(1, 0, 1, 1, 0.5), (1, 0, 2, 1, 0.7)])
    with store.reading() as connection:
        (row,) = query_quantiles(connection, [0.5], ("eps",)).rows
    assert (row["js_delta"], row["js_delta_low"], row["js_delta_high"]) == (pytest.approx(0.6), None, None)
    assert (row["covers"], row["n_images"]) == (None, 1)


def test_caption_says_what_was_attacked(two_ensembles, store):
    """Data sets, models, attack and evaluators, each once; many values are cut."""
    with store.reading() as connection:
        (dataset, models, attack, judges) = describe(list_evaluations(connection))
        alone = describe(list_evaluations(connection, Selection(method="sam")))
    assert dataset == "toy, other"
    assert models == "2 small-cnn models (standard, sam)"
    assert attack == "linf PGD, 100 steps, targets: random"
    assert judges == "2 evaluators"
    assert alone[:2] == ["other", "1 small-cnn model (sam)"]
    assert describe([]) == []
