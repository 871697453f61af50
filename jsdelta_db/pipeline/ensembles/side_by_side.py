"""Members trained side by side, each in a process of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import JsdeltaError
from jsdelta_db.pipeline.ensembles.member import train_member
from jsdelta_db.pipeline.ensembles.plan import PlannedEnsemble
from jsdelta_db.store.schema import FINISHED, Model
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.datasets import open_dataset
from jsdelta_db.workbench.processes import run_side_by_side
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class _Member:
    """One member to train."""

    model_id: int
    config: TrainConfig


@dataclass(frozen=True, slots=True)
class _TrainMembers:
    """The job of a worker: members of one ensemble, logged under one run."""

    dataset: str
    check: AttackConfig | None
    run_id: str | None
    folder: Path

    def prepare(self, bench: Workbench) -> Callable[[_Member], None]:
        """Open the data set and the ensemble's run, and return the function that trains a member."""
        dataset, _ = open_dataset(bench, self.dataset)
        parent = bench.tracker.reattach(self.run_id, self.folder)

        def train(member: _Member) -> None:
            with bench.store.read_session() as session:
                row = session.get_one(Model, member.model_id)
            train_member(bench, row, dataset, member.config, parent, self.check)

        return train


def train_side_by_side(
    bench: Workbench, planned: PlannedEnsemble, run: RunLog, jobs: int
) -> list[Model | JsdeltaError]:
    """Train members in worker processes.

    Returns:
        In the members' order, each one's row or why it could not be trained.
    """
    rows, recipe = planned.members, planned.recipe
    members = {
        position: _Member(row.id, recipe.of_member(position))
        for position, row in enumerate(rows)
        if row.status != FINISHED
    }
    job = _TrainMembers(recipe.train.dataset, planned.check, run.run_id, run.folder)
    errors = run_side_by_side(bench, job, members, jobs)
    with bench.store.read_session() as session:
        done = [session.get_one(Model, row.id) for row in rows]
    return [errors.get(position, row) for position, row in enumerate(done)]
