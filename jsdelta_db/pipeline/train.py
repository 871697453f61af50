"""Train: an ensemble's members of one recipe, each once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jsdelta_db.compute.attacks import prepare
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.zoo import find_factory
from jsdelta_db.compute.training import check_fresh, find_method
from jsdelta_db.config.consent import give_consent
from jsdelta_db.config.names import check_name
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import UnknownNameError
from jsdelta_db.pipeline.ensembles.ensemble import measure_agreement, read_robust_accuracies, train_members
from jsdelta_db.pipeline.ensembles.plan import PlannedEnsemble, list_unfinished, plan_ensemble
from jsdelta_db.runtime.devices import resolve_device
from jsdelta_db.runtime.files import RESTORE, read_verified
from jsdelta_db.store import runs
from jsdelta_db.store.schema import FINISHED, Ensemble, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.datasets import check_trainable, open_dataset
from jsdelta_db.workbench.models import LoadedModel
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
    config = recipe.train
    dataset, dataset_row = open_dataset(bench, config.dataset, download=download)
    check_trainable(dataset)
    _check_networks(bench, recipe, seed, dataset, dataset_row)
    planned = plan_ensemble(bench, recipe, seed, name, dataset, dataset_row)
    ensemble, to_train = planned.row, [row.seed for row in planned.members if row.status != FINISHED]
    members: Sequence[Model] = planned.members
    _check_files(bench, members)
    if ensemble.status != FINISHED:
        run = bench.tracker.start(
            f"train {ensemble.name}", uid=ensemble.uid,
            params={"recipe": recipe.name, "members": recipe.members, "first_seed": seed,
                    "method": config.method, "arch": ", ".join(recipe.archs) or config.arch,
                    "dataset": config.dataset, "epochs": config.epochs},
        )  # fmt: skip
        with run.closing():
            run.dataset(name=dataset.name, digest=dataset_row.uid, source=dataset.name, context="training")
            members = train_members(bench, planned, run, jobs)
            _measure_agreement(bench, planned, members)
            if _finish(bench, ensemble, run):
                for member in members:
                    run.metrics({"clean_accuracy": member.clean_accuracy}, step=member.seed)
    with bench.store.read_session() as session:
        robust = read_robust_accuracies(session, members, planned.check)
    return TrainedEnsemble(ensemble.name, ensemble.uid, members, to_train, robust)


def _check_files(bench: Workbench, members: Iterable[Model]) -> None:
    """Check that the weights of members that are found, not trained, are there and whole.

    Raises:
        CheckpointError: names the first that are not.
    """
    for row in members:
        if row.status == FINISHED:
            again = f"jsdelta db delete {row.uid} --cascade, then train member seed {row.seed} again"
            read_verified(
                bench.locate(row.checkpoint_uri or ""), row.checkpoint_sha256, f"{RESTORE}, or {again}"
            )


def _measure_agreement(bench: Workbench, planned: PlannedEnsemble, members: Sequence[Model]) -> None:
    device, root_id = bench.device(planned.recipe.train.device), planned.root.id
    opened = [LoadedModel(bench, row, planned.dataset, root_id, device) for row in members]
    measure_agreement(bench, opened, root_id)


def _finish(bench: Workbench, ensemble: Ensemble, run: RunLog) -> bool:
    """Mark an ensemble finished; return whether no other process had: then its results are ours to log."""
    with bench.store.transaction() as session:
        runs.serialize(session, f"end of {ensemble.uid}")
        done = session.get_one(Ensemble, ensemble.id)
        if done.status == FINISHED:
            return False
        done.finished_at, done.mlflow_run_id = runs.now(), run.logged_id
        runs.leave(done, FINISHED)
    return True


def _check_networks(
    bench: Workbench, recipe: Recipe, seed: int, dataset: Dataset, dataset_row: DatasetRow
) -> None:
    """Look at a fresh network of each architecture that is to be trained, as ``attack`` does.

    Raises:
        UsageError, ModelError: see :func:`jsdelta_db.compute.training.check_fresh`.
    """
    with bench.store.read_session() as session:
        positions = list_unfinished(session, recipe, seed, dataset_row)
    first: dict[TrainConfig, int] = {}
    for position in positions:
        first.setdefault(recipe.of_member(position), seed + position)
    for config, first_seed in first.items():
        device = bench.device(config.device)
        fresh = check_fresh(config, dataset, first_seed, device)
        images = probe_images(dataset.splits["baseline"], device)
        note = prepare(fresh.network, images, fresh.dtype).note
        if note is not None:
            bench.progress.report(f"architecture {config.arch}: {note}")


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
        find_factory(arch)
    find_method(recipe.train.method)
    resolve_device(recipe.train.device)
