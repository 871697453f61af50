"""Facts of evaluations: of attack, attacked model and judges, selected and grouped by."""

import pytest

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.occurring import query_keys
from jsdelta_db.queries.selection import Selection, explain_nothing, list_evaluations
from tests.queries.bench import ROWS, Bench, ask
from tests.stores import add_ensemble

RECIPES = {
    "standard": {"method": "standard", "epochs": 10, "width": 32, "learning_rate": 0.1, "device": "auto"},
    "flat": {"method": "sam", "epochs": 10, "width": 32, "learning_rate": 0.1, "sam_rho": 0.05},
    "flatter": {"method": "sam", "epochs": 10, "width": 32, "learning_rate": 0.1, "sam_rho": 0.3},
    "hard": {"method": "adversarial", "train_norm": "linf", "train_eps": 8 / 255, "epochs": 20},
}


@pytest.fixture
def recipes(store):
    """A model of each recipe, attacked at ε = 3 and judged by one standard ensemble of three."""
    bench = Bench(store, ensemble="judges")
    for name, recipe in RECIPES.items():
        place = bench.add_model(name, recipe=recipe, method=recipe["method"], recipe_name=name)
        with store.transaction() as session:
            add_ensemble(session, bench.dataset, [bench.models[place]], name=f"{name}-models")
    for place in range(3, 7):
        bench.evaluate(bench.attack(ROWS, place), ROWS, evaluators=(0, 1, 2))
    return bench


def names(store, *where):
    """Return the names of the attacked models that conditions leave."""
    with store.reading() as connection:
        return [each.facts["attacked"] for each in list_evaluations(connection, Selection(where=where))]


def test_facts_of_all_three_are_selected(recipes, store):
    """Hyperparameters, ensembles and judges select as the attack's own facts do."""
    uid = recipes.models[3].uid
    judge = f"0@{recipes.models[0].uid[:6]}"
    for where, expected in {
        ("sam_rho=0.05",): ["flat"],
        ("sam_rho>0.05",): ["flatter"],
        ("sam-rho!=none",): ["flat", "flatter"],
        ("train_eps=8",): ["hard"],
        ("train_eps=8/255", "epochs>=20"): ["hard"],
        ("lr=0.1", "width=32"): ["standard", "flat", "flatter"],
        ("method=sam,adversarial",): ["flat", "flatter", "hard"],
        ("attacked=flat,hard",): ["flat", "hard"],
        (f"attacked=standard@{uid[:8]}",): ["standard"],
        (f"attacked={uid[:8]}",): ["standard"],
        ("attacked_ensemble=flat-models",): ["flat"],
        (f"judged_by=judges@{recipes.ensemble.uid[:8]}", "recipe=flat"): ["flat"],
        ("ensemble=judges", "recipe=flat"): ["flat"],
        ("judged_method=standard", "n_evaluators=3", "recipe=hard"): ["hard"],
        (f"evaluators={judge}", "recipe=hard"): ["hard"],
        ("model_seed=0", "recipe=hard"): ["hard"],
        ("library=jsdelta==0", "recipe=hard"): ["hard"],
        ("library=jsdelta", "recipe=hard"): ["hard"],
        ("evaluators=9@abc",): None,
        ("library=jsdelta==1",): None,
        ("attacked=nobody",): None,
        ("attacked_ensemble=nobody",): None,
    }.items():
        if expected is None:
            with pytest.raises(UnknownNameError, match="; there is: "):
                names(store, *where)
        else:
            assert names(store, *where) == expected, where


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("colour=red", "unknown --where 'colour'; there is: dataset, .*; jsdelta query keys shows"),
        ("sam_roh=0.05", "unknown --where 'sam_roh'; there is: .*; did you mean 'sam_rho'"),
        ("eps", "--where 'eps' is not valid: must be KEY=VALUE"),
    ],
)
def test_what_is_no_fact_is_refused(where, message):
    """An unknown key lists what there is, and the one that was meant; no store is needed to say so."""
    with pytest.raises(UsageError, match=message):
        Selection(where=(where,))


def test_every_fact_groups(recipes, store):
    """--by takes hyperparameters and judges like any other fact, and names what a row pools by its cause."""
    table = ask(store, by=["sam_rho", "judged_by"])
    assert [(row["sam_rho"], row["judged_by"]) for row in table.rows] == [
        (None, "judges"), (0.05, "judges"), (0.3, "judges"),
    ]  # fmt: skip
    assert table.pooled == {"attacked": ("standard", "hard"), "method": ("standard", "adversarial")}
    pooled = ask(store, by=["method"]).pooled
    assert pooled == {"attacked": ("flat", "flatter"), "sam_rho": (0.05, 0.3)}
    assert ask(store, by=["method", "sam_rho", "n_evaluators"]).pooled == {}


