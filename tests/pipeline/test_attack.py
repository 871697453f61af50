"""The main job, end to end, in process."""

from dataclasses import fields, replace

import pytest

from jsdelta_db.compute.data import load
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.selection import CONFIGURATION_KEYS, DEFAULT_KEYS, Selection
from jsdelta_db.samples.choice import SampleChoice
from jsdelta_db.samples.pictures import read_pictures
from jsdelta_db.workbench.workbench import open_workbench
from tests.cli.calls import call, parse_table
from tests.reading import ask
from tests.workspaces import tiny_attacks, tiny_recipe


def test_called_again_finds_everything_and_does_no_work(tiny_copy):
    """A finished ensemble and a finished attack are found, not made again."""
    with open_workbench(tiny_copy) as bench:
        ensemble = train_ensemble(bench, tiny_recipe())
        again = attack_and_score(bench, tiny_attacks(3, 8))
    assert ensemble.trained == []
    assert again.worked_on == 0


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_chain_runs_on_both_engines(engine, workspace, request):
    """Train, attack, judge and query work alike on SQLite and PostgreSQL."""
    import dataclasses

    from jsdelta_db.store.migrate import upgrade

    if engine == "postgres":
        url = request.getfixturevalue("postgres_url")
        upgrade(url)
        workspace = dataclasses.replace(workspace, db_url=url)
    with open_workbench(workspace) as bench:
        train_ensemble(bench, tiny_recipe(members=2, epochs=2))
        attack_and_score(bench, tiny_attacks(8, images=20))
        with bench.store.reading() as connection:
            (row,) = query_bugs(connection, [0.1]).rows
    assert row["n_attempted"] + row["n_skipped"] == 20
    assert 0 <= row["n_bugs"] <= row["n_success"] <= row["n_attempted"]


def test_an_ensemble_of_the_same_members_can_be_attacked_and_queried(tiny_copy):
    """Another name for the same members has evaluations of its own, from the stored samples."""
    with open_workbench(tiny_copy) as bench:
        train_ensemble(bench, tiny_recipe(), name="twin")
        attack_and_score(bench, tiny_attacks(8), RoleRequest(ensemble="twin"))
        with bench.store.reading() as connection:
            (of_twin,) = query_bugs(
                connection, [0.1], selection=Selection(ensemble="twin", eps=(8 / 255,))
            ).rows
            (first,) = query_bugs(
                connection, [0.1], selection=Selection(ensemble="digits", eps=(8 / 255,))
            ).rows
    assert {**of_twin, "attacked_ensemble": "digits", "judged_by": "digits"} == first


def test_attacks_that_differ_in_the_device_asked_for_are_not_pooled(tiny_copy):
    """--device cpu is another attack than --device auto: each has a row of its own."""
    with open_workbench(tiny_copy) as bench:
        attack_and_score(bench, tiny_attacks(8, device="cpu"))
        with bench.store.reading() as connection:
            rows = query_bugs(connection, [0.1], selection=Selection(eps=(8 / 255,))).rows
    assert [row["device"] for row in rows] == ["auto", "cpu"]
    assert rows[0]["n_attempted"] == rows[1]["n_attempted"]


def test_every_setting_of_an_attack_is_told_apart_by_queries():
    """What makes another attack is a key of the queries: nothing is pooled unnoticed."""
    names = {"targets": "targets", "seed": "attack_seed"}
    # Whether somebody agreed to it is no part of an attack.
    settings = {names.get(field.name, field.name) for field in fields(AttackConfig)} - {"yes"}
    assert settings <= {*DEFAULT_KEYS, *CONFIGURATION_KEYS}


def test_whether_somebody_agreed_makes_no_other_attack():
    """--yes lets an attack start; a finished one is found with it and without."""
    first = AttackConfig(eps=0.1, targets="all")
    assert replace(first, yes=True).canonical() == first.canonical()


@pytest.mark.parametrize("split", ["train", "baseline"])
def test_attack_on_another_split_says_so_wherever_it_is_shown(tiny_copy, split, tmp_path, capsys):
    """A line when it starts; queries name the split, and the title of a figure of samples does."""
    arguments = ("attack", "--eps", "8", "--steps", "2", "--images", "20", "--split", split)
    code, out, err = call(capsys, tiny_copy, *arguments)
    assert code == 0, err
    assert f"all 20 images are of the {split} split" in err
    assert parse_table(out)[0]["split"] == split
    ((index,),) = ask(tiny_copy, "SELECT max(sample_index) FROM sample WHERE attack_id = 3")
    assert index in load("digits", tmp_path).splits[split].index
    with open_workbench(tiny_copy) as bench, bench.store.reading() as connection:
        rows = query_bugs(connection, [0.1], by=["eps"]).rows
    assert sorted({row["split"] for row in rows}) == sorted({"attack", split})
    title, _ = read_pictures(tiny_copy, SampleChoice(source=None), 1)
    assert f", {split} split, " in title
