"""What ``query bugs`` counts, on small stores made by hand."""

import numpy as np
import pytest

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.bugs import js_delta_by_eps, query_bugs, summary_metrics
from jsdelta_db.queries.samples import query_samples
from jsdelta_db.queries.selection import DEFAULT_KEYS, Selection
from jsdelta_db.queries.statistics import wilson
from jsdelta_db.queries.transfer import query_transfer
from jsdelta_db.store.image_keys import content_key, pack_keys, split_keys
from jsdelta_db.store.schema import PENDING, Score
from tests.queries.bench import ROWS, Bench, ask
from tests.stores import (
    ENGINES,
    HandRow,
    add_dataset,
    add_model,
    new_store,
)

JSON_KEYS = (
    "beta", "n_attempted", "n_skipped", "n_success", "n_no_baseline", "n_outside", "n_bugs", "bug_fraction",
    "bug_fraction_low", "bug_fraction_high", "bug_rate", "bug_rate_low", "bug_rate_high", "interval", "covers",
    "n_images", "n_images_bug", "n_images_non_bug", "too_few", "warnings", "measure", "n_no_relative",
    "n_models", "share_models",
)  # fmt: skip


@pytest.fixture(scope="module", params=ENGINES)
def filled(request, tmp_path_factory):
    """A store on each engine that holds ``ROWS`` as one evaluation."""
    with new_store(request, tmp_path_factory.mktemp("filled")) as opened:
        Bench(opened).judge(ROWS)
        yield opened


def _counts(row) -> tuple:
    return tuple(row[f"n_{name}"] for name in ("attempted", "skipped", "success", "no_baseline", "bugs"))


def _rows(n: int, js_delta: float | None = 0.05, success: int = 1, first: int = 0) -> list[HandRow]:
    return [(first + index, 0, 1, success, js_delta) for index in range(n)]


@pytest.mark.parametrize(
    ("beta", "bugs"), [(1e-9, 1), (0.01, 1), (0.0100001, 2), (0.05, 2), (0.1, 3), (1.7, 3), (2.0, 4)]
)
def test_bugs_are_successes_strictly_below_beta(beta, bugs, filled):
    """A bug is a success with JSΔ < β: equal is not below, a failure never counts, nor does a missing JSΔ."""
    (row,) = ask(filled, [beta]).rows
    assert _counts(row) == (5, 2, 4, 1, bugs)
    assert row["bug_fraction"] == bugs / 4
    assert row["bug_rate"] == bugs / 5
    assert (row["bug_fraction_low"], row["bug_fraction_high"]) == wilson(bugs, 4)
    assert (row["bug_rate_low"], row["bug_rate_high"]) == wilson(bugs, 5)
    assert (row["interval"], row["too_few"]) == ("wilson", True)


def test_row_has_the_promised_keys(filled):
    """The keys of a row are the group's, then the counts, in the documented order."""
    table = ask(filled)
    assert (
        table.keys == DEFAULT_KEYS == ("dataset", "attacked_ensemble", "attacked", "judged_by", "norm", "eps")
    )
    assert tuple(table.rows[0]) == (*DEFAULT_KEYS, *JSON_KEYS)
    assert {key: table.rows[0][key] for key in DEFAULT_KEYS} == {
        "dataset": "toy",
        "attacked_ensemble": "toy",
        "attacked": 0,
        "judged_by": "toy",
        "norm": "linf",
        "eps": 3 / 255,
    }


def test_each_beta_gives_a_row(filled):
    """--beta is repeatable: rows come in the order asked."""
    assert [row["beta"] for row in ask(filled, [0.1, 0.01]).rows] == [0.1, 0.01]


