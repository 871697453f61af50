"""Attacks one by one, on both engines: judged, being judged, or not yet."""

import json

import pytest
from sqlalchemy import text

from jsdelta_db.errors import UnknownNameError
from jsdelta_db.queries.attacks import explain_no_attack, get_attack, query_attacks
from jsdelta_db.queries.selection import Selection
from jsdelta_db.store.reading import reading
from tests.stores import ENGINES, add_attack, add_dataset, add_evaluation, add_model, new_store


@pytest.fixture(scope="module", params=ENGINES)
def url(request, tmp_path_factory):
    """A store with three attacks on one model: judged twice; by somebody, being judged; without a judge."""
    by = {"name": "mine:push", "version": "1", "arguments": {"n": 2, "word": "7"}, "accept_eps": True}
    with new_store(request, tmp_path_factory.mktemp("store")) as opened:
        with opened.transaction() as session:
            dataset = add_dataset(session)
            models = [add_model(session, dataset, seed) for seed in (0, 1, 2)]
            attacks = [add_attack(session, models[0]) for _ in range(3)]
            attacks[1].attack_by = by
            attacks[1].eps = 8 / 255
            add_evaluation(session, attacks[0], models[1:])
            add_evaluation(session, attacks[0], models[2:])
            add_evaluation(session, attacks[1], models[1:]).status = "pending"
        address = opened.engine.url.render_as_string(hide_password=False)
        if opened.is_sqlite:
            with opened.reading() as connection:
                address = f"sqlite:///{connection.execute(text('PRAGMA database_list')).one()[2]}"
        yield address


@pytest.fixture
def reader(url):
    """Read the store as a command does."""
    with reading(url) as opened:
        yield opened


def test_every_attack_is_there(reader):
    """Without a judge, and with one that is not finished; what judged it stands beside its uid."""
    judged, called, bare = query_attacks(reader)
    assert [row["status"] for row in (judged, called)] == ["finished", "unfinished"]
    assert [len((row["evaluations"] or "").split()) for row in (judged, called, bare)] == [2, 1, 0]
    assert [each.count("@") for each in judged["evaluators"].split("; ")] == [2, 1]
    assert bare["evaluators"] is None
    assert json.loads(called["attack_by"])["arguments"] == {"n": 2, "word": "7"}
    assert called["command"].endswith(
        "--eps 8/255 --attack-by mine:push --set n=2 --set 'word=\"7\"' --accept-eps"
    )
    assert {type(row["random_start"]) for row in (judged, called, bare)} == {bool}


def test_conditions_hold_for_unfinished_attacks(reader):
    """A fact of the attack selects it whatever its state; one of the judges only where there are some."""
    uids = [row["attack"] for row in query_attacks(reader)]

    def find(**selection):
        return [uids.index(row["attack"]) for row in query_attacks(reader, Selection(**selection))]

    assert find(where="eps=8/255") == [1]
    assert find(where="attack_by=mine:push") == [1]
    assert find(where="n_evaluators=0") == [2]
    assert find(where="n_evaluators=1") == [0]
    assert find(uids=(uids[2],)) == [2]
    assert find(where="eps=5") == []
    assert explain_no_attack(reader, Selection(where="eps=5")).startswith("--where eps=5 leaves nothing")
    with pytest.raises(UnknownNameError):
        find(uids=("zz",))


def test_one_attack_goes_by_any_of_its_uids(reader):
    """Its own, or that of one of its evaluations."""
    judged, *_ = query_attacks(reader)
    for uid in (judged["attack"], *judged["evaluations"].split()):
        assert get_attack(reader, uid) == judged
