"""A member's making: planned, trained once, its checkpoint kept."""

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
from jsdelta_db.compute.training import EpochMetrics, OverfittingWatch, accuracy, train
from jsdelta_db.compute.training import Progress as TrainingProgress
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import JsdeltaError
from jsdelta_db.pipeline.ensembles.resume_file import ResumeFile, StoppedTraining
from jsdelta_db.runtime.devices import resolve_device, resolve_dtype
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
class _Measured:
    """What a finished network does on the held-out images, clean and under the data set's one attack."""

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

    One that was stopped goes on from its last epoch. Files come before rows: a checkpoint without its
    row is written again.

    Args:
        check: the attack that measures robust accuracy; None for none.

    Raises:
        TrainingError, ModelError: the member is marked failed; others are not touched.
    """
    claimed = claim_or_wait(bench, row, f"member seed {row.seed} is being trained by")
    if claimed.status == FINISHED:
        return claimed
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    file = ResumeFile(bench.workspace, row)
    with _marking_failed(bench, row):
        network = build_model(config.arch, dataset, width=config.width, seed=row.seed)
        kept = _read_progress(bench, file, row, network)
        run = _open_run(bench, row, dataset, config, parent, kept, device, dtype)
        with run.closing():

            def save(content: bytes) -> None:
                file.write(StoppedTraining(content, run.run_id, bench.relative(run.folder)))

            progress = TrainingProgress(kept.content if kept else None, save)
            history = _train_with_bar(bench, run, network, dataset, config, row.seed, device, dtype, progress)
            measured = _measure(network, dataset, check, device)
            checkpoint, past = run.folder / "checkpoint.pt", run.folder / "history.json"
            sha256 = save_checkpoint(network, checkpoint)
            write_atomically(past, json.dumps([asdict(epoch) for epoch in history]).encode())
            run.metrics(
                {"clean_accuracy": measured.clean_accuracy, "robust_accuracy": measured.robust_accuracy}
            )
            run.file(checkpoint)
            run.file(past)
            _finish_member(bench, row, checkpoint, sha256, measured, device, dtype)
    file.remove()
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


def _read_progress(
    bench: Workbench, file: ResumeFile, row: Model, network: nn.Module
) -> StoppedTraining | None:
    """Return what a stopped training of this member left, if it can be gone on from."""
    try:
        kept = file.read()
        if kept is None or TrainingProgress(kept.content).fits(network):
            return kept
    except (ValueError, KeyError, TypeError, RuntimeError, EOFError, UnpicklingError):
        pass  # damaged, of another training or of another version: all the same to us
    bench.progress.say(
        f"member seed {row.seed}: what was kept of its training cannot be used ({file.path}); it starts anew"
    )
    return None


def _open_run(
    bench: Workbench,
    row: Model,
    dataset: Dataset,
    config: TrainConfig,
    parent: RunLog,
    kept: StoppedTraining | None,
    device: torch.device,
    dtype: torch.dtype,
) -> RunLog:
    """Go on with the MLflow run of the training that was stopped, or start one."""
    if kept is not None and kept.run_id is not None:
        return bench.tracker.reopen(kept.run_id, bench.locate(kept.folder), parent)
    run = bench.tracker.start(
        f"member seed {row.seed}", uid=row.uid, parent=parent,
        params={
            **asdict(config), "seed": row.seed,
            "resolved_device": device.type, "resolved_dtype": str(dtype).removeprefix("torch."),
        },
    )  # fmt: skip
    digest = dataset.fingerprint()[:16]
    run.dataset(name=dataset.name, digest=digest, source=dataset.name, context="training")
    for epoch in TrainingProgress(kept.content).history if kept else []:
        _log_epoch(run, epoch)
    return run


def _log_epoch(run: RunLog, metrics: EpochMetrics) -> None:
    values = asdict(metrics)
    epoch = values.pop("epoch")
    run.metrics(values, step=epoch)


def _measure(
    network: nn.Module, dataset: Dataset, check: AttackConfig | None, device: torch.device
) -> _Measured:
    split = dataset.splits["attack"]
    clean_accuracy = accuracy(network, split, device)
    if check is None:
        return _Measured(clean_accuracy, len(split), None)
    return _Measured(clean_accuracy, len(split), check, *robust_accuracy(network, split, check, device))


def _finish_member(
    bench: Workbench,
    row: Model,
    checkpoint: Path,
    sha256: str,
    measured: _Measured,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    with bench.store.transaction() as session:
        done = session.get_one(Model, row.id)
        done.checkpoint_uri, done.checkpoint_sha256 = bench.relative(checkpoint), sha256
        done.clean_accuracy, done.finished_at = measured.clean_accuracy, runs.now()
        done.device, done.dtype = device.type, str(dtype).removeprefix("torch.")
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


def _train_with_bar(
    bench: Workbench,
    run: RunLog,
    network: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    progress: TrainingProgress,
) -> list[EpochMetrics]:
    title = f"member seed {seed}"
    with bench.progress.task(title, config.epochs) as advance:
        watch = OverfittingWatch(progress.history)
        advance(len(progress.history))

        def report(metrics: EpochMetrics) -> None:
            _log_epoch(run, metrics)
            robust = "" if metrics.pgd_accuracy is None else f", under PGD {metrics.pgd_accuracy:.1%}"
            advance(1, f"loss {metrics.loss:.3f}, accuracy {metrics.baseline_accuracy:.1%}{robust}")
            warning = watch.look(metrics)
            if warning:
                bench.progress.say(f"{title}, {warning}")

        return train(
            network, dataset, config, seed=seed, device=device, dtype=dtype, on_epoch=report,
            progress=progress,
        )  # fmt: skip
