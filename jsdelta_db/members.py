"""A member's life: planned, trained once, loaded by whoever needs it, its clean logits kept."""

import io
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jsdelta_db.config import TrainConfig, config_hash
from jsdelta_db.data import Dataset
from jsdelta_db.devices import resolve_device, resolve_dtype
from jsdelta_db.errors import JsdeltaError
from jsdelta_db.files import sha256_of, write_atomically
from jsdelta_db.leases import describe
from jsdelta_db.metrics import ImageMeans, compare_labels
from jsdelta_db.models import build_model, load_checkpoint, predict, save_checkpoint
from jsdelta_db.models.zoo import check_outputs
from jsdelta_db.records import LabelPair
from jsdelta_db.store import runs, write
from jsdelta_db.store.schema import FAILED, FINISHED, Model, ModelLogits, ModelMetric, RhoBaseline
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


def load_member(bench: Workbench, row: Model, dataset: Dataset, device: torch.device) -> nn.Module:
    """Build a finished member and load its verified checkpoint, in eval mode on ``device``.

    Raises:
        CheckpointError: the file is missing, cut short or altered.
        ModelOutputError: its outputs are not finite logits.
    """
    config = TrainConfig(**row.recipe)
    network = build_model(config.arch, dataset, width=config.width, seed=row.seed)
    load_checkpoint(network, bench.locate(row.checkpoint_uri or ""), row.checkpoint_sha256 or "")
    check_outputs(network, dataset, f"{row.architecture}, seed {row.seed}")
    return network.to(device)


def clean_logits(
    bench: Workbench, row: Model, network: nn.Module, dataset: Dataset, dataset_id: int, split: str
) -> NDArray[np.float32]:
    """Return a member's logits on a whole split ``(n, classes)``: kept once, computed if not there."""
    key = {"model_id": row.id, "dataset_id": dataset_id, "split": split}
    with bench.store.transaction() as session:
        kept = session.get(ModelLogits, key)
    if kept is not None:
        path = bench.locate(kept.uri)
        content = path.read_bytes() if path.exists() else b""
        if sha256_of(content) == kept.sha256:
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    logits = predict(network, dataset.splits[split], next(network.parameters()).device)
    buffer = io.BytesIO()
    np.save(buffer, logits, allow_pickle=False)
    path = bench.locate(row.checkpoint_uri or "").with_name(f"logits-{split}.npy")
    sha256 = write_atomically(path, buffer.getvalue())
    with bench.store.transaction() as session:
        runs.serialize(session, f"logits of {row.uid}, {split}")
        session.merge(ModelLogits(**key, uri=bench.relative(path), sha256=sha256))
    bench.tracker.reattach(row.mlflow_run_id, path.parent).file(path)
    return logits


def member_baselines(
    bench: Workbench,
    row: Model,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    dataset_id: int,
    pairs: Iterable[LabelPair],
) -> dict[LabelPair, ImageMeans]:
    """Return a member's baselines for some label pairs: kept once per model and split, computed if not there.

    Args:
        logits, labels: of the baseline split.
    """
    key = {"model_id": row.id, "dataset_id": dataset_id, "split": "baseline", "temperature_rule": "1"}
    wanted = set(pairs)
    with bench.store.transaction() as session:
        stored = session.query(RhoBaseline).filter_by(**key).all()
    means = {}
    for kept in stored:
        values = np.frombuffer(kept.image_means, dtype="<f8")
        means[kept.label_low, kept.label_high] = ImageMeans(values[: kept.n_low], values[kept.n_low :])
    missing = sorted(wanted - set(means))
    if missing:
        computed = compare_labels(logits, labels, missing)
        with bench.store.transaction() as session:
            runs.serialize(session, f"baselines of {row.uid}")
            write.write_model_baselines(
                session, key=key, means={pair: (part.low, part.high) for pair, part in computed.items()}
            )
        means.update(computed)
    return {pair: means[pair] for pair in wanted if pair in means}
