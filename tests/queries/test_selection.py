"""Selection: which evaluations a query finds, and how it names what they are about."""

import pytest

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.selection import DEFAULT_KEYS, POPULATIONS, Selection, list_evaluations
from tests.queries.bench import ROWS, Bench, ask
from tests.stores import add_model


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, [("flat", 3), ("flat", 8), ("plain", 3), ("plain", 8)]),
        ({"ensemble": "flat"}, [("flat", 3), ("flat", 8)]),
        ({"dataset": "toy"}, [("plain", 3), ("plain", 8)]),
        ({"method": "sam"}, [("flat", 3), ("flat", 8)]),
        ({"eps": (8 / 255,)}, [("flat", 8), ("plain", 8)]),
        ({"eps": (3 / 255, 8 / 255), "method": "sam"}, [("flat", 3), ("flat", 8)]),
        ({"eps": (5 / 255,)}, []),
    ],
)
def test_selection_by_facts(facts, expected, two_ensembles, store):
    """A query looks only at what it was asked about."""
    rows = ask(store, selection=Selection(**facts)).rows
    assert sorted((row["judged_by"], round(row["eps"] * 255)) for row in rows) == expected


def test_selection_by_uid(two_ensembles, store):
    """Ensembles, attacks and evaluations are named by uid or by a prefix of it."""
    bench, (weak, strong) = two_ensembles["plain"]
    with store.reading() as connection:
        by_ensemble = list_evaluations(connection, Selection(ensemble=bench.ensemble.uid))
        by_evaluation = list_evaluations(connection, Selection(uids=(strong.uid,)))
        attack_uid = list_evaluations(connection, Selection(uids=(weak.uid,)))[0].attack_uid
        by_attack = list_evaluations(connection, Selection(uids=(attack_uid, strong.uid)))
    assert [found.uid for found in by_ensemble] == [weak.uid, strong.uid]
    assert [found.uid for found in by_evaluation] == [strong.uid]
    assert [found.uid for found in by_attack] == [weak.uid, strong.uid]


@pytest.mark.parametrize(
    ("facts", "known"),
    [
        ({"ensemble": "nonsense"}, "plain.*flat|flat.*plain"),
        ({"ensemble": "%"}, "plain.*flat|flat.*plain"),
        ({"dataset": "nonsense"}, "toy.*other|other.*toy"),
        ({"method": "nonsense"}, "standard.*sam|sam.*standard"),
        ({"uids": ("nonsense",)}, "nonsense"),
    ],
)
def test_selection_by_an_unknown_name_lists_the_known_ones(facts, known, two_ensembles, store):
    """A misspelt name is an error that says what there is, not an empty table."""
    with pytest.raises(UsageError, match=known):
        ask(store, selection=Selection(**facts))


def test_ensembles_of_one_name_are_told_apart(store):
    """Names need not be unique: where they are not, rows carry the uid, too, and are not pooled."""
    benches = [Bench(store, ensemble="same") for _ in range(2)]
    for bench in benches:
        bench.judge(ROWS)
    names = [row["judged_by"] for row in ask(store).rows]
    assert sorted(names) == sorted(f"same@{bench.ensemble.uid[:8]}" for bench in benches)


def test_added_models_go_by_their_names(store):
    """An added model is shown by its name, as attacked model and as evaluator; of no ensemble, it comes first."""
    bench = Bench(store)
    place = bench.add_model("mine")
    bench.judge(ROWS, 1)
    bench.evaluate(bench.attack(ROWS, place), ROWS, evaluators=(0, 1))
    bench.evaluate(bench.attack(ROWS, 0), ROWS, evaluators=(place, 2))
    table = ask(store)
    assert table.keys == DEFAULT_KEYS
    assert [row["attacked"] for row in table.rows] == ["mine", 0, 1]
    (mixed,) = ask(store, by=["attacked", "evaluators"]).rows[:1]  # numbers before names
    assert mixed["evaluators"].split()[0] == "mine"
    assert mixed["evaluators"].split()[1].startswith("2@")


def test_attacked_models_of_one_seed_are_told_apart(store):
    """Where one set judges two models of equal seed and method, their uids keep them apart."""
    bench = Bench(store)
    with store.transaction() as session:
        bench.models.append(add_model(session, bench.dataset, 0))
        bench.models.append(add_model(session, bench.dataset, 0, method="sam"))
    for place in (0, 3, 4):
        bench.evaluate(bench.attack(ROWS, place), ROWS)
    rows = ask(store).rows
    assert [row["attacked"] for row in rows if row["method"] == "sam"] == [0]
    assert {row["attacked"] for row in rows if row["method"] == "standard"} == {
        f"0@{bench.models[place].uid[:8]}" for place in (0, 3)
    }


