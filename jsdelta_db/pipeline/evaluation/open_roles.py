"""Open roles: the models that take part, in use on one data set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jsdelta_db.compute.data import Dataset
from jsdelta_db.pipeline.evaluation.roles import Roles, common_dataset
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.store.schema import Model
from jsdelta_db.workbench.model_files import check_weights
from jsdelta_db.workbench.models import LoadedModel, open_models
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class OpenRoles:
    """The models of some roles in use, on one data set.

    Attributes:
        dataset, dataset_row: the data set, nobody's child, whose held-out images the models are asked about.
        load: opens another model on it, each once.
    """

    bench: Workbench
    rows: Roles
    dataset: Dataset
    dataset_row: DatasetRow
    attacked: LoadedModel
    evaluators: Sequence[LoadedModel]
    surrogates: Sequence[LoadedModel]
    load: Callable[[Model], LoadedModel]


def open_roles(bench: Workbench, found: Sequence[Roles], device: str) -> list[OpenRoles]:
    """Open the one data set that some roles are for, and their models, each once.

    Raises:
        UsageError: they are for several data sets, or the data set is not the one that was trained on.
        DataError: the data set's files are missing.
    """
    with bench.store.read_session() as session:
        dataset_row = common_dataset(session, found)
    dataset, load = open_models(bench, dataset_row, device)
    return [
        OpenRoles(
            bench, roles, dataset, dataset_row, load(roles.attacked),
            [load(row) for row in roles.evaluators], [load(row) for row in roles.surrogates], load,
        )
        for roles in found
    ]  # fmt: skip


def check_models(roles: OpenRoles, split: str) -> None:
    """Run the preflight checks before an attack is planned.

    Raises:
        ModelError: outputs, gradients or a checkpoint cannot be used.
    """
    roles.attacked.check_gradients(split)
    for model in (*roles.rows.evaluators, *roles.rows.surrogates):
        check_weights(roles.bench.workspace, model)
    roles.attacked.logits("baseline")  # stored of every model: it may judge others without being loaded
