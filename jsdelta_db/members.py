"""A member's making: planned, trained once, its checkpoint kept."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from jsdelta_db.config import TrainConfig, config_hash
from jsdelta_db.data import Dataset
from jsdelta_db.devices import resolve_device, resolve_dtype
from jsdelta_db.errors import JsdeltaError
from jsdelta_db.files import write_atomically
from jsdelta_db.leases import describe
from jsdelta_db.models import build_model, save_checkpoint
from jsdelta_db.store import runs
from jsdelta_db.store.schema import FAILED, FINISHED, Model, ModelMetric
from jsdelta_db.tracking import RunLog
from jsdelta_db.training import EpochMetrics, accuracy, train
from jsdelta_db.workbench import Workbench

POLL_SECONDS = 1.0


def plan_member(
    bench: Workbench, *, dataset_id: int, dataset_uid: str, recipe_name: str, config: TrainConfig, seed: int
) -> Model:
    """Find or make the row of one configuration and seed; a finished one is shared by every ensemble."""
    key = config_hash(config.canonical(seed), [dataset_uid])
    with bench.store.transaction() as session:
        return runs.find_or_create(
            session,
            Model,
            key,
            lambda: Model(
                dataset_id=dataset_id, recipe_name=recipe_name, recipe=asdict(config),
                architecture=config.arch, method=config.method, seed=seed,
            ),
        )  # fmt: skip


def train_member(
    bench: Workbench, row: Model, dataset: Dataset, config: TrainConfig, parent: RunLog
) -> Model:
    """Train a member, unless it is finished or another process finishes it first.

    Files come before rows: a checkpoint without its row is written again.

    Raises:
        TrainingError, ModelError: the member is marked failed; others are not touched.
    """
    claimed = _claim_or_wait(bench, row)
    if claimed.status == FINISHED:
        return claimed
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    run = bench.tracker.start(
        f"member seed {row.seed}", uid=row.uid, parent=parent,
        params={
            **asdict(config), "seed": row.seed,
            "resolved_device": device.type, "resolved_dtype": str(dtype).removeprefix("torch."),
        },
    )  # fmt: skip
    with run.closing():
        digest = dataset.fingerprint()[:16]
        run.dataset(name=dataset.name, digest=digest, source=dataset.name, context="training")
        try:
            network = build_model(config.arch, dataset, width=config.width, seed=row.seed)
            history = _train_with_bar(bench, run, network, dataset, config, row.seed, device, dtype)
            clean_accuracy = accuracy(network, dataset.splits["attack"], device)
        except JsdeltaError:
            with bench.store.transaction() as session:
                runs.leave(session.get_one(Model, row.id), FAILED)
            raise
        checkpoint, past = run.folder / "checkpoint.pt", run.folder / "history.json"
        sha256 = save_checkpoint(network, checkpoint)
        write_atomically(past, json.dumps([asdict(epoch) for epoch in history]).encode())
        run.metrics({"clean_accuracy": clean_accuracy})
        run.file(checkpoint)
        run.file(past)
        _finish_member(
            bench, row, checkpoint, sha256, clean_accuracy, len(dataset.splits["attack"]), device, dtype
        )
    with bench.store.transaction() as session:
        done = session.get_one(Model, row.id)
        # Closing the run may have failed, too: a repair looks for rows without an id.
        done.mlflow_run_id = run.logged_id
    return done


def _finish_member(
    bench: Workbench,
    row: Model,
    checkpoint: Path,
    sha256: str,
    clean_accuracy: float,
    n_images: int,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    with bench.store.transaction() as session:
        done = session.get_one(Model, row.id)
        done.checkpoint_uri, done.checkpoint_sha256 = bench.relative(checkpoint), sha256
        done.clean_accuracy, done.finished_at = clean_accuracy, runs.now()
        done.device, done.dtype = device.type, str(dtype).removeprefix("torch.")
        done.threads = torch.get_num_threads()
        runs.leave(done, FINISHED)
        session.merge(
            ModelMetric(
                model_id=done.id, dataset_id=done.dataset_id, split="attack", name="clean_accuracy",
                norm="", eps=0.0, steps=0, value=clean_accuracy, n=n_images,
            )
        )  # fmt: skip


def _claim_or_wait(bench: Workbench, row: Model) -> Model:
    """Claim a member's training; wait while a live process has it."""
    told = False
    while True:
        with bench.store.transaction() as session:
            runs.serialize(session, row.config_hash)
            current = session.get_one(Model, row.id, populate_existing=True)
            if current.status == FINISHED:
                return current
            if runs.is_free(current):
                runs.take(current)
                return current
        if not told:
            bench.progress.say(
                f"member seed {row.seed} is being trained by {describe(current.owner)}; waiting"
            )
            told = True
        time.sleep(POLL_SECONDS)


def _train_with_bar(
    bench: Workbench,
    run: RunLog,
    network: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> list[EpochMetrics]:
    with bench.progress.task(f"member seed {seed}", config.epochs) as advance:

        def report(metrics: EpochMetrics) -> None:
            values = asdict(metrics)
            epoch = values.pop("epoch")
            run.metrics(values, step=epoch)
            advance(1, f"loss {metrics.loss:.3f}, accuracy {metrics.baseline_accuracy:.1%}")

        return train(network, dataset, config, seed=seed, device=device, dtype=dtype, on_epoch=report)
