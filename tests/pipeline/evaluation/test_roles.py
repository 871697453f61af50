"""Who is attacked, who judges and who is held back; a model never plays two parts."""

import pytest

from jsdelta_db.errors import NothingToDoError, UsageError
from jsdelta_db.pipeline.evaluation.roles import RoleRequest, describe, find_evaluators, find_roles
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.references import get_attack
from jsdelta_db.store.schema import AttackSurrogate
from tests.stores import add_attack, add_dataset, add_ensemble, add_evaluation, add_model


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Ensembles of five, two, one and twice the same weights, a model that was added, and an attack.

    Models are shared: ``pair`` are seeds 3 and 4 of ``five``, ``copy`` has seed 1's weights. Only read.
    """
    opened = open_for_writing(f"sqlite:///{tmp_path_factory.mktemp('cast') / 'jsdelta.db'}")
    with opened.transaction() as session:
        dataset = add_dataset(session)
        five = [add_model(session, dataset, seed) for seed in range(5)]
        same = [add_model(session, dataset, seed, checkpoint_sha256="same") for seed in (20, 21)]
        add_ensemble(session, dataset, five, name="five")
        add_ensemble(session, dataset, five[3:], name="pair")
        add_ensemble(session, dataset, five[:1], name="lonely")
        add_ensemble(session, dataset, same, name="same")
        add_ensemble(session, dataset, [add_model(session, dataset, s) for s in (10, 11)], name="apart")
        add_model(session, dataset, 0, name="mine")
        add_model(session, dataset, 0, name="copy", checkpoint_sha256=five[1].checkpoint_sha256)
        judged = add_attack(session, five[0], uid="abcd000000000001")
        add_evaluation(session, judged, five[1:3])
        session.add(AttackSurrogate(attack_id=judged.id, position=0, model_id=five[4].id))
        add_attack(session, five[0], uid="abcd000000000002")
    yield opened
    opened.close()


def assign(store, *, objective="target", **references):
    """Assign roles; return them as names: (attacked, evaluators, surrogates, ensemble)."""
    with store.read_session() as session:
        request = RoleRequest(**{"ensemble": "five", **references})
        return [
            (
                _name(each.attacked),
                [_name(model) for model in each.evaluators],
                [_name(model) for model in each.surrogates],
                each.ensemble.name if each.ensemble else None,
            )
            for each in find_roles(session, request, objective)
        ]


def _name(model):
    return model.name or model.seed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [(0, [1, 2, 3, 4], [], "five")]),
        ({"attacked": "3"}, [(3, [0, 1, 2, 4], [], "five")]),
        ({"attacked": "4,1"}, [(4, [0, 1, 2, 3], [], "five"), (1, [0, 2, 3, 4], [], "five")]),
        ({"attacked": "five:2"}, [(2, [0, 1, 3, 4], [], "five")]),
        ({"attacked": "mine"}, [("mine", [0, 1, 2, 3, 4], [], "five")]),
        ({"attacked": "copy"}, [("copy", [0, 2, 3, 4], [], "five")]),
        ({"ensemble": "pair", "attacked": "all"}, [(3, [4], [], "pair"), (4, [3], [], "pair")]),
        ({"evaluators": ["1,2"]}, [(0, [1, 2], [], "five")]),
        ({"evaluators": ["1", "2", "1"]}, [(0, [1, 2], [], "five")]),
        ({"evaluators": ["pair"]}, [(0, [3, 4], [], "pair")]),
        ({"evaluators": ["apart", "2"]}, [(0, [10, 11, 2], [], None)]),
        ({"evaluators": ["mine", "2"]}, [(0, ["mine", 2], [], None)]),
        ({"evaluators": ["1", "copy", "2"]}, [(0, [1, 2], [], None)]),
        ({"ensemble": "lonely", "evaluators": ["pair"]}, [(0, [3, 4], [], "pair")]),
        ({"objective": "bug"}, [(0, [1, 2], [3, 4], "five")]),
        ({"objective": "feature", "attacked": "4"}, [(4, [0, 1], [2, 3], "five")]),
        ({"objective": "bug", "surrogates": ["1"]}, [(0, [2, 3, 4], [1], "five")]),
        ({"objective": "bug", "surrogates": ["apart"]}, [(0, [1, 2, 3, 4], [10, 11], "five")]),
        ({"objective": "bug", "evaluators": ["1,2,3"]}, [(0, [1, 2, 3], [4], "five")]),
        ({"objective": "bug", "evaluators": ["3,4"]}, [(0, [3, 4], [2], "five")]),
        (
            {"objective": "feature", "surrogates": ["1"], "evaluators": ["apart"]},
            [(0, [10, 11], [1], "apart")],
        ),
    ],
    ids=str,
)
def test_parts_are_given_out(given, expected, store):
    """The ensemble's other members judge; named ones do instead; half are held back where needed."""
    assert assign(store, **given) == expected


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"ensemble": "nope"}, UsageError, "unknown ensemble 'nope'"),
        ({"attacked": "9"}, UsageError, r"^--attacked '9' is no model or ensemble: .*; or first, or all$"),
        ({"ensemble": "lonely"}, UsageError, "'lonely' has 1 member.*train at least two: jsdelta train"),
        ({"ensemble": "same"}, NothingToDoError, "every member of 'same' has the same weights"),
        ({"evaluators": ["nope"]}, UsageError, "'nope' is no model or ensemble"),
        ({"evaluators": ["0,1"]}, UsageError, r"attacked model \(seed 0, .* is among the evaluators"),
        ({"attacked": "all", "evaluators": ["pair"]}, UsageError, r"\(seed 3, .* is among the evaluators"),
        ({"attacked": "1", "evaluators": ["copy", "2"]}, UsageError, "seed 1, .* is among the evaluators"),
        ({"evaluators": ["1"]}, UsageError, "--evaluators names 1 model: must be 2 or more"),
        ({"evaluators": ["1", "copy"]}, UsageError, "names 1 model.*with different weights"),
        ({"surrogates": ["1"]}, UsageError, "--surrogates go with --objective bug or feature; 'target'"),
        ({"objective": "bug", "surrogates": ["0"]}, UsageError, "attacked model .* among the surrogates"),
        ({"objective": "bug", "surrogates": ["nope"]}, UsageError, "'nope' is no model or ensemble"),
        (
            {"objective": "bug", "surrogates": ["1"], "evaluators": ["1,2"]},
            UsageError,
            "seed 1, .* would judge and be a surrogate",
        ),
        (
            {"objective": "bug", "surrogates": ["copy"], "evaluators": ["1,2"]},
            UsageError,
            "seed 1, .* would judge and be a surrogate",
        ),
        ({"objective": "bug", "surrogates": ["1,2,3,4"]}, NothingToDoError, "no evaluator is left"),
        ({"ensemble": "pair", "objective": "bug"}, UsageError, "'pair' has too few members to hold"),
        ({"objective": "bug", "evaluators": ["1,2,3,4"]}, UsageError, "too few members to hold a surrogate"),
    ],
    ids=str,
)
def test_parts_that_can_not_be_given_are_refused(given, error, message, store):
    """A model in two parts (told by its weights), too few models or a wrong name is one line."""
    with pytest.raises(error, match=message) as raised:
        assign(store, **given)
    assert "\n" not in str(raised.value)