def test_the_attacked_ensemble_is_the_judging_one_or_the_oldest(store):
    """A member's ensemble is the one whose others judge it; else the oldest that has it; else none."""
    bench = Bench(store, ensemble="first")
    with store.transaction() as session:
        second = add_ensemble(session, bench.dataset, bench.models[:2], name="second")
        third = add_ensemble(session, bench.dataset, bench.models[2:], name="third")
    bench.add_model("alone")
    attack = bench.attack(ROWS)
    for facts in ({"ensemble": second}, {"ensemble": third}, {"ensemble": None}, {}):
        bench.evaluate(attack, ROWS, **facts)
    bench.evaluate(bench.attack(ROWS, 3), ROWS)
    with store.reading() as connection:
        found = list_evaluations(connection)
    assert [(each.facts["attacked_ensemble"], each.facts["judged_by"]) for each in found] == [
        ("second", "second"), ("first", "third"), ("first", None), ("first", "first"), (None, "first"),
    ]  # fmt: skip


def test_named_options_repeat(recipes, store):
    """Several names of one option select any of them; options and conditions must all hold."""
    with store.reading() as connection:
        found = list_evaluations(
            connection, Selection(method=("sam", "adversarial"), where=("recipe!=flat",), library="jsdelta")
        )
        reason = explain_nothing(connection, Selection(method="sam", where=("sam_rho=0.1",)))
        other = explain_nothing(connection, Selection(eps=(5 / 255,)))
        full = explain_nothing(connection, Selection(method="sam"))
    assert [each.facts["attacked"] for each in found] == ["flatter", "hard"]
    assert reason == "--where sam_rho=0.1 leaves nothing; sam_rho is 0.05, 0.3 here"
    assert (other, full) == ("--eps 5/255 leaves nothing; eps is 3/255 here", "")


def test_models_of_a_constructed_set_are_pooled_only_where_asked_for(store):
    """They have rows of their own under any grouping, unless a condition names trained_on."""
    bench = Bench(store)
    other = Bench(store, dataset="made", ensemble="of-made")
    with store.transaction() as session:
        session.get_one(type(other.dataset), other.dataset.id).kind = "constructed"
    for each in (bench, other):
        each.judge(ROWS, dataset_id=bench.dataset.id)
    table = ask(store, by=["eps"])
    assert (table.keys, table.separated) == (("eps", "trained_on"), ("trained_on",))
    assert [row["trained_on"] for row in table.rows] == ["made", "toy"]
    asked = ask(store, by=["eps"], selection=Selection(where=("trained_on=toy,made",)))
    assert (asked.keys, len(asked.rows)) == (("eps",), 1)
    assert asked.pooled["trained_on"] == ("toy", "made")


def test_keys_are_listed_with_the_values_that_occur(recipes, store):
    """Each value that is listed selects; facts that nothing has are left out."""
    with store.reading() as connection:
        rows = {row["key"]: row for row in query_keys(connection)}
        few = {row["key"]: row for row in query_keys(connection, most=2)}
    assert rows["sam_rho"] == {
        "key": "sam_rho", "about": "attacked model", "n_values": 3, "values": "0.05,0.3,none",
    }  # fmt: skip
    assert (rows["eps"]["values"], rows["train_eps"]["values"]) == ("3/255", "8/255,none")
    assert few["method"]["values"] == "adversarial,sam,…"
    assert "attack_by" not in rows
    for key, row in rows.items():
        assert len(names(store, f"{key}={row['values']}")) == 4, key


@pytest.mark.parametrize(
    ("judges", "named"),
    [
        (((1, 2), (0, 2)), False),  # of one set, but for the attacked model
        (((2, 3), (2, 3)), False),
        (((1, 3), (0, 2)), True),
        (((2,), (3,)), True),
    ],
)
def test_judges_that_differ_are_named_though_no_ensemble_is(judges, named, store):
    """A row over two attacked models names their evaluators unless each has all of one set but itself."""
    bench = Bench(store)
    bench.add_model("other")
    for attacked, those in enumerate(judges):
        bench.evaluate(bench.attack(ROWS, attacked), ROWS, evaluators=those, ensemble=None)
    pooled = ask(store, by=["eps"]).pooled
    assert set(pooled) == ({"attacked", "evaluators"} if named else {"attacked"})
