"""Train: an ensemble's members of one recipe, each once.

What is finished is answered from rows; torch and MLflow are loaded where there is work.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.config.checks import device_kind
from jsdelta_db.config.consent import give_consent
from jsdelta_db.config.names import check_name
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.config.training import check_architecture, check_method
from jsdelta_db.errors import UnknownNameError
from jsdelta_db.pipeline.ensembles.plan import StoredEnsemble, check_found, find_finished
from jsdelta_db.store.constants import ROBUST_ACCURACY
from jsdelta_db.store.schema import Model, ModelMetric
from jsdelta_db.workbench.datasets import find_row
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class TrainedEnsemble:
    """A finished ensemble and its members, in order.

    Attributes:
        trained: the seeds that were not there before.
        robust_accuracies: the members', under the data set's one attack; None where not measured.
    """

    name: str
    uid: str
    members: Sequence[Model]
    trained: Sequence[int]
    robust_accuracies: Sequence[float | None]


def train_ensemble(
    bench: Workbench,
    recipe: Recipe,
    *,
    seed: int = 0,
    name: str | None = None,
    download: bool = False,
    jobs: int = 1,
) -> TrainedEnsemble:
    """Train members with seeds ``seed``, ``seed`` + 1, …; finished members are found and reused.

    A member that was stopped goes on from its last epoch. How well the members do, clean and under the
    data set's one attack, and how far they agree is measured at the end.

    Args:
        name: of the ensemble; defaults to the recipe's, with what differs from it as written.
        download: fetch a data set that is missing.
        jobs: how many members to train at a time, each in a process of its own if more than one.

    Raises:
        UnknownNameError: no such data set, architecture or method.
        UsageError: another ensemble or model has the name.
        DataError: the data set's files are missing.
        CheckpointError: the weights of a finished member are missing or altered.
        TrainingError: a member cannot be trained; the others are trained.
    """
    check_training(recipe, name=name)
    ensemble, trained = _find_finished(bench, recipe, seed, name), list[int]()
    if ensemble is not None:
        check_found(bench, ensemble.members)
    else:
        from jsdelta_db.pipeline.ensembles.work import work_on

        ensemble, trained = work_on(bench, recipe, seed, name, download=download, jobs=jobs)
    with bench.store.read_session() as session:
        robust = _read_robust_accuracies(session, ensemble)
    return TrainedEnsemble(ensemble.row.name, ensemble.row.uid, ensemble.members, trained, robust)


def _find_finished(bench: Workbench, recipe: Recipe, seed: int, name: str | None) -> StoredEnsemble | None:
    with bench.store.read_session() as session:
        dataset = find_row(session, recipe.train.dataset)
    return None if dataset is None else find_finished(bench, recipe, seed, name, dataset)


def _read_robust_accuracies(session: Session, ensemble: StoredEnsemble) -> list[float | None]:
    """Return the members' robust accuracies under their data set's check, None where not measured."""
    members, check = ensemble.members, ensemble.check
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


def check_training(
    recipe: Recipe, known_datasets: Iterable[str] | None = None, *, name: str | None = None
) -> None:
    """Refuse a recipe that this machine and version cannot train, before anything is made.

    Args:
        known_datasets: names to hold the recipe's data set against; None leaves that to the opening.
        name: of the ensemble, if one is given.

    Raises:
        UnknownNameError, UsageError: no such data set, architecture, method or device, or no name.
    """
    if name is not None:
        check_name("--name", name)
    if known_datasets is not None and recipe.train.dataset not in known_datasets:
        raise UnknownNameError("dataset", recipe.train.dataset, known_datasets)
    for arch in recipe.archs or (recipe.train.arch,):
        give_consent(arch)  # by typing it
        check_architecture(arch)
        if ":" in arch:
            from jsdelta_db.compute.models.zoo import find_factory

            find_factory(arch)
    check_method(recipe.train.method)
    if device_kind(recipe.train.device) == "cuda":  # every machine has the others
        from jsdelta_db.runtime.devices import resolve_device

        resolve_device(recipe.train.device)
