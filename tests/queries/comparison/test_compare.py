"""Comparisons of a store by hand, against plain loops over its rows."""

import numpy as np
import pytest
from scipy.stats import ks_2samp, wasserstein_distance
from statsmodels.stats.multitest import multipletests

from jsdelta_db.config.measures import Measuring
from jsdelta_db.errors import UsageError
from jsdelta_db.queries.comparison import QUANTITIES, Request, compare
from jsdelta_db.queries.comparison.compare import COMPARED_KEYS
from jsdelta_db.queries.comparison.quantities import COLUMNS
from jsdelta_db.queries.selection import Selection
from jsdelta_db.store.reading import reading
from tests.queries import brute_force
from tests.queries.bench import ROWS, Bench
from tests.queries.comparison import loops

BETA = 0.1
EQUAL = Selection(eps=(3 / 255, 8 / 255))  # where both sides have three judges
METHODS = Request(by=("method",), baseline="standard", betas=(BETA,), measuring=Measuring(interval="models"))


@pytest.fixture(scope="module")
def rows_and_recipes(two_methods):
    """Every attempt, and each model's recipe."""
    return loops.read(two_methods)


def ask(folder, request, selection=EQUAL):
    """Return a comparison of the store in a folder."""
    with reading(f"sqlite:///{folder / 'jsdelta.db'}") as reader:
        return compare(reader, request, selection)


def _side(rows, method, eps):
    return [row for row in rows if row["method"] == method and row["eps"] == pytest.approx(eps)]


def _found(row, quantity):
    name = COLUMNS[quantity][1]
    return tuple(row[f"{name}{end}"] for end in ("", "_low", "_high"))


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("measure", ["js-delta", "median", "relative"])
def test_methods_are_compared_as_plain_loops_do(measure, quantity, two_methods, rows_and_recipes):
    """Difference, bounds, p, mde and the models' share are the formulas' at each ε; pairs share a seed."""
    rows, recipes = rows_and_recipes
    request = Request(
        by=("method",), baseline="standard", betas=(BETA,), quantity=quantity,
        measuring=Measuring(measure, "models"),
    )  # fmt: skip
    found = ask(two_methods, request)
    assert (found.keys, len(found.rows)) == (("norm", "eps"), 2)
    for row in found.rows:
        of_a, of_b = (_side(rows, method, row["eps"]) for method in ("sam", "standard"))
        expected = loops.interval(of_a, of_b, recipes, quantity, measure, BETA, "seed_of_attacked")
        got = (*_found(row, quantity), row["p"], row["mde"], row["share_models"])
        assert expected == pytest.approx(got, rel=1e-9)
        assert (row["a"], row["b"], row["covers"], row["n_models"]) == ("sam", "standard", "images+models", 8)
        assert 0 < row["share_models"] < 1


def test_a_row_says_what_there_is(two_methods, rows_and_recipes):
    """Fractions, units, signs by member, KS and Wasserstein distances are those of the rows; keys are fixed."""
    rows, _ = rows_and_recipes
    found = ask(two_methods, METHODS)
    assert [*found.rows[0]] == ["norm", "eps", *COMPARED_KEYS] == list(found.columns)
    for row in found.rows:
        of_a, of_b = loops.keep_common(*(_side(rows, m, row["eps"]) for m in ("sam", "standard")))
        assert row["n_units"] == len({each["unit"] for each in of_a})
        for name, quantity in (
            ("bug_fraction", "fraction"),
            ("bug_rate", "rate"),
            ("non_bug_rate", "non-bug-rate"),
        ):
            for side, some in (("a", of_a), ("b", of_b)):
                counts = loops.count(some, "js-delta", BETA)
                assert row[f"{name}_{side}"] == loops.fraction(loops.rows_of(quantity, counts, {}))
        successes = [{each["unit"] for each in some if each["success"]} for some in (of_a, of_b)]
        assert row["n_equal_success"] == len(successes[0] & successes[1])
        signs = [
            loops.difference(
                *([r for r in some if r["seed_of_attacked"] == seed] for some in (of_a, of_b)),
                "fraction", "js-delta", BETA,
            )[0]
            for seed in range(4)
        ]  # fmt: skip
        assert row["members_negative"] == sum(sign < 0 for sign in signs)
        assert row["members_positive"] == sum(sign > 0 for sign in signs)
        values = [loops.values(some, "js-delta") for some in (of_a, of_b)]
        assert row["ks"] == pytest.approx(ks_2samp(*values).statistic)
        assert row["wasserstein"] == pytest.approx(wasserstein_distance(*values))


