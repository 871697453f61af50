"""Ensembles: members trained one by one or side by side, then their agreement measured."""

from collections.abc import Sequence
from itertools import combinations

from jsdelta_db.errors import STOPPING_ALL, JsdeltaError, TrainingError
from jsdelta_db.pipeline.ensembles.member import train_member
from jsdelta_db.pipeline.ensembles.plan import PlannedEnsemble
from jsdelta_db.pipeline.ensembles.side_by_side import train_side_by_side
from jsdelta_db.runtime.memory import release_variables
from jsdelta_db.store.constants import agreement_key
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.schema import FINISHED, Model, ModelMetric
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench


def train_members(bench: Workbench, planned: PlannedEnsemble, run: RunLog, jobs: int) -> list[Model]:
    """Train the members that are not finished; one that cannot be trained does not stop the others.

    Raises:
        TrainingError: after all were tried: some could not be trained; the others are stored.
    """
    if min(jobs, sum(row.status != FINISHED for row in planned.members)) > 1:
        outcomes = train_side_by_side(bench, planned, run, jobs)
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
    except STOPPING_ALL:
        raise
    except JsdeltaError as error:
        release_variables(error)
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


def measure_agreement(bench: Workbench, members: Sequence[LoadedModel], dataset_id: int) -> None:
    """Store the share of clean images on which each two members predict the same label.

    Args:
        members: opened on the data set of that id.
    """
    predicted = {model.row.id: model.logits("attack").argmax(1) for model in members}
    rows = []
    for one, other in combinations([model.row for model in members], 2):
        model_id, name = agreement_key((one.id, one.uid), (other.id, other.uid))
        same = float((predicted[one.id] == predicted[other.id]).mean())
        rows.append((model_id, dataset_id, "attack", name, "", 0.0, 0, same, len(predicted[one.id])))
    columns = ("model_id", "dataset_id", "split", "name", "norm", "eps", "steps", "value", "n")
    with bench.store.transaction() as session:
        insert_rows(session, ModelMetric, columns, rows)