@pytest.mark.parametrize(
    ("rows", "fraction", "rate", "interval"),
    [
        (_rows(3, success=0), None, 0.0, "wilson"),
        (_rows(3, js_delta=None), None, None, None),
        (_rows(3, js_delta=0.5), 0.0, 0.0, "wilson"),
    ],
    ids=["no success", "no baseline", "no bug"],
)
def test_fraction_is_null_only_without_a_denominator(rows, fraction, rate, interval, store):
    """A share of nothing is null, a share of something is a number, be it 0."""
    Bench(store).judge(rows)
    (row,) = ask(store).rows
    assert (row["bug_fraction"], row["bug_rate"], row["interval"]) == (fraction, rate, interval)
    assert (row["bug_fraction_low"] is None) == (row["bug_fraction_high"] is None) == (fraction is None)
    assert (row["bug_rate_low"] is None) == (row["bug_rate_high"] is None) == (rate is None)


@pytest.mark.parametrize(
    ("bugs", "others", "warnings"),
    [
        (15, 15, None),
        (15, 14, "fewer than 30 images"),
        (4, 40, "fewer than 5 images with a bug"),
        (40, 4, "fewer than 5 images with a non-bug"),
        (40, 0, "fewer than 5 images with a non-bug; all successes alike: Wilson's interval over images"),
        (1, 0, "fewer than 30 images; fewer than 5 images with a bug; fewer than 5 images with a non-bug; "
               "no interval: one image alone"),
    ],
)  # fmt: skip
def test_few_images_are_marked(bugs, others, warnings, store):
    """The number is still given; the mark and the warnings count images with a success, not rows."""
    rows = [*_rows(bugs), *_rows(others, js_delta=0.5, first=bugs), *_rows(50, success=0, first=100)]
    Bench(store).judge([(image, 0, target, *rest) for image, _, _, *rest in rows for target in (1, 2)])
    (row,) = ask(store).rows
    assert (row["too_few"], row["warnings"]) == (warnings is not None, warnings)
    assert (row["n_images"], row["n_images_bug"], row["n_images_non_bug"]) == (bugs + others, bugs, others)
    assert row["covers"] == (None if bugs + others == 1 else "images")
    assert row["bug_fraction"] == bugs / (bugs + others)


def test_interval_counts_images_where_they_appear_twice(store):
    """Several targets per image are not independent: the interval is that of the images, and repeatable."""
    rows = [(image, 0, target, 1, 0.05 if image % 2 else 0.5) for image in range(20) for target in (1, 2, 3)]
    Bench(store).judge(rows)
    (row,), (again,) = ask(store).rows, ask(store).rows
    assert row == again
    assert row["interval"] == "cluster-robust"
    naive_low, naive_high = wilson(30, 60)
    assert row["bug_fraction_low"] < naive_low < 0.5 < naive_high < row["bug_fraction_high"]


@pytest.mark.parametrize(("js_delta", "fraction"), [(0.5, 0.0), (0.05, 1.0)])
def test_interval_counts_images_where_all_rows_agree(js_delta, fraction, store):
    """If all rows say the same, the interval is Wilson's over the number of images."""
    Bench(store).judge([(image, 0, target, 1, js_delta) for image in range(10) for target in (1, 2, 3)])
    (row,) = ask(store).rows
    assert row["interval"] == "wilson over images"
    assert (row["bug_fraction_low"], row["bug_fraction_high"]) == wilson(10 * fraction, 10)


def test_empty_store_gives_no_rows(store):
    """A query on a store without rows is empty, not an error."""
    table = ask(store)
    assert (table.keys, table.rows, table.pooled) == (DEFAULT_KEYS, [], {})
    with store.reading() as connection:
        assert js_delta_by_eps(connection) == {}


def test_unfinished_evaluations_are_left_out(store):
    """Half an evaluation is no evidence."""
    bench = Bench(store)
    bench.evaluate(bench.attack(ROWS), ROWS[:2], status=PENDING)
    assert ask(store).rows == []


