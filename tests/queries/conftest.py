"""Fixtures of the queries' tests."""

import shutil

import pytest

from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.store.creating import open_for_writing
from tests.queries.bench import ROWS, Bench
from tests.workspaces import copy_files, tiny_attacks, workspace_at


@pytest.fixture
def store(tmp_path, empty_store):
    """An empty SQLite store."""
    shutil.copy(empty_store, tmp_path / "jsdelta.db")
    opened = open_for_writing(f"sqlite:///{tmp_path / 'jsdelta.db'}")
    yield opened
    opened.close()


@pytest.fixture
def two_ensembles(store):
    """Two ensembles of different data sets and methods, each attacked at two ε."""
    benches = (
        Bench(store, dataset="toy", ensemble="plain", method="standard"),
        Bench(store, dataset="other", ensemble="flat", method="sam"),
    )
    return {
        bench.ensemble.name: (bench, [bench.judge(ROWS, eps=level / 255) for level in (3, 8)])
        for bench in benches
    }


@pytest.fixture(scope="session")
def each_other(four, made_once):
    """A workspace on digits whose four members were each attacked, two targets an image, and judge each other."""

    def make(folder) -> None:
        from jsdelta_db.pipeline.attack import attack_and_score
        from jsdelta_db.workbench.workbench import open_workbench

        copy_files(four.root, folder)
        attacks = [
            each
            for target in ("next", "least-likely")
            for each in tiny_attacks(5, 8, images=40, targets=target)
        ]
        with open_workbench(workspace_at(folder)) as bench:
            attack_and_score(bench, attacks, RoleRequest(ensemble="four", attacked="all"))

    return workspace_at(made_once("each-other", make))
