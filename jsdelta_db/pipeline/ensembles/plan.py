"""Plans of ensembles: rows of the ensemble and its members, found or made; neither needs images or torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.attack import ROBUST_CHECKS, AttackConfig
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.pipeline.ensembles.naming import choose_name, ensemble_key, member_key
from jsdelta_db.runtime.files import RESTORE
from jsdelta_db.store import runs
from jsdelta_db.store.schema import FINISHED, Ensemble, EnsembleMember, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import root_of
from jsdelta_db.workbench.model_files import check_weights
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class StoredEnsemble:
    """An ensemble's row and its members' rows in order.

    Attributes:
        root: the data set, nobody's child, whose held-out images the members are measured on.
    """

    row: Ensemble
    members: Sequence[Model]
    root: DatasetRow

    @property
    def check(self) -> AttackConfig | None:
        """The attack that measures the members' robust accuracy; None for none."""
        return ROBUST_CHECKS.get(self.root.name)


@dataclass(frozen=True, slots=True)
class PlannedEnsemble(StoredEnsemble):
    """An ensemble to work on, with its recipe and data."""

    recipe: Recipe
    dataset: Dataset


def find_finished(
    bench: Workbench, recipe: Recipe, seed: int, name: str | None, dataset: DatasetRow
) -> StoredEnsemble | None:
    """Return an ensemble that is finished under the name that it would get, None if there is none.

    Raises:
        UsageError: another ensemble or model has the name.
    """
    with bench.store.read_session() as session:
        if list_unfinished(session, recipe, seed, dataset):
            return None
        chosen, remark = choose_name(session, recipe, seed, dataset, name)
        members = [each for each in _find_members(session, recipe, seed, dataset) if each is not None]
        row = runs.find_run(session, Ensemble, ensemble_key(chosen, [each.uid for each in members]))
        if row is None or row.status != FINISHED:
            return None
        root = root_of(session, dataset)
    if remark is not None:
        bench.progress.report(remark)
    return StoredEnsemble(row, members, root)


def plan_ensemble(
    bench: Workbench, recipe: Recipe, seed: int, name: str | None, dataset: Dataset, dataset_row: DatasetRow
) -> PlannedEnsemble:
    """Find or make the rows of an ensemble and of its members.

    Raises:
        UsageError: another ensemble or model has the name.
    """
    with bench.store.read_session() as session:
        chosen, remark = choose_name(session, recipe, seed, dataset_row, name)
    if remark is not None:
        bench.progress.report(remark)
    members = [_plan_member(bench, dataset_row, recipe, position, seed) for position in range(recipe.members)]
    key = ensemble_key(chosen, [row.uid for row in members])
    with bench.store.transaction() as session:
        row = runs.find_or_create(
            session, Ensemble, key, lambda: Ensemble(name=chosen, dataset_id=dataset_row.id)
        )
        for position, member in enumerate(members):
            session.merge(EnsembleMember(ensemble_id=row.id, position=position, model_id=member.id))
        root = root_of(session, dataset_row)
    return PlannedEnsemble(row, members, root, recipe, dataset)


def list_unfinished(session: Session, recipe: Recipe, seed: int, dataset: DatasetRow) -> list[int]:
    """Return the positions of an ensemble's members that are to be trained, before any row is made."""
    rows = _find_members(session, recipe, seed, dataset)
    return [position for position, row in enumerate(rows) if row is None or row.status != FINISHED]


def _find_members(session: Session, recipe: Recipe, seed: int, dataset: DatasetRow) -> list[Model | None]:
    keys = [
        member_key(recipe.of_member(position), seed + position, dataset) for position in range(recipe.members)
    ]
    return [runs.find_run(session, Model, key) for key in keys]


def check_found(bench: Workbench, members: Sequence[Model]) -> None:
    """Check that the weights of members that are found, not trained, are there and whole.

    Raises:
        CheckpointError: names the first that are not.
    """
    for row in members:
        if row.status == FINISHED:
            again = f"jsdelta db delete {row.uid} --cascade, then train member seed {row.seed} again"
            check_weights(bench.workspace, row, f"{RESTORE}, or {again}")


def _plan_member(
    bench: Workbench, dataset: DatasetRow, recipe: Recipe, position: int, first_seed: int
) -> Model:
    """Find or make the row of one configuration and seed; a finished one is shared by every ensemble."""
    config, seed = recipe.of_member(position), first_seed + position
    key = member_key(config, seed, dataset)
    with bench.store.transaction() as session:
        return runs.find_or_create(
            session,
            Model,
            key,
            lambda: Model(
                dataset_id=dataset.id, recipe_name=recipe.name, recipe=config.as_recipe(),
                architecture=config.arch, method=config.method, seed=seed,
            ),
        )  # fmt: skip