def test_default_groups_are_never_pooled(store):
    """By default each data set, ensemble, attacked model, norm and ε has a row of its own, in order."""
    bench = Bench(store)
    for attacked in (1, 0):
        for level in (8, 3):
            bench.judge(ROWS, attacked, eps=level / 255)
    bench.judge(ROWS, 0, norm="l2", eps=0.5)
    table = ask(store)
    assert table.keys == DEFAULT_KEYS
    assert [(row["attacked"], row["norm"], row["eps"]) for row in table.rows] == [
        (0, "l2", 0.5),
        (0, "linf", 3 / 255),
        (0, "linf", 8 / 255),
        (1, "linf", 3 / 255),
        (1, "linf", 8 / 255),
    ]


@pytest.mark.parametrize(
    ("facts", "key", "values"),
    [
        ({"steps": 20}, "steps", [20, 100]),
        ({"target_rule": "all"}, "targets", ["all", "random"]),
        ({"seed": 3}, "attack_seed", [0, 3]),
        ({"images": 50}, "images", [None, 50]),
        ({"step_size": 3 / 255}, "relative_step_size", [2.5, 100.0]),
        ({"objective": "bug"}, "objective", ["bug", "target"]),
        ({"restarts": 2}, "restarts", [1, 2]),
        ({"random_start": False}, "random_start", [False, True]),
        ({"dtype": "bfloat16"}, "dtype", ["bfloat16", "float32"]),
        ({"split": "baseline"}, "split", ["attack", "baseline"]),
        ({"library": "other"}, "library", ["jsdelta", "other"]),
    ],
)
def test_differing_configuration_becomes_a_column(facts, key, values, store):
    """Attacks of different configuration are never mixed unnoticed."""
    bench = Bench(store)
    bench.judge(ROWS)
    bench.judge(ROWS, **facts)
    table = ask(store)
    assert table.keys == (*DEFAULT_KEYS, key)
    assert [row[key] for row in table.rows] == values
    assert [_counts(row)[0] for row in table.rows] == [5, 5]


def test_same_attack_judged_twice_shows_its_evaluators(store):
    """Two judgements of one attack stay apart, with the evaluators as a column."""
    bench = Bench(store)
    attack = bench.attack(ROWS)
    bench.evaluate(attack, ROWS, evaluators=(1, 2))
    bench.evaluate(attack, ROWS, evaluators=(2,))
    table = ask(store)
    assert table.keys == (*DEFAULT_KEYS, "evaluators")
    assert [_counts(row) for row in table.rows] == [(5, 2, 4, 1, 3)] * 2
    assert len({row["evaluators"] for row in table.rows}) == 2
    assert table.rows[0]["evaluators"].startswith("1@")


def test_different_attacked_members_need_no_evaluators_column(store):
    """Each attacked member has judges of its own; that alone is no difference."""
    bench = Bench(store)
    bench.judge(ROWS, 0)
    bench.judge(ROWS, 1)
    assert ask(store).keys == DEFAULT_KEYS


def test_explicit_grouping_names_what_is_pooled(store):
    """With --by, whatever else differs is pooled, and said."""
    bench = Bench(store)
    bench.judge(ROWS, 0)
    bench.judge(_rows(4, first=10), 1, steps=20)
    table = ask(store, by=["eps"])
    assert table.keys == ("eps",)
    assert table.pooled == {"attacked": (0, 1), "steps": (100, 20)}
    (row,) = table.rows
    assert _counts(row) == (9, 4, 8, 1, 7)
    assert ask(store, by=["attacked", "steps"]).pooled == {}


@pytest.mark.parametrize("by", ["eps", "attack", "attacked", "judged_by"])
@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ({}, {"evaluators": (2,)}, "evaluators"),
        ({}, {"temperature_rule": "fit"}, "temperature"),
        ({}, {"ensemble": None, "evaluators": (2,)}, "judged_by"),
    ],
)
def test_attack_judged_twice_has_a_row_for_each_judgement(by, first, second, key, store):
    """Whatever is grouped by, no row adds up two judgements of one attack: what tells them apart becomes a key."""
    bench = Bench(store)
    attack = bench.attack(ROWS)
    for each in (first, second):
        bench.evaluate(attack, ROWS, **{"evaluators": (1, 2), **each})
    table = ask(store, by=[by])
    if by != key:
        assert (table.keys, table.separated) == ((by, key), (key,))
    assert [_counts(row) for row in table.rows] == [(5, 2, 4, 1, 3)] * 2
    assert key not in table.pooled
    with store.reading() as connection, pytest.raises(UsageError, match=f"they differ in {key}.*--attack"):
        js_delta_by_eps(connection)