def test_p_values_are_adjusted_over_all_rows(two_methods):
    """Holm's adjustment, as statsmodels has it, over the rows of both ε and both β."""
    request = Request(by=("method",), baseline="standard", betas=(0.1, 0.2), measuring=METHODS.measuring)
    rows = ask(two_methods, request).rows
    assert [row["beta"] for row in rows] == [0.1, 0.2] * 2
    adjusted = multipletests([row["p"] for row in rows], method="holm")[1]
    assert [row["p_holm"] for row in rows] == pytest.approx(list(adjusted))


def test_eps_against_eps_leaves_a_model_out_on_both_sides(two_methods, rows_and_recipes):
    """The same models attacked harder are one unit each, and there is no row by ε."""
    rows, recipes = rows_and_recipes
    request = Request(by=("eps",), baseline="8", betas=(BETA,), measuring=METHODS.measuring)
    (row,) = ask(two_methods, request, Selection(method="standard", eps=(3 / 255, 8 / 255))).rows
    of_a, of_b = (_side(rows, "standard", eps) for eps in (3 / 255, 8 / 255))
    expected = loops.interval(of_a, of_b, recipes, "fraction", "js-delta", BETA, "attacked")
    assert expected == pytest.approx(
        (*_found(row, "fraction"), row["p"], row["mde"], row["share_models"]), rel=1e-9
    )
    assert (row["a"], row["b"], row["n_models"]) == ("3/255", "8/255", 4)


def test_first_falls_leave_out_what_fell_before(two_methods, rows_and_recipes):
    """An attempt that a smaller selected ε made succeed is in none of the counts of a larger one."""
    rows, _ = rows_and_recipes
    request = Request(by=("eps",), baseline="8", betas=(BETA,), first_falls=True, measuring=METHODS.measuring)
    (row,) = ask(two_methods, request, Selection(method="sam", eps=(3 / 255, 8 / 255))).rows
    of_a, of_b = loops.keep_common(*(_side(rows, "sam", eps) for eps in (3 / 255, 8 / 255)))
    fallen = {(each["attacked"], each["unit"]) for each in _side(rows, "sam", 3 / 255) if each["success"]}
    left = [each for each in of_b if (each["attacked"], each["unit"]) not in fallen]
    assert len(left) < len(of_b)
    for name, quantity in (("bug_fraction", "fraction"), ("bug_rate", "rate")):
        for side, some in (("a", of_a), ("b", left)):
            counts = loops.count(some, "js-delta", BETA)
            assert row[f"{name}_{side}"] == loops.fraction(loops.rows_of(quantity, counts, {}))


def test_unequal_judges_are_refused_or_made_equal(two_methods, rows_and_recipes):
    """Four judges against three are refused; allowed, those judge who judge both attacks of a seed."""
    rows, recipes = rows_and_recipes
    uneven = Selection(eps=(5 / 255,))
    with pytest.raises(UsageError, match=r"differ in n_evaluators: sam 4, standard 3 .*--allow n_evaluators"):
        ask(two_methods, METHODS, uneven)
    request = Request(
        by=("method",), baseline="standard", betas=(BETA,), measuring=METHODS.measuring,
        allow=("n_evaluators",),
    )  # fmt: skip
    (row,) = ask(two_methods, request, uneven).rows
    of_a, of_b = (_side(rows, method, 5 / 255) for method in ("sam", "standard"))
    twins = {each["seed_of_attacked"]: each["attacked"] for each in of_b}
    cut = []
    for each in of_a:
        kept = [k for k, sha256 in enumerate(each["evaluators"]) if sha256 != twins[each["seed_of_attacked"]]]
        some = {name: [each[name][k] for k in kept] for name in ("evaluators", "js_k", "rho_k")}
        js_delta = None if each["js_delta"] is None else sum(some["js_k"]) / sum(some["rho_k"])
        cut.append({**each, **some, "js_delta": js_delta})
    expected = loops.interval(cut, of_b, recipes, "fraction", "js-delta", BETA, "seed_of_attacked")
    assert expected[:4] == pytest.approx((*_found(row, "fraction"), row["p"]), rel=1e-6)
    assert "n_evaluators (4 and 3)" in row["warnings"]


def test_conditions_name_sides(two_methods):
    """--a and --b give the numbers of --by, with their signs turned where A and B change places."""
    (by_key, _) = ask(two_methods, METHODS).rows
    turned = Request(a=("method=standard",), b=("method=sam",), betas=(BETA,), measuring=METHODS.measuring)
    (row, _) = ask(two_methods, turned).rows
    assert (row["a"], row["b"]) == ("method=standard", "method=sam")
    assert row["fraction_difference"] == pytest.approx(-by_key["fraction_difference"])
    assert row["fraction_difference_low"] == pytest.approx(-by_key["fraction_difference_high"])
    assert row["p"] == pytest.approx(by_key["p"])


