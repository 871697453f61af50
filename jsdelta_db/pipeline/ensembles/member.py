"""Members: each trained once, its checkpoint and its measurements stored."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from jsdelta_db.compute.attacks.robust import robust_accuracy
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models import build_model, save_checkpoint
from jsdelta_db.compute.training import (
    EpochMetrics,
    OverfittingWatch,
    Training,
    TrainingState,
    accuracy,
    check_fresh,
    explaining_failures,
    train,
)
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import JsdeltaError, TrainingError, UsageError
from jsdelta_db.pipeline.ensembles.resume_file import ResumeFile, StoppedTraining
from jsdelta_db.runtime.devices import dtype_name, resolve_device, resolve_dtype
from jsdelta_db.runtime.files import write_atomically
from jsdelta_db.store import runs
from jsdelta_db.store.constants import ROBUST_ACCURACY
from jsdelta_db.store.schema import FAILED, FINISHED, Model, ModelMetric
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.claims import claim_or_wait
from jsdelta_db.workbench.datasets import root_of
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class _Member:
    """A member that this process trains.

    Attributes:
        file: where the state of the training is saved after each epoch.
    """

    bench: Workbench
    row: Model
    training: Training
    file: ResumeFile

    @property
    def title(self) -> str:
        """Name for people and for MLflow."""
        return f"member seed {self.row.seed}"


@dataclass(frozen=True, slots=True)
class _Measured:
    """Accuracies on the held-out images, clean and under the data set's one attack."""

    clean_accuracy: float
    n_images: int
    check: AttackConfig | None
    robust_accuracy: float | None = None
    n_checked: int = 0


def train_member(
    bench: Workbench,
    row: Model,
    dataset: Dataset,
    config: TrainConfig,
    parent: RunLog,
    check: AttackConfig | None = None,
) -> Model:
    """Train a member, unless it is finished or another process finishes it first.

    A stopped training goes on from its last epoch. Files come before rows: a checkpoint without its row is
    written again.

    Args:
        check: the attack that measures robust accuracy; None for none.

    Raises:
        JsdeltaError: the member is marked failed; others are not touched.
    """
    claimed = claim_or_wait(bench, row, f"member seed {row.seed} is being trained by")
    if claimed.status == FINISHED:
        return claimed
    with _marking_failed(bench, row):
        device = resolve_device(config.device)
        dtype = _settle_dtype(bench, claimed, dataset, config, device)
        training = Training(dataset, config, row.seed, device, dtype)
        member = _Member(bench, row, training, ResumeFile(bench.workspace, row))
        network = build_model(config.arch, dataset, width=config.width, seed=row.seed)
        stopped = _read_stopped(member, network)
        run = _open_run(member, parent, stopped)
        with run.closing():
            _train_and_save(member, network, stopped, run, check)
    member.file.remove()
    with bench.store.transaction() as session:
        done = session.get_one(Model, row.id)
        # Closing the run may have failed, too: a repair looks for rows without an id.
        done.mlflow_run_id = run.logged_id
    return done


@contextmanager
def _marking_failed(bench: Workbench, row: Model) -> Iterator[None]:
    try:
        yield
    except JsdeltaError:
        with bench.store.transaction() as session:
            runs.leave(session.get_one(Model, row.id), FAILED)
        raise


def _settle_dtype(
    bench: Workbench, row: Model, dataset: Dataset, config: TrainConfig, device: torch.device
) -> torch.dtype:
    """Return the dtype of a training: decided before its first step, and the row's whenever it goes on.

    Raises:
        TrainingError: it was begun in one that this machine lacks.
        ModelError: see :func:`jsdelta_db.compute.training.check_fresh`.
    """
    if row.dtype is None:
        dtype = check_fresh(config, dataset, row.seed, device).dtype
        with bench.store.transaction() as session:
            session.get_one(Model, row.id).dtype = dtype_name(dtype)
        return dtype
    try:
        return resolve_dtype(row.dtype, device)
    except UsageError as error:
        raise TrainingError(
            f"it was begun in {row.dtype}, which this {device.type} lacks; go on with it where it was begun, "
            "or train with another --seed"
        ) from error


def _read_stopped(member: _Member, network: nn.Module) -> StoppedTraining | None:
    """Return the state of a stopped training of this member, if it can be used."""
    try:
        stopped = member.file.read()
        if stopped is None:
            return None
        is_of_its_dtype = stopped.dtype in (None, dtype_name(member.training.dtype))
        if is_of_its_dtype and TrainingState(stopped.content).fits(network):
            return stopped
    except (ValueError, KeyError, TypeError, RuntimeError, EOFError, UnpicklingError):
        pass  # damaged, of another training or of another version: all the same here
    member.bench.progress.report(
        f"{member.title}: the state of its training cannot be used ({member.file.path}); it starts anew"
    )
    return None


