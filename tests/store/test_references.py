"""References: what people call ensembles, models and attacks, and what they are told if they mistype."""

import pytest

from jsdelta_db.errors import NothingToDoError, UsageError
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.references import (
    get_attack,
    get_ensemble,
    list_first_evaluators,
    list_members,
    list_models,
)
from jsdelta_db.store.schema import FINISHED, RUNNING
from tests.stores import START, add_attack, add_dataset, add_ensemble, add_evaluation, add_model


@pytest.fixture
def empty(tmp_path):
    """An empty SQLite store."""
    opened = open_for_writing(f"sqlite:///{tmp_path / 'jsdelta.db'}")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Ensembles ``digits`` (seeds 0, 1, 2) and ``others`` (7, 8), and models that were added; only read."""
    opened = open_for_writing(f"sqlite:///{tmp_path_factory.mktemp('find') / 'jsdelta.db'}")
    with opened.transaction() as session:
        dataset = add_dataset(session)
        digits = [add_model(session, dataset, seed, uid=f"aaaa00000000000{seed}") for seed in range(3)]
        others = [add_model(session, dataset, seed, uid=f"bbbb00000000000{seed}") for seed in (7, 8)]
        add_ensemble(session, dataset, digits, name="digits", uid="1234000000000001")
        add_ensemble(session, dataset, others, name="others", uid="dddd000000000002")
        add_model(session, dataset, 0, name="mine", uid="eeee000000000001")
        add_model(session, dataset, 5, uid="ffff000000000001", status=RUNNING)
        attacks = [
            add_attack(session, digits[0], uid=uid)
            for uid in ("abcd000000000001", "abcd000000000002", "abce000000000003")
        ]
        add_evaluation(session, attacks[0], others)
        add_evaluation(session, attacks[0], digits[1:])
    yield opened
    opened.close()


@pytest.fixture
def session(store):
    """A session on it."""
    with store.transaction() as opened:
        yield opened


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A store of finished ensembles, two of one name, and an unfinished one, the newest; only read."""
    opened = open_for_writing(f"sqlite:///{tmp_path_factory.mktemp('named') / 'jsdelta.db'}")
    with opened.transaction() as session:
        dataset = add_dataset(session)
        made = {
            key: add_ensemble(session, dataset, [], name=name, uid=uid, status=status)
            for key, name, uid, status in (
                ("a", "digits", "aaaa000000000001", FINISHED),
                ("b", "digits", "aaaa000000000002", FINISHED),
                ("c", "cifar", "cccc000000000003", FINISHED),
                ("d", "half-done", "dddd000000000004", RUNNING),
            )
        }
        made["a"].finished_at = START.replace(year=2030)  # trained first, finished last
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("reference", "uid"),
    [
        (None, "aaaa000000000001"),
        ("cifar", "cccc000000000003"),
        ("cccc", "cccc000000000003"),
        ("cccc000000000003", "cccc000000000003"),
        ("aaaa000000000002", "aaaa000000000002"),
    ],
)
def test_get_ensemble_finds(reference, uid, named):
    """An ensemble is named by name or by any unique prefix of its uid; newest means newest finished."""
    with named.transaction() as session:
        assert get_ensemble(session, reference).uid == uid


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("digits", ["'digits'", "aaaa000000000001", "aaaa000000000002"]),
        ("aaaa", ["'aaaa'", "aaaa000000000001", "aaaa000000000002"]),
        ("nothing", ["'nothing'", "digits", "cifar", "cccc0000"]),
        ("half-done", ["'half-done'", "cifar"]),
        ("", ["''", "cifar"]),
        ("%", ["'%'", "cifar"]),
        ("ccc", ["'ccc'", "cifar"]),
    ],
    ids=["ambiguous name", "ambiguous prefix", "unknown", "not finished", "empty", "wildcard", "too short"],
)
def test_get_ensemble_says_what_there_is(reference, parts, named):
    """An ambiguous name lists uids; an unknown one lists what is there."""
    with pytest.raises(UsageError) as error, named.transaction() as session:
        get_ensemble(session, reference)
    assert [part for part in parts if part not in str(error.value)] == []


@pytest.mark.parametrize("reference", [None, "digits"])
def test_get_ensemble_without_any_names_the_command(reference, empty):
    """With no ensemble there is nothing to attack: the line says how to train one."""
    with pytest.raises(NothingToDoError, match="jsdelta train"), empty.transaction() as session:
        get_ensemble(session, reference)


def test_a_seed_of_several_members_means_none(empty):
    """Of models that were added several may have one seed: the line names them, none is taken silently."""
    with empty.transaction() as session:
        dataset = add_dataset(session)
        models = [
            add_model(session, dataset, seed, name=name) for name, seed in (("a", 0), ("b", 0), ("c", 1))
        ]
        home = add_ensemble(session, dataset, models, name="mixed")
        for reference in ("0", "1,0", "mixed:0"):
            with pytest.raises(UsageError, match="2 members of 'mixed' have seed 0; name one of a, b"):
                list_models(session, reference, home)
        assert list_models(session, "1", home)[0] == [models[2]]