@pytest.mark.parametrize("by", [["eps"], ["attacked", "steps"], ["label-pair"]], ids=",".join)
def test_attempts_of_a_smaller_attack_count_once(by, store):
    """Of attacks that differ in --images or in the device asked for alone, the one on most images counts."""
    bench = Bench(store)
    bench.judge(ROWS[:2], images=2, n_images=2)
    bench.judge(ROWS, images=None, n_images=8)
    bench.judge(ROWS[:3], images=3, n_images=3, requested_device="cpu")
    bench.judge(ROWS[:2], images=2, n_images=2, seed=1)  # other starts: other attempts
    bench.judge(ROWS[:2], 1, images=2, n_images=2)  # another model's
    table = ask(store, by=by)
    assert sum(row["n_attempted"] for row in table.rows) == 5 + 2 + 2
    assert table.n_left_out == 2
    with store.reading() as connection:
        (values,) = js_delta_by_eps(connection).values()
    assert len(values) == 4 + 2 + 2


def test_attempts_apart_count_where_they_are(store):
    """Grouped by what differs, attacks on few and on many images have a row each."""
    bench = Bench(store)
    bench.judge(ROWS[:2], images=2, n_images=2)
    bench.judge(ROWS, images=None, n_images=8)
    for by in (["images"], ["attack"], []):
        table = ask(store, by=by)
        assert sorted(row["n_attempted"] for row in table.rows) == [2, 5]
        assert table.n_left_out == 0


@pytest.mark.parametrize(
    ("rules", "separated"),
    [
        (("random", "all"), ("targets",)),
        (("next", "1"), ("targets",)),
        (("1", "2"), ()),
        (("all", "untargeted"), ()),
    ],
)
def test_targets_that_may_be_the_same_are_not_pooled(rules, separated, store):
    """Two target rules may aim an image at the same label; two labels, or an untargeted attack, never do."""
    bench = Bench(store)
    for rule in rules:
        bench.judge(ROWS, target_rule=rule)
    table = ask(store, by=["eps"])
    assert (table.separated, len(table.rows)) == (separated, 2 if separated else 1)


def test_samples_from_elsewhere_are_attempts_of_their_own(store):
    """Of two files nothing is known but what they hold: both count."""
    bench = Bench(store)
    for n_images in (4, 8):
        bench.judge(ROWS, steps=0, library="other", n_images=n_images)
    (row,) = ask(store, by=["eps"]).rows
    assert (row["n_attempted"], row["interval"]) == (10, "cluster-robust")


def test_models_of_a_constructed_set_are_told_apart(store):
    """What a model was trained on is a column where it differs, and is named where it is pooled."""
    bench = Bench(store)
    bench.judge(ROWS)
    with store.transaction() as session:
        made = add_dataset(session, name="toy-dr", parent_id=bench.dataset.id)
        model = add_model(session, made, 0)
    bench.models.append(model)
    bench.judge(ROWS, 3, dataset_id=bench.dataset.id)
    table = ask(store)
    assert table.keys == (*DEFAULT_KEYS, "trained_on")
    assert {row["trained_on"] for row in table.rows} == {"toy", "toy-dr"}
    assert ask(store, by=["method", "dataset"]).pooled["trained_on"] == ("toy", "toy-dr")


def test_only_what_a_row_pools_is_named(store):
    """What differs between rows but within none is not pooled."""
    bench = Bench(store)
    for level, steps in ((3, 20), (8, 100)):
        bench.judge(ROWS, eps=level / 255, steps=steps)
    bench.judge(ROWS, eps=8 / 255, seed=1)
    assert ask(store, by=["eps"]).pooled == {"attack_seed": (0, 1)}


