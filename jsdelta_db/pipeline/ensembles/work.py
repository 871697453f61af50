"""Work on an ensemble: checked, planned, its members trained under one MLflow run, and measured."""

from collections.abc import Sequence
from dataclasses import replace

from jsdelta_db.compute.attacks import prepare
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.training import check_fresh
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.pipeline.ensembles.ensemble import measure_agreement, train_members
from jsdelta_db.pipeline.ensembles.plan import (
    PlannedEnsemble,
    StoredEnsemble,
    check_found,
    list_unfinished,
    plan_ensemble,
)
from jsdelta_db.store import runs
from jsdelta_db.store.schema import FINISHED, Ensemble, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.datasets import check_trainable, open_dataset
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench


def work_on(
    bench: Workbench, recipe: Recipe, seed: int, name: str | None, *, download: bool, jobs: int
) -> tuple[StoredEnsemble, list[int]]:
    """Train the members that are not finished, and measure the ensemble.

    Returns:
        The finished ensemble, and the seeds that were not there before.

    Raises:
        JsdeltaError: see :func:`jsdelta_db.pipeline.train.train_ensemble`.
    """
    dataset, dataset_row = open_dataset(bench, recipe.train.dataset, download=download)
    check_trainable(dataset)
    _check_networks(bench, recipe, seed, dataset, dataset_row)
    planned = plan_ensemble(bench, recipe, seed, name, dataset, dataset_row)
    check_found(bench, planned.members)
    to_train = [row.seed for row in planned.members if row.status != FINISHED]
    if planned.row.status != FINISHED:
        planned = _train(bench, planned, seed, dataset_row, jobs)
    return planned, to_train


def _train(
    bench: Workbench, planned: PlannedEnsemble, seed: int, dataset_row: DatasetRow, jobs: int
) -> PlannedEnsemble:
    """Train and measure under a run of the ensemble's own."""
    ensemble, recipe, dataset = planned.row, planned.recipe, planned.dataset
    config = recipe.train
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
    return replace(planned, members=members)


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