def _judges(store, attack, *evaluators):
    with store.read_session() as session:
        found = find_evaluators(session, get_attack(session, attack), evaluators)
        return [_name(part) for part in found.evaluators], [_name(part) for part in found.surrogates]


def test_stored_samples_are_judged_by_the_first_judges_or_those_named(store):
    """Without names the first evaluators judge again; the surrogates that the attack had are known."""
    assert _judges(store, "abcd000000000001") == ([1, 2], [4])
    assert _judges(store, "abcd000000000001", "five:3", "apart") == ([3, 10, 11], [4])


@pytest.mark.parametrize(
    ("attack", "evaluators", "error", "message"),
    [
        ("abcd000000000001", ["five"], UsageError, r"attacked model \(seed 0, .* among the evaluators"),
        ("abcd000000000001", ["pair"], UsageError, "seed 4, .* would judge and be a surrogate"),
        ("abcd000000000001", ["five:1"], UsageError, "--evaluators names 1 model: must be 2 or more"),
        ("abcd000000000001", ["1,2"], UsageError, "'1,2' is no model or ensemble"),
        ("abcd000000000002", [], NothingToDoError, "was never judged; name --evaluators"),
    ],
)
def test_who_may_not_judge_stored_samples(attack, evaluators, error, message, store):
    """The attacked model, a surrogate, or fewer than two may not judge."""
    with pytest.raises(error, match=message):
        _judges(store, attack, *evaluators)


def test_models_are_described_by_their_name_or_seed(store):
    """People read a name where there is one, else the seed and the start of the uid."""
    with store.transaction() as session:
        (added, *_), (trained, *_) = (
            [each.attacked for each in find_roles(session, RoleRequest("five", attacked))]
            for attacked in ("mine", "2")
        )
    assert describe(added) == "mine"
    assert describe(trained) == f"seed 2, {trained.uid[:8]}"
