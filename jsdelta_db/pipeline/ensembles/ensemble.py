"""Around an ensemble's training: name and rows, members one by one or side by side, their agreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.attack import ROBUST_CHECKS, AttackConfig
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.errors import JsdeltaError, ModelError, TrainingError
from jsdelta_db.pipeline.ensembles.member import plan_member, train_member
from jsdelta_db.pipeline.ensembles.side_by_side import train_side_by_side
from jsdelta_db.runtime.devices import resolve_device
from jsdelta_db.store import runs
from jsdelta_db.store.constants import ROBUST_ACCURACY, agreement_key
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.schema import FINISHED, Ensemble, EnsembleMember, Model, ModelMetric
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.datasets import root_of
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class PlannedEnsemble:
    """An ensemble's row, its members' rows in order, and what they are trained and measured by.

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
    bench: Workbench, recipe: Recipe, seed: int, name: str, dataset: Dataset, dataset_row: DatasetRow
) -> PlannedEnsemble:
    """Find or make the rows of an ensemble and of its members."""
    members = [
        plan_member(
            bench, dataset_id=dataset_row.id, dataset_uid=dataset_row.uid, recipe_name=recipe.name,
            config=recipe.of_member(position), seed=seed + position,
        )
        for position in range(recipe.members)
    ]  # fmt: skip
    key = config_hash({"kind": "ensemble", "name": name}, [row.uid for row in members])
    with bench.store.transaction() as session:
        row = runs.find_or_create(
            session, Ensemble, key, lambda: Ensemble(name=name, dataset_id=dataset_row.id)
        )
        for position, member in enumerate(members):
            session.merge(EnsembleMember(ensemble_id=row.id, position=position, model_id=member.id))
        root = root_of(session, dataset_row)
    return PlannedEnsemble(row, members, recipe, dataset, root, ROBUST_CHECKS.get(root.name))


def default_name(recipe: Recipe, seed: int, dataset_row: DatasetRow) -> str:
    """Return what an ensemble is called that was given no name."""
    mixed = "-mixed" if recipe.is_mixed else ""
    trained_on = f"-on-{dataset_row.name}" if dataset_row.parent_id is not None else ""
    return f"{recipe.name}{mixed}{trained_on}{f'-seed{seed}' if seed else ''}"


def train_members(bench: Workbench, planned: PlannedEnsemble, run: RunLog, jobs: int) -> list[Model]:
    """Train the members that are not finished; one that cannot be trained does not stop the others.

    Raises:
        TrainingError: after all were tried: some could not be trained; the others are kept.
    """
    if min(jobs, sum(row.status != FINISHED for row in planned.members)) > 1:
        outcomes = train_side_by_side(
            bench, planned.members, planned.recipe, planned.check, run, jobs
        )  # fmt: skip
    else:
        outcomes = [_try_to_train(bench, planned, position, run) for position in range(len(planned.members))]
    _report_failures(planned.members, outcomes)
    return [each for each in outcomes if isinstance(each, Model)]


def _try_to_train(
    bench: Workbench, planned: PlannedEnsemble, position: int, run: RunLog
) -> Model | JsdeltaError:
    row, config = planned.members[position], planned.recipe.of_member(position)
    try:
        return train_member(bench, row, planned.dataset, config, run, planned.check)
    except (TrainingError, ModelError) as error:
        return error


def _report_failures(rows: Sequence[Model], outcomes: Sequence[Model | JsdeltaError]) -> None:
    failed = [
        (row.seed, outcome)
        for row, outcome in zip(rows, outcomes, strict=True)
        if not isinstance(outcome, Model)
    ]
    if not failed:
        return
    seed, error = failed[0]
    more = f" (and seed {', '.join(str(other) for other, _ in failed[1:])})" if failed[1:] else ""
    kept = len(rows) - len(failed)
    others = f"the other {kept} members are kept" if kept != 1 else "the other member is kept"
    raise TrainingError(
        f"member seed {seed} failed{more}: {error}" + (f"; {others}" if kept else "")
    ) from error


def measure_ensemble(bench: Workbench, planned: PlannedEnsemble, members: Sequence[Model]) -> None:
    """Store on how many clean images each two members say the same label."""
    device = resolve_device(planned.recipe.train.device)
    dataset_id = planned.root.id
    said = {
        row.id: LoadedModel(bench, row, planned.dataset, dataset_id, device).logits("attack").argmax(1)
        for row in members
    }
    rows = []
    for one, other in combinations(members, 2):
        model_id, name = agreement_key((one.id, one.uid), (other.id, other.uid))
        same = float((said[one.id] == said[other.id]).mean())
        rows.append((model_id, dataset_id, "attack", name, "", 0.0, 0, same, len(said[one.id])))
    columns = ("model_id", "dataset_id", "split", "name", "norm", "eps", "steps", "value", "n")
    with bench.store.transaction() as session:
        insert_rows(session, ModelMetric, columns, rows)


def read_robust_accuracies(
    session: Session, members: Sequence[Model], check: AttackConfig | None
) -> list[float | None]:
    """Return the members' robust accuracies under a data set's check, None where not measured."""
    if check is None:
        return [None] * len(members)
    statement = select(ModelMetric.model_id, ModelMetric.value).where(
        ModelMetric.model_id.in_([member.id for member in members]),
        ModelMetric.split == "attack",
        ModelMetric.name == ROBUST_ACCURACY,
        ModelMetric.norm == check.norm,
        ModelMetric.eps == check.eps,
        ModelMetric.steps == check.steps,
    )
    found = {row.model_id: row.value for row in session.execute(statement)}
    return [found.get(member.id) for member in members]