def test_same_image_in_two_attacks_is_one_image(store):
    """Pooled over attacked members, an image appears twice, so the interval counts images."""
    bench = Bench(store)
    bench.judge(ROWS, 0)
    bench.judge(ROWS, 1)
    (row,) = ask(store, by=["eps"]).rows
    assert row["interval"] == "cluster-robust"


def test_same_index_in_two_data_sets_is_two_images(store):
    """Image 3 of one data set is not image 3 of another."""
    for name in ("toy", "other"):
        Bench(store, dataset=name).judge(ROWS)
    (row,) = ask(store, by=["eps"]).rows
    assert row["interval"] == "wilson"


def test_label_pairs_are_counted_one_by_one(filled):
    """Finer than an attack, skipped images cannot be told: n_skipped is null; labels come by name."""
    table = ask(filled, by=["label-pair"])
    assert table.keys == ("source_label", "target_label")
    assert {(row["source_label"], row["target_label"]): _counts(row) for row in table.rows} == {
        ("zero", "one"): (2, None, 2, 0, 2),
        ("one", "zero"): (1, None, 1, 0, 1),
        ("one", "two"): (1, None, 0, 0, 0),
        ("two", "three"): (0, None, 0, 1, 0),
        ("two", "zero"): (1, None, 1, 0, 0),
    }


@pytest.mark.parametrize(
    ("by", "keys", "groups"),
    [
        ("source-label", ("source_label",), {("zero",), ("one",), ("two",)}),
        ("target-label", ("target_label",), {("zero",), ("one",), ("two",), ("three",)}),
    ],
)
def test_one_label_alone_can_be_grouped_by(by, keys, groups, filled):
    """Source and target label are groupings of their own."""
    table = ask(filled, by=[by])
    assert table.keys == keys
    assert {tuple(row[key] for key in keys) for row in table.rows} == groups
    assert sum(row["n_success"] for row in table.rows) == 4


def test_what_gradient_steps_ran_on_can_be_grouped_by(store):
    """The folded copy, the plain one, or unknown, as in stores of earlier versions: no column unasked."""
    bench = Bench(store)
    for seed, prepared_as in enumerate(("folded", "plain", None)):
        bench.judge(ROWS, seed=seed, prepared_as=prepared_as)
    table = ask(store, by=["prepared_as"])
    assert {row["prepared_as"]: row["n_success"] for row in table.rows} == {"folded": 4, "plain": 4, None: 4}
    assert "prepared_as" not in ask(store).keys


@pytest.mark.parametrize("by", [["nonsense"], ["eps", "source_lable"], [""]])
def test_unknown_grouping_lists_the_known_ones(by, store):
    """An unknown --by names what there is."""
    with pytest.raises(UnknownNameError, match=r"--by.*ensemble.*label-pair"):
        ask(store, by=by)


@pytest.mark.parametrize("by", [["eps", "eps"], ["label-pair", "source-label"]])
def test_grouping_given_twice_is_refused(by, store):
    """A column cannot appear twice."""
    with pytest.raises(UsageError, match="twice"):
        ask(store, by=by)


@pytest.mark.parametrize("beta", [0.0, -0.1, float("nan"), float("inf")])
def test_beta_outside_its_range_is_refused(beta, store):
    """β is a number above 0."""
    with pytest.raises(UsageError, match="must be a number above 0"):
        ask(store, [0.1, beta])


def test_histogram_data_are_the_successes_with_a_js_delta(two_ensembles, store):
    """JSΔ by norm and ε, ascending: only successes that have one."""
    with store.reading() as connection:
        found = js_delta_by_eps(connection)
    assert list(found) == [("linf", 3 / 255, "attack"), ("linf", 8 / 255, "attack")]
    assert sorted(found["linf", 3 / 255, "attack"].tolist()) == [0.0, 0.0, 0.01, 0.01, 0.05, 0.05, 1.7, 1.7]


