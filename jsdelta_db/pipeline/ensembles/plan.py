"""Plans of ensembles: rows of the ensemble and its members, found or made."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.attack import ROBUST_CHECKS, AttackConfig
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.pipeline.ensembles.naming import choose_name, ensemble_key, member_key
from jsdelta_db.store import runs
from jsdelta_db.store.schema import FINISHED, Ensemble, EnsembleMember, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import root_of
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class PlannedEnsemble:
    """An ensemble's row and its members' rows in order, with their recipe and data.

    Attributes:
        root: the builtin data set whose held-out images the members are measured on.
    """

    row: Ensemble
    members: Sequence[Model]
    recipe: Recipe
    dataset: Dataset
    root: DatasetRow
    check: AttackConfig | None


def plan_ensemble(
    bench: Workbench, recipe: Recipe, seed: int, name: str | None, dataset: Dataset, dataset_row: DatasetRow
) -> PlannedEnsemble:
    """Find or make the rows of an ensemble and of its members.

    Raises:
        UsageError: another ensemble or model has the name.
    """
    with bench.store.read_session() as session:
        name = choose_name(session, recipe, seed, dataset_row, name, bench.progress.report)
    members = [_plan_member(bench, dataset_row, recipe, position, seed) for position in range(recipe.members)]
    key = ensemble_key(name, [row.uid for row in members])
    with bench.store.transaction() as session:
        row = runs.find_or_create(
            session, Ensemble, key, lambda: Ensemble(name=name, dataset_id=dataset_row.id)
        )
        for position, member in enumerate(members):
            session.merge(EnsembleMember(ensemble_id=row.id, position=position, model_id=member.id))
        root = root_of(session, dataset_row)
    return PlannedEnsemble(row, members, recipe, dataset, root, ROBUST_CHECKS.get(root.name))


def list_unfinished(session: Session, recipe: Recipe, seed: int, dataset_row: DatasetRow) -> list[int]:
    """Return the positions of an ensemble's members that are to be trained, before any row is made."""
    keys = [
        member_key(recipe.of_member(position), seed + position, dataset_row)
        for position in range(recipe.members)
    ]
    rows = [runs.find_run(session, Model, key) for key in keys]
    return [position for position, row in enumerate(rows) if row is None or row.status != FINISHED]


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