def test_seeds_that_differ_are_not_paired(two_methods, rows_and_recipes):
    """Without the same seeds on both sides each model is left out alone, and signs are against all of B."""
    rows, recipes = rows_and_recipes
    request = Request(
        a=("method=sam", "model_seed!=0"), b=("method=standard",), betas=(BETA,),
        measuring=METHODS.measuring, allow=("evaluators",),
    )  # fmt: skip
    row = ask(two_methods, request).rows[0]
    of_a = [each for each in _side(rows, "sam", 3 / 255) if each["seed_of_attacked"]]
    of_b = _side(rows, "standard", 3 / 255)
    expected = loops.interval(of_a, of_b, recipes, "fraction", "js-delta", BETA, "attacked")
    got = (*_found(row, "fraction"), row["p"], row["mde"], row["share_models"])
    assert expected == pytest.approx(got, rel=1e-9)
    assert (row["n_models"], row["covers"]) == (7, "images+models")
    assert row["members_negative"] + row["members_positive"] == 3


def test_few_bugs_take_the_sides_own_intervals(two_methods, rows_and_recipes):
    """Where fewer than five images carry a bug, bounds come from those of ``query bugs`` at the same units."""
    rows, recipes = rows_and_recipes
    request = Request(by=("method",), baseline="standard", betas=(0.05,), measuring=METHODS.measuring)
    sparse = [row for row in ask(two_methods, request).rows if row["warnings"] == "sparse"]
    for row in sparse:
        sides = loops.keep_common(*(_side(rows, m, row["eps"]) for m in ("sam", "standard")))
        own = [brute_force.interval(side, recipes, "js-delta", 0.05)[:3] for side in sides]
        (r_a, low_a, high_a), (r_b, low_b, high_b) = own
        d = r_a - r_b
        expected = d, d - np.hypot(r_a - low_a, high_b - r_b), d + np.hypot(high_a - r_a, r_b - low_b)
        assert expected == pytest.approx(_found(row, "fraction"), rel=1e-9)
        assert (row["p"], row["p_holm"], row["mde"]) == (None, None, None)
    assert sparse


def test_images_alone(two_methods):
    """Over images alone the models add nothing."""
    request = Request(by=("method",), baseline="standard", measuring=Measuring(interval="images"))
    for row in ask(two_methods, request).rows:
        assert (row["covers"], row["share_models"]) == ("images", 0.0)


def test_a_group_of_one_side_is_named(store):
    """Groups that only one side has give no row, and are told."""
    bench = Bench(store)
    bench.judge(ROWS, eps=3 / 255, objective="target")
    bench.judge(ROWS, eps=3 / 255, objective="margin")
    bench.judge(ROWS, eps=8 / 255, objective="margin")
    request = Request(by=("objective",), baseline="target", measuring=Measuring(interval="images"))
    with store.reading() as reader:
        found = compare(reader, request)
    assert [row["eps"] for row in found.rows] == [3 / 255]
    assert found.alone == ("margin at norm linf, eps 8/255",)


def test_nothing_selected_is_nothing(store):
    """A store without evaluations has nothing to compare."""
    with store.reading() as reader:
        assert compare(reader, METHODS).rows == []


def test_filters_that_leave_no_attempt_leave_no_number(two_methods):
    """Where no attempt of a side counts there are rows without numbers, and the reason."""
    for row in ask(two_methods, METHODS, Selection(eps=EQUAL.eps, min_confidence=0.9)).rows:
        assert (row["n_units"], row["fraction_difference"], row["ks"], row["verdict"]) == (
            0,
            None,
            None,
            "undecided",
        )
        assert "no image was attacked towards the same label on both sides" in row["warnings"]


def test_equal_sides_are_no_difference(store):
    """Two attacks with the same outcome differ by 0, without interval, p or verdict."""
    bench = Bench(store)
    rows = [(image, 0, 1, 1, 0.0 if image % 2 else 1.0) for image in range(40)]
    for eps in (3 / 255, 8 / 255):
        bench.judge(rows, eps=eps)
    request = Request(by=("eps",), baseline="8", measuring=Measuring(interval="images"))
    with store.reading() as reader:
        (row,) = compare(reader, request).rows
    assert (row["fraction_difference"], row["p"], row["covers"], row["verdict"]) == (
        0,
        None,
        None,
        "undecided",
    )
    assert np.isnan([row[f"fraction_difference_{end}"] or np.nan for end in ("low", "high")]).all()
    assert "no interval: no spread" in row["warnings"]