def test_summary_for_the_tracker(filled):
    """A run logs, at step round(255·ε), the success rate among the counted attempts once and the fraction by β."""
    rows = ask(filled, [0.05, 5.0]).rows
    (metrics,) = summary_metrics(rows).values()
    assert list(summary_metrics(rows)) == [round(rows[0]["eps"] * 255)]
    assert metrics == {
        "success_rate": 4 / 5,
        "bug_fraction_beta_0.05": 2 / 4,
        "bug_fraction_beta_5": rows[1]["bug_fraction"],
    }


@pytest.fixture(scope="module", params=ENGINES)
def two_right(request, tmp_path_factory):
    """A store on each engine with ``ROWS``, of which both evaluators have images 1, 4 and 5 right."""
    with new_store(request, tmp_path_factory.mktemp("right")) as opened:
        evaluation = Bench(opened).judge(ROWS)
        with opened.transaction() as session:
            for score in session.query(Score).filter_by(evaluation_id=evaluation.id):
                score.n_right = 2 if score.sample_index in (1, 4, 5) else 1
        yield opened


@pytest.mark.parametrize(
    ("population", "counts"), [(None, (5, 2, 4, 1, 3)), ("all-correct", (2, 2, 1, 1, 1))]
)
def test_population_narrows_every_count_but_the_skipped(population, counts, two_right):
    """all-correct keeps the attempts on images that every evaluator has right; skipped images stay what they are."""
    selection = Selection(population=population) if population else Selection()
    (row,) = ask(two_right, selection=selection).rows
    assert _counts(row) == counts
    with two_right.reading() as connection:
        (values,) = js_delta_by_eps(connection, selection).values()
    assert len(values) == counts[2]


def test_population_may_be_empty(store):
    """Where no image is right for every evaluator, the row is there and says so, by labels as well."""
    Bench(store).judge(ROWS)  # one of two evaluators is right on each image
    selection = Selection(population="all-correct")
    (row,) = ask(store, selection=selection).rows
    assert (_counts(row), row["bug_fraction"], row["interval"]) == ((0, 2, 0, 0, 0), None, None)
    assert ask(store, by=["label-pair"], selection=selection).rows == []


@pytest.mark.parametrize(
    ("facts", "interval"),
    [
        ([{}, {"seed": 1}], "cluster-robust"),
        ([{"split": "baseline"}, {"split": "baseline", "seed": 1}], "cluster-robust"),
        ([{"split": "file"}, {"split": "file"}], "wilson"),
    ],
    ids=["same split", "same other split", "images from files"],
)
def test_which_images_are_the_same(facts, interval, store):
    """Image 3 is the same in attacks on one data set and split; images that came in files are never the same."""
    bench = Bench(store)
    for each in facts:
        bench.judge(ROWS, **each)
    (row,) = ask(store, by=["eps"]).rows
    assert row["interval"] == interval