def test_sets_of_several_ensembles_have_no_ensemble(store):
    """A set of evaluators that was put together has a null for its ensemble, and rows of its own."""
    bench = Bench(store)
    attack = bench.attack(ROWS)
    bench.evaluate(attack, ROWS)
    bench.evaluate(attack, ROWS, ensemble=None)
    table = ask(store)
    assert table.keys == DEFAULT_KEYS
    assert [row["judged_by"] for row in table.rows] == [None, "toy"]
    assert [row["judged_by"] for row in ask(store, selection=Selection(ensemble="toy")).rows] == ["toy"]


FOREIGN = {
    "split": "file", "steps": 0, "step_size": 0.0, "restarts": 0, "random_start": False, "library": "elsewhere",
    "target_rule": "given", "objective": "unknown", "stop": "unknown",
}  # fmt: skip


def test_samples_from_elsewhere_came_without_their_steps(store):
    """Without steps there is no relative step size; such rows group beside others."""
    bench = Bench(store)
    bench.judge(ROWS)
    bench.judge(ROWS, **FOREIGN)
    rows = ask(store).rows
    assert [(row["library"], row["steps"], row["relative_step_size"]) for row in rows] == [
        ("elsewhere", 0, None),
        ("jsdelta", 100, 2.5),
    ]


def test_attacks_that_no_fact_tells_apart_show_their_uid(store):
    """Two files from one library are two attacks: a row each by default, named where they are pooled."""
    bench = Bench(store)
    attacks = [bench.attack(ROWS, **FOREIGN) for _ in range(2)]
    for attack in attacks:
        bench.evaluate(attack, ROWS)
    table = ask(store)
    assert table.keys == (*DEFAULT_KEYS, "attack")
    assert {row["attack"] for row in table.rows} == {attack.uid for attack in attacks}
    assert ask(store, by=["eps"]).pooled == {"attack": tuple(attack.uid for attack in attacks)}
    assert ask(store, by=["attack"]).pooled == {}


@pytest.mark.parametrize(
    ("facts", "count"),
    [
        ({"norm": "l2"}, 1),
        ({"norm": "linf"}, 3),
        ({"norm": "l2", "eps": (0.5,)}, 1),
        ({"norm": "linf", "eps": (0.5,)}, 0),
        ({"eps": (0.5000001,)}, 1),
        ({"eps": (3.001 / 255,)}, 0),
        ({"objective": "bug"}, 1),
        ({"objective": "margin"}, 0),
        ({"objective": "unknown"}, 1),
        ({"library": "elsewhere"}, 1),
        ({"temperature": "fit"}, 1),
        ({"temperature": "1", "library": "jsdelta"}, 2),
    ],
)
def test_selection_by_how_it_was_made_and_judged(facts, count, store):
    """Norm, objective, library and temperature narrow a query; ε matches within rounding and in its norm."""
    bench = Bench(store)
    bench.judge(ROWS, norm="l2", eps=0.5)
    bench.judge(ROWS, objective="bug")
    bench.evaluate(bench.attack(ROWS, seed=1), ROWS, temperature_rule="fit")
    bench.judge(ROWS, **FOREIGN)
    with store.reading() as connection:
        assert len(list_evaluations(connection, Selection(**facts))) == count


@pytest.mark.parametrize(
    ("facts", "known"),
    [
        ({"norm": "l3"}, "linf, l2"),
        ({"temperature": "2"}, "1, fit"),
        ({"population": "all"}, ", ".join(POPULATIONS)),
        ({"objective": "nonsense"}, "target, margin, bug, feature"),
        ({"library": "nonsense"}, "jsdelta"),
    ],
)
def test_what_can_not_be_selected_is_refused(facts, known, store):
    """A misspelt norm, rule, population, objective or library names what there is."""
    Bench(store).judge(ROWS)
    with pytest.raises(UnknownNameError, match=known):
        ask(store, selection=Selection(**facts))


@pytest.fixture
def alike(store):
    """Ensembles of uids that begin alike, two of them of one name, and one named like a uid's start."""
    benches = [Bench(store, ensemble=name) for name in ("same", "same", "abcd")]
    with store.transaction() as session:
        for bench, uid in zip(
            benches, ("abcd000000000001", "abce000000000002", "abcd000000000003"), strict=True
        ):
            session.get_one(type(bench.ensemble), bench.ensemble.id).uid = uid
    for bench in benches:
        bench.judge(ROWS)
    return store


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ("same", ["same@abcd0000", "same@abce0000"]),
        ("abcd", ["abcd"]),
        ("abce", ["same"]),
        ("abcd0000000000001", None),
        ("abcd0", None),
        ("abc", None),
        ("", None),
    ],
)
def test_an_ensemble_is_selected_by_name_or_by_one_uid(reference, names, alike):
    """All ensembles of a name are selected, a name before any uid; a prefix of several uids is refused."""
    if names is None:
        with pytest.raises(UsageError, match="ensemble '"):
            ask(alike, selection=Selection(ensemble=reference))
        return
    rows = ask(alike, selection=Selection(ensemble=reference)).rows
    assert sorted(row["judged_by"] for row in rows) == names
