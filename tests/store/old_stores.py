"""Stores of past releases, and Alembic run on an engine, for the tests of migrations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from jsdelta_db.store.migrate import alembic_config


def run(engine: Engine, alembic_command, *arguments: str) -> None:
    """Run one of Alembic's commands in a transaction."""
    with engine.connect().execution_options(jsdelta_write=True) as connection, connection.begin():
        alembic_command(alembic_config(connection), *arguments)


@dataclass(frozen=True)
class OldStore:
    """A store that a past revision wrote, and what has come since.

    Attributes:
        rows: of model, attack, sample and score.
        columns: that later revisions added, with what was true of the old rows.
        in_view: columns that the view has got since.
    """

    revision: str
    rows: tuple[int, int, int, int]
    columns: Mapping[str, Mapping[str, object]]
    in_view: tuple[str, ...]

    @property
    def file(self) -> Path:
        """Where it is committed."""
        return Path(__file__).parents[1] / "data" / f"store-{self.revision}.db"


NEW_TABLES = {"image_count", "score_segment"}  # since the oldest; made from others
IN_VIEW_SINCE_0006 = (
    "split", "images", "attack_seed", "targets", "steps", "step_size", "restarts", "random_start", "stop",
    "device", "dtype", "library_version", "attack_by", "trained_on", "recipe_name", "recipe", "attacked",
    "judged_by", "n_evaluators", "requested_target", "n_right", "n_right_adv", "n_at_target",
    "n_at_target_adv", "js_of_mean", "linf", "l2",
)  # fmt: skip
IN_VIEW_SINCE_0002 = ("outside", *IN_VIEW_SINCE_0006)
IN_VIEW_SINCE_0001 = (
    "js_attacked", "stability", "objective", "library", "temperature", *IN_VIEW_SINCE_0002,
)  # fmt: skip
SINCE_0006: Mapping[str, Mapping[str, object]] = {
    "score": {"n_right_adv": None, "js_of_mean_without": None},
    "evaluation_baseline": {"rho_of_mean_without": None},
}
SINCE_0005: Mapping[str, Mapping[str, object]] = {
    **SINCE_0006,
    "attack": {"attack_by": None},
    "attack_chunk": {"forward_passes": None, "backward_passes": None},
    "sample": {"outside": None},
}
SINCE_0004: Mapping[str, Mapping[str, object]] = {
    **SINCE_0005,
    "model": {"card": None},
    "attack_chunk": {"card": None, "sub_batch": None, **SINCE_0005["attack_chunk"]},
    "evaluation_chunk": {"card": None, "sub_batch": None},
}
SINCE_0003: Mapping[str, Mapping[str, object]] = {
    **SINCE_0004,
    "attack": {"image_keys": None, "prepared_as": None, **SINCE_0005["attack"]},
    "attack_chunk": {"digest": None, **SINCE_0004["attack_chunk"]},
    "evaluation_chunk": {"digest": None, **SINCE_0004["evaluation_chunk"]},
    "rho_baseline": {"digest": None},
}
SINCE_0001: Mapping[str, Mapping[str, object]] = {
    **SINCE_0003,
    "model": {"name": None, **SINCE_0004["model"]},
    "attack": {"keeps_samples": 1, **SINCE_0003["attack"]},
}
OLD_STORES = (
    OldStore("0001", (2, 1, 19, 19), SINCE_0001, IN_VIEW_SINCE_0001),
    OldStore("0002", (2, 1, 171, 171), SINCE_0003, IN_VIEW_SINCE_0002),
    OldStore("0003", (2, 1, 171, 171), SINCE_0003, IN_VIEW_SINCE_0002),
    OldStore("0004", (2, 1, 171, 171), SINCE_0004, IN_VIEW_SINCE_0002),
    OldStore("0005", (2, 1, 171, 171), SINCE_0005, IN_VIEW_SINCE_0002),
    OldStore("0006", (2, 1, 171, 171), SINCE_0006, IN_VIEW_SINCE_0006),
)