@pytest.mark.parametrize("by", [["eps"], ["source-label"]], ids=",".join)
@pytest.mark.parametrize(
    ("keys", "n_images"),
    [
        ([content_key(b"%d" % (row % 20)) for row in range(80)], 20),  # four copies of each
        ([content_key(b"%d" % row) for row in range(80)], 80),
        (split_keys("attack", np.arange(80) // 2), 40),
    ],
    ids=["copies of unknown images", "unknown images", "copies of the data set's images"],
)
def test_images_from_files_are_told_apart_by_content(by, keys, n_images, store):
    """Copies of an image in a file count as one image, in two files, and beside attacks on the data set."""
    bench = Bench(store)
    rows = [(row, 0, 1, 1, 0.05 if row % 3 else 0.5) for row in range(80)]
    file = {"split": "file", "steps": 0, "image_keys": pack_keys(np.array(keys))}
    bench.judge(rows, **file)
    (row,) = ask(store, by=by).rows
    assert (row["n_attempted"], row["n_images"]) == (80, n_images)
    bench.judge(rows, **file, library="other")
    (row,) = ask(store, by=by).rows
    assert (row["n_attempted"], row["n_images"]) == (160, n_images)
    bench.judge(rows)  # on images 0 to 79 of the split
    (row,) = ask(store, by=by).rows
    assert row["n_images"] == (80 if keys[0] >= 0 else n_images + 80)


def test_stability_and_transfer_count_images_of_files(store):
    """Copies of an image have one spread: the interval of ten copies is that of one."""
    bench = Bench(store)
    for copies in (1, 10):
        rows = [(row, 0, 1, 1, 0.05 if row % 40 % 3 else 0.5) for row in range(40 * copies)]
        keys = [content_key(b"%d" % (row % 40)) for row in range(40 * copies)]
        attack = bench.attack(rows, split="file", steps=0, image_keys=pack_keys(np.array(keys)))
        evaluation = bench.evaluate(attack, rows)
        with store.transaction() as session:
            for score in session.query(Score).filter_by(evaluation_id=evaluation.id):
                score.js = 0.1 + score.sample_index % 40 / 100
    with store.reading() as connection:
        one, ten = query_transfer(connection).rows
    for end in ("", "_low", "_high"):
        assert one[f"transfer_ratio{end}"] == pytest.approx(ten[f"transfer_ratio{end}"], rel=1e-9)


def test_old_files_have_images_of_their_own(store):
    """Without keys, as in stores of earlier versions, each row of a file is an image of its own."""
    bench = Bench(store)
    attack = bench.attack(ROWS, split="file", steps=0)
    bench.evaluate(attack, ROWS, evaluators=(1, 2))
    bench.judge(ROWS, split="file", steps=0)
    (row,) = ask(store, by=["eps"]).rows
    assert (row["n_images"], row["interval"]) == (8, "wilson")


@pytest.mark.parametrize("split", ["train", "baseline"])
@pytest.mark.parametrize("by", [(), ("eps",)])
def test_seen_images_are_never_counted_without_a_word(store, split, by):
    """Their split is a key of each row, asked for or not, and they are no part of others' rows."""
    bench = Bench(store)
    bench.judge(ROWS)
    assert "split" not in ask(store, by=by).keys
    bench.judge(ROWS, split=split)
    table = ask(store, by=by)
    assert [row["split"] for row in table.rows] == sorted(["attack", split])
    assert [row["n_attempted"] for row in table.rows] == [5, 5]


def test_samples_name_the_split_where_models_have_seen_some(store):
    """Rows of samples say it; without such images they have no such column."""
    bench = Bench(store)
    bench.judge(ROWS)
    with store.reading() as connection:
        assert "split" not in query_samples(connection)[0][0]
    bench.judge(ROWS, split="train")
    with store.reading() as connection:
        assert {row["split"] for row in query_samples(connection)[0]} == {"attack", "train"}


def test_most_bug_prone_groups_are_ranked(store):
    """By their bugs at the largest β, the most first; of equals the one with fewer successes; what is left is counted."""
    rows: list[HandRow] = [
        (1, 0, 1, 1, 0.04), (2, 0, 1, 1, 0.9),  # one bug of two
        (3, 1, 2, 1, 0.01), (4, 1, 2, 1, 0.06),  # two, one of them below 0.05
        (5, 2, 3, 1, 0.02),  # one of one
        (6, 3, 0, 1, 0.8),
    ]  # fmt: skip
    Bench(store).judge(rows)
    with store.reading() as connection:
        tables = [query_bugs(connection, [0.1, 0.05], ["label-pair"], limit=limit) for limit in (3, 1, 0)]
    ranked = [(row["source_label"], row["n_bugs"]) for row in tables[0].rows if row["beta"] == 0.1]
    assert ranked == [("one", 2), ("two", 1), ("zero", 1)]
    assert [table.n_more for table in tables] == [1, 3, 0]
    assert tables[1].rows == tables[0].rows[:2]
    assert [row["source_label"] for row in tables[2].rows[::2]] == ["one", "three", "two", "zero"]
