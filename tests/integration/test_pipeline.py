"""The main job, end to end, in process."""

import pytest

from jsdelta_db.pipeline import attack_and_score, train_ensemble
from jsdelta_db.store.queries import query_bugs
from jsdelta_db.workbench import open_workbench
from tests.conftest import tiny_attacks, tiny_recipe


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