def test_list_members_keeps_the_order(empty):
    """Members come in their order in the ensemble, not in the order they were made."""
    with empty.transaction() as session:
        dataset = add_dataset(session)
        models = [add_model(session, dataset, seed) for seed in (5, 3, 4)]
        ensemble = add_ensemble(session, dataset, models[::-1])
        assert [row.seed for row in list_members(session, ensemble)] == [4, 3, 5]


@pytest.mark.parametrize(
    ("reference", "seeds", "ensemble"),
    [
        ("digits", [0, 1, 2], "digits"),
        ("1234", [0, 1, 2], "digits"),  # a uid's start that reads like a number
        ("others", [7, 8], "others"),
        ("digits:2,0", [2, 0], "digits"),
        ("digits:1,1", [1], "digits"),
        ("dddd:8", [8], "others"),
        ("1", [1], "digits"),
        ("2,1", [2, 1], "digits"),
        ("mine", [0], None),
        ("eeee", [0], None),
        ("bbbb000000000007", [7], None),
    ],
)
def test_list_models_finds(reference, seeds, ensemble, session):
    """One reference names an ensemble, some of its members by seed, or a model by name or uid."""
    home = get_ensemble(session, "digits")
    models, of = list_models(session, reference, home)
    assert [model.seed for model in models] == seeds
    assert (of.name if of else None) == ensemble


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("digits:9", ["'9'", "digits:0,1,2"]),
        ("digits:0,9", ["'0,9'", "digits:0,1,2"]),
        ("digits:", ["''", "digits:0,1,2"]),
        ("digits:x", ["'x'", "digits:0,1,2"]),
        ("digits:-1", ["'-1'", "digits:0,1,2"]),
        ("9", ["'9'", "seeds of 'digits': 0, 1, 2", "others, digits", "added models: mine", "uid"]),
        ("nope", ["'nope'", "ensembles: others, digits", "added models: mine"]),
        ("nope:1", ["'nope:1'", "ensembles: others, digits"]),
        ("aaaa", ["'aaaa' names 3", "aaaa000000000000", "aaaa000000000002"]),
        ("ffff", ["'ffff'", "ensembles: others, digits"]),
        ("eee", ["'eee'", "added models: mine"]),
        ("", ["''", "ensembles: others, digits"]),
        ("%", ["'%'", "ensembles: others, digits"]),
    ],
)
def test_list_models_says_what_there_is(reference, parts, session):
    """A reference that names nothing, or several models, is refused with what is valid, on one line."""
    home = get_ensemble(session, "digits")
    with pytest.raises(UsageError) as error:
        list_models(session, reference, home)
    assert [part for part in parts if part not in str(error.value)] == []
    assert "\n" not in str(error.value)


def test_bare_seeds_need_an_ensemble(session):
    """Where no ensemble is clear, a seed alone names nothing, and no seeds are listed."""
    with pytest.raises(UsageError, match=r"'1,2' is no model or ensemble: must be ensembles: others, dig"):
        list_models(session, "1,2")


@pytest.mark.parametrize(
    ("reference", "uid"), [("abce", "abce000000000003"), ("abcd000000000002", "abcd000000000002")]
)
def test_get_attack_finds(reference, uid, session):
    """An attack is named by any unique prefix of its uid."""
    assert get_attack(session, reference).uid == uid


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("abcd", ["attack 'abcd' names 2; give one by its uid", "abcd000000000001, abcd000000000002"]),
        ("nope", ["unknown attack 'nope'; there is", "abcd000000000001", "abce000000000003"]),
        ("abc", ["unknown attack 'abc'; there is: abcd000000000001"]),
        ("", ["unknown attack ''"]),
    ],
)
def test_get_attack_says_what_there_is(reference, parts, session):
    """A prefix of several attacks, or of none, is refused with uids to choose from."""
    with pytest.raises(UsageError) as error:
        get_attack(session, reference)
    assert [part for part in parts if part not in str(error.value)] == []


def test_get_attack_without_any_names_the_command(empty):
    """A store without attacks says how to make one."""
    with (
        pytest.raises(UsageError, match="none; make one with jsdelta attack"),
        empty.transaction() as session,
    ):
        get_attack(session, "abcd")


def test_first_evaluators_are_those_of_the_oldest_evaluation(session):
    """An attack's first evaluators are found, in their order; an attack without evaluation is refused."""
    evaluators, ensemble = list_first_evaluators(session, get_attack(session, "abcd000000000001"))
    assert ([model.seed for model in evaluators], ensemble) == ([7, 8], None)
    with pytest.raises(NothingToDoError, match="abce000000000003 was never judged; name --evaluators"):
        list_first_evaluators(session, get_attack(session, "abce"))
