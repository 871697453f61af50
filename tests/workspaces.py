"""Small workspaces: a recipe and attacks that take a second, and copies to change."""

import base64
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.locations import Workspace
from jsdelta_db.runtime.progress import Silent
from jsdelta_db.workbench import workbench

TINY_STEPS = 10
DRAWING = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABAQAAAAA3bvkkAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg=="
)  # of one pixel: drawings have tests of their own


def tiny_recipe(**changes):
    """Three members that learn just enough for attacks to have something to break."""
    from jsdelta_db.config.recipes import get_recipe

    recipe = get_recipe("digits").override(**{"members": 3, "epochs": 3, **changes})
    return replace(recipe, written=recipe.train)  # as if it were written so: the ensemble is ``digits``


def tiny_attacks(*levels: int, **changes) -> list[AttackConfig]:
    """Short attacks on few images."""
    settings = {"steps": TINY_STEPS, "images": 60, **changes}
    return [AttackConfig(eps=level / 255, **settings) for level in levels]


def workspace_at(root: Path) -> Workspace:
    """Return a workspace with a store of its own, whatever the environment says."""
    return Workspace(root, f"sqlite:///{root / 'jsdelta.db'}", None, root / "data")


def copy_of(workspace: Workspace, root: Path) -> Workspace:
    """Copy a finished workspace to where a test may change it."""
    copy_files(workspace.root, root)
    return workspace_at(root)


def copy_files(source: Path, root: Path) -> None:
    """Copy a workspace's files while others may read its store: SQLite's log comes and goes beside it."""
    shutil.copytree(source, root, ignore=shutil.ignore_patterns("jsdelta.db*"), dirs_exist_ok=True)
    if (source / "jsdelta.db").exists():
        with (
            closing(sqlite3.connect(source / "jsdelta.db")) as store,
            closing(sqlite3.connect(root / "jsdelta.db")) as copy,
        ):
            store.backup(copy)


class Listening(Silent):
    """Keeps what the pipeline says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def report(self, message: str) -> None:
        """Keep one line."""
        self.lines.append(message)


def in_chunks_of(size: int, patch: pytest.MonkeyPatch) -> None:
    """Let commands that run in this process plan attacks in chunks of a few attempts."""
    patch.setattr(workbench, "open_workbench", partial(workbench.open_workbench, chunk_size=size))