def _open_run(member: _Member, parent: RunLog, stopped: StoppedTraining | None) -> RunLog:
    """Go on with the MLflow run of the training that was stopped, or start one."""
    bench, training = member.bench, member.training
    if stopped is not None and stopped.run_id is not None:
        return bench.tracker.reopen(stopped.run_id, bench.locate(stopped.folder), parent)
    run = bench.tracker.start(
        member.title, uid=member.row.uid, parent=parent,
        params={
            **asdict(training.config), "seed": member.row.seed,
            "resolved_device": training.device.type, "resolved_dtype": dtype_name(training.dtype),
        },
    )  # fmt: skip
    dataset = training.dataset
    digest = dataset.fingerprint()[:16]
    run.dataset(name=dataset.name, digest=digest, source=dataset.name, context="training")
    for epoch in TrainingState(stopped.content).history if stopped else []:
        _log_epoch(run, epoch)
    return run


def _log_epoch(run: RunLog, metrics: EpochMetrics) -> None:
    values = asdict(metrics)
    epoch = values.pop("epoch")
    run.metrics(values, step=epoch)


def _train_and_save(
    member: _Member,
    network: nn.Module,
    stopped: StoppedTraining | None,
    run: RunLog,
    check: AttackConfig | None,
) -> None:
    """Train the network, measure it, and save the files, then the row."""

    def save(content: bytes) -> None:
        folder, dtype = member.bench.relative(run.folder), dtype_name(member.training.dtype)
        member.file.write(StoppedTraining(content, run.run_id, folder, dtype))

    state = TrainingState(stopped.content if stopped else None, save)
    history = _train_with_bar(member, network, state, run)
    with explaining_failures("when it was measured"):
        measured = _measure(member.training, network, check)
    checkpoint, past = run.folder / "checkpoint.pt", run.folder / "history.json"
    sha256 = save_checkpoint(network, checkpoint)
    write_atomically(past, json.dumps([asdict(epoch) for epoch in history]).encode())
    run.metrics({"clean_accuracy": measured.clean_accuracy, "robust_accuracy": measured.robust_accuracy})
    run.file(checkpoint)
    run.file(past)
    _finish(member, checkpoint, sha256, measured)


def _train_with_bar(
    member: _Member, network: nn.Module, state: TrainingState, run: RunLog
) -> list[EpochMetrics]:
    progress = member.bench.progress
    with progress.task(member.title, member.training.config.epochs) as advance:
        watch = OverfittingWatch(state.history)
        advance(len(state.history))

        def report(metrics: EpochMetrics) -> None:
            _log_epoch(run, metrics)
            robust = "" if metrics.pgd_accuracy is None else f", under PGD {metrics.pgd_accuracy:.1%}"
            advance(1, f"loss {metrics.loss:.3f}, accuracy {metrics.baseline_accuracy:.1%}{robust}")
            warning = watch.check(metrics)
            if warning:
                progress.report(f"{member.title}, {warning}")

        def tell(line: str) -> None:
            progress.report(f"{member.title}: {line}")

        return train(network, member.training, on_epoch=report, state=state, tell=tell)


def _measure(training: Training, network: nn.Module, check: AttackConfig | None) -> _Measured:
    split, device = training.dataset.splits["attack"], training.device
    clean_accuracy = accuracy(network, split, device)
    if check is None:
        return _Measured(clean_accuracy, len(split), None)
    return _Measured(clean_accuracy, len(split), check, *robust_accuracy(network, split, check, device))


def _finish(member: _Member, checkpoint: Path, sha256: str, measured: _Measured) -> None:
    """Store what a training came to; its files are there."""
    bench, training = member.bench, member.training
    with bench.store.transaction() as session:
        done = session.get_one(Model, member.row.id)
        done.checkpoint_uri, done.checkpoint_sha256 = bench.relative(checkpoint), sha256
        done.clean_accuracy, done.finished_at = measured.clean_accuracy, runs.now()
        done.device, done.dtype = training.device.type, dtype_name(training.dtype)
        done.threads = torch.get_num_threads()
        runs.leave(done, FINISHED)
        # The held-out images are those of the data set at the start of the chain.
        root = root_of(session, session.get_one(DatasetRow, done.dataset_id))
        key = {"model_id": done.id, "dataset_id": root.id, "split": "attack"}
        session.merge(
            ModelMetric(
                **key, name="clean_accuracy", norm="", eps=0.0, steps=0, value=measured.clean_accuracy,
                n=measured.n_images,
            )
        )  # fmt: skip
        if measured.check is not None:
            session.merge(
                ModelMetric(
                    **key, name=ROBUST_ACCURACY, norm=measured.check.norm, eps=measured.check.eps,
                    steps=measured.check.steps, value=measured.robust_accuracy, n=measured.n_checked,
                )
            )  # fmt: skip
