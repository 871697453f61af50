"""Data sets made with a trained model: planned, built part by part, kept as one file, looked at.

One image's walk: it is drawn from the train split of the data set that the model was trained on →
``constructions.construct`` moves it, or another image, by the model's gradients → a part file, one per
batch → the finished file, whose name and hash stand in a row of ``dataset`` beside the construction.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import choose_dtype, plan_chunk_size
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.constructions import check_ball, configure, construct
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.data.constructed import (
    KEYS,
    Arrays,
    check_file,
    read_part,
    with_train_split,
    write_arrays,
)
from jsdelta_db.compute.models.inference import predict
from jsdelta_db.config.construction import ConstructionConfig, ConstructionRequest
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import NothingToDoError, StoreNotReadyError, UnknownNameError, UsageError
from jsdelta_db.queries.datasets import get_dataset
from jsdelta_db.runtime.devices import resolve_device
from jsdelta_db.store import runs
from jsdelta_db.store.constants import CONSTRUCTED
from jsdelta_db.store.reading import reading
from jsdelta_db.store.references import get_ensemble, list_members
from jsdelta_db.store.schema import FAILED, FINISHED, Ensemble, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.tracking import KILLED, RunLog
from jsdelta_db.workbench.claims import claim_or_wait
from jsdelta_db.workbench.datasets import open_row, root_of
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench

NAME = re.compile(r"(?!\d+$)[\w][\w.-]*")  # not a number: those are seeds
DEFINED_FOR = {"robust": "adversarial", "nonrobust": "standard", "rand": "standard", "det": "standard"}


@dataclass(frozen=True, slots=True)
class Source:
    """What a data set is made with: a member of an ensemble, and the data that it was trained on."""

    ensemble: Ensemble
    member: Model
    parent: DatasetRow
    root: DatasetRow


@dataclass(frozen=True, slots=True)
class Work:
    """All that is needed to build: the model, the train split's data set, which rows, and how."""

    model: LoadedModel
    parent: Dataset
    root: Dataset
    rows: NDArray[np.int64]
    config: ConstructionConfig


def build_dataset(
    bench: Workbench,
    kind: str,
    *,
    ensemble: str,
    name: str,
    member: int | None = None,
    device: str = "auto",
    **settings: Any,  # noqa: ANN401 see ConstructionRequest
) -> tuple[DatasetRow, bool]:
    """Make a data set with a member of an ensemble, from the train split that it was trained on.

    The same construction is found, not made again; what was stopped goes on with the part it was at.

    Args:
        kind: ``robust``, ``nonrobust``, ``rand`` or ``det``.
        ensemble: name or uid prefix.
        member: seed; the first member if None.
        settings: ``steps``, ``step_size``, ``eps``, ``images``, ``seed`` and ``dtype``; see
            :class:`jsdelta_db.config.construction.ConstructionRequest` for the defaults.

    Returns:
        The row, and whether anything was done.

    Raises:
        UsageError: an unknown name, an ensemble that is not finished, a name that is taken, or a setting
            that is not valid.
        DataError: the data is not there, or a file was changed.
        ModelError: the model cannot be loaded, or has no features to look at.
    """
    with bench.store.transaction() as session:
        source = find_source(session, ensemble, member)
        _check_name(session, name)
    config = configure(ConstructionRequest(kind, device=device, **settings), source.root.name)
    work = _open(bench, source, config)
    row, is_known = _plan(bench, source, work, name)
    _say_what_differs(bench, row, source, name if is_known else row.name)
    if row.status == FINISHED:
        check_file(bench.locate(row.uri or ""), row.sha256, row.name)
        return row, False
    return _claim_and_build(bench, row, work)


def find_source(session: Session, ensemble: str, member: int | None) -> Source:
    """Return the model that a reference names, and its data.

    Raises:
        UsageError: no such ensemble or member, or it is not finished.
        NothingToDoError: no ensemble is finished.
    """
    try:
        row = get_ensemble(session, ensemble)
    except (UsageError, NothingToDoError):
        states = session.scalars(select(Ensemble.status).where(Ensemble.name == ensemble)).all()
        if not states or FINISHED in states:
            raise
        raise UsageError(
            f"ensemble {ensemble!r} is not finished; go on with the same jsdelta train as before, then build"
        ) from None
    members = {each.seed: each for each in reversed(list_members(session, row))}
    chosen = list_members(session, row)[0] if member is None else members.get(member)
    if chosen is None:
        seeds = ", ".join(map(str, sorted(members)))
        raise UsageError(f"--member {member} is no seed of ensemble {row.name!r}: must be {seeds}")
    parent = session.get_one(DatasetRow, chosen.dataset_id)
    return Source(row, chosen, parent, root_of(session, parent))


def _check_name(session: Session, name: str) -> None:
    """Refuse a name that could be taken for something else."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r} is not valid; choose another of letters, digits, . _ and -, not a number"
        )
    builtin = select(DatasetRow).where(DatasetRow.name == name, DatasetRow.kind != CONSTRUCTED)
    if name in data.LOADERS or session.scalars(builtin).first() is not None:
        raise UsageError(f"--name {name!r} is a builtin data set's; choose another name")


def _open(bench: Workbench, source: Source, config: ConstructionConfig) -> Work:
    parent = open_row(bench, source.parent)
    root = parent if source.parent.id == source.root.id else open_row(bench, source.root)
    check_ball(config, int(np.prod(parent.image_shape)))
    model = LoadedModel(bench, source.member, root, source.root.id, resolve_device(config.device))
    return Work(model, parent, root, choose_images(parent.splits["train"], config.images), config)


def _plan(bench: Workbench, source: Source, work: Work, name: str) -> tuple[DatasetRow, bool]:
    """Find or make the row of a construction; tell whether it was there."""
    canonical = work.config.canonical()
    if len(work.rows) == len(work.parent.splits["train"]):
        canonical["images"] = None  # all of them, however many were asked for
    key = config_hash(canonical, [source.parent.uid, source.member.uid])
    with bench.store.transaction() as session:
        runs.serialize(session, "constructed data sets")
        rows = session.scalars(select(DatasetRow).where(DatasetRow.kind == CONSTRUCTED)).all()
        for row in rows:
            if row.config_hash == key:
                return row, True
        for row in rows:
            if row.name == name:
                raise UsageError(
                    f"--name {name!r} is taken by another construction ({row.uid}, {row.status}); "
                    "choose another name; see jsdelta dataset list"
                )
        row = DatasetRow(
            uid=runs.new_uid(), config_hash=key, created_at=runs.now(), name=name, kind=CONSTRUCTED,
            classes=list(source.root.classes), parent_id=source.parent.id, seed=work.config.seed,
            construction=_describe(source, work),
        )  # fmt: skip
        session.add(row)
        session.flush()
    return row, False


def _describe(source: Source, work: Work) -> dict[str, Any]:
    """Return what is recorded of a construction: as requested, and as resolved here."""
    config, model, method = work.config, work.model, source.member.method
    few = work.root.splits["baseline"].batch(slice(0, 2))
    dtype = str(choose_dtype(config.dtype, model.network, model.device, few)).removeprefix("torch.")
    wanted = DEFINED_FOR[config.kind]
    return {
        "kind": config.kind, "norm": "l2", "steps": config.steps, "step_size": config.step_size,
        "eps": config.eps, "images": config.images, "n_images": len(work.rows),
        "of": len(work.parent.splits["train"]), "seed": config.seed,
        "model": source.member.uid, "ensemble": source.ensemble.name, "member": source.member.seed,
        "method": method,
        "note": None if method == wanted else f"defined with {wanted} training, made with {method}",
        "requested_device": config.device, "requested_dtype": config.dtype, "device": model.device.type,
        "dtype": dtype, "threads": torch.get_num_threads(),
        "chunk_size": plan_chunk_size(work.parent.image_shape, model.prepared(dtype), len(work.rows)),
    }  # fmt: skip


def _say_what_differs(bench: Workbench, row: DatasetRow, source: Source, name: str) -> None:
    facts = row.construction or {}
    if facts.get("note"):
        bench.progress.say(
            f"dataset {row.name!r}: {facts['kind']} is {facts['note']} "
            f"(ensemble {source.ensemble.name!r}); recorded so"
        )
    if row.name != name:
        bench.progress.say(f"this construction is there already, as {row.name!r} ({row.uid})")


def _claim_and_build(bench: Workbench, row: DatasetRow, work: Work) -> tuple[DatasetRow, bool]:
    claimed = claim_or_wait(bench, row, f"dataset {row.name!r} is being made by")
    if claimed.status == FINISHED:
        return claimed, False
    facts = dict(claimed.construction or {})
    if facts["device"] != work.model.device.type:
        raise UsageError(
            f"dataset {row.name!r} was begun on {facts['device']} and this is {work.model.device.type}; "
            "go on with it there, or build another one with another --seed and --name"
        )
    run = _open_run(bench, claimed, work)
    try:
        with run.closing():
            return _build(bench, claimed, facts, work, run), True
    except Exception:
        with bench.store.transaction() as session:
            runs.leave(session.get_one(DatasetRow, row.id), FAILED)
        raise


def _open_run(bench: Workbench, row: DatasetRow, work: Work) -> RunLog:
    """Start the MLflow run, or reopen the one that was stopped; the row says where its files are."""
    if row.uri is not None:
        return bench.tracker.reopen(row.mlflow_run_id, bench.locate(row.uri).parent)
    run = bench.tracker.start(f"dataset {row.name}", uid=row.uid, params=row.construction or {})
    try:
        parent = work.parent
        digest = parent.fingerprint()[:16]
        run.dataset(name=parent.name, digest=digest, source=parent.name, context="source")
        with bench.store.transaction() as session:
            stored = session.get_one(DatasetRow, row.id)
            stored.uri, stored.mlflow_run_id = bench.relative(run.folder / "dataset.npz"), run.run_id
    except BaseException:
        run.finish(KILLED)  # nobody else knows of it yet
        raise
    return run


def _build(bench: Workbench, row: DatasetRow, facts: dict[str, Any], work: Work, run: RunLog) -> DatasetRow:
    """Make the parts that are missing, and of all of them the one file; files come before the row."""
    parts = _make_parts(bench, row, facts, work, run.folder / "parts")
    arrays = _join(parts, len(work.rows), work.parent.image_shape)
    path = run.folder / "dataset.npz"
    sha256 = write_arrays(path, arrays)
    dataset = with_train_split(work.root, row.name, arrays)
    facts["label_share"] = _label_share(work.model, dataset)
    fingerprint = dataset.fingerprint()
    run.file(path)
    run.metrics({"images": len(work.rows), "label_share": facts["label_share"]})
    run.dataset(name=row.name, digest=fingerprint[:16], source=bench.relative(path), context="constructed")
    with bench.store.transaction() as session:
        done = session.get_one(DatasetRow, row.id)
        done.uri, done.sha256, done.fingerprint = bench.relative(path), sha256, fingerprint
        done.construction, done.finished_at, done.mlflow_run_id = facts, runs.now(), run.logged_id
        runs.leave(done, FINISHED)
    for part in parts:
        part.unlink(missing_ok=True)
    (run.folder / "parts").rmdir()
    return done


def _make_parts(
    bench: Workbench, row: DatasetRow, facts: dict[str, Any], work: Work, folder: Path
) -> list[Path]:
    """Construct batch by batch; a part that is there and whole is kept."""
    size, split = int(facts["chunk_size"]), work.parent.splits["train"]
    paths = []
    with bench.progress.task(f"dataset {row.name}", len(work.rows)) as advance:
        for position in range(-(-len(work.rows) // size)):
            rows = work.rows[position * size : (position + 1) * size]
            path = folder / f"part-{position:05d}.npz"
            if read_part(path) is None:
                prepared = work.model.prepared(facts["dtype"])
                images, labels = construct(prepared, split, rows, len(work.root.classes), work.config)
                write_arrays(path, dict(zip(KEYS, (images, labels, split.index[rows]), strict=True)))
            paths.append(path)
            advance(len(rows))
    return paths


def _join(parts: list[Path], n: int, image_shape: tuple[int, int, int]) -> Arrays:
    """Return the arrays of all parts, in order; never more than one part beside them."""
    images = np.empty((n, *image_shape), dtype=np.float16)
    labels, index = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    start = 0
    for path in parts:
        arrays = read_part(path)
        if arrays is None:
            raise UsageError(f"{path} was changed while it was in use; build again, it is made anew")
        end = start + len(arrays["labels"])
        images[start:end], labels[start:end], index[start:end] = (arrays[key] for key in KEYS)
        start = end
    return dict(zip(KEYS, (images, labels, index), strict=True))


def _label_share(model: LoadedModel, dataset: Dataset) -> float:
    """Return how many of the made images the model itself calls by their new label."""
    train = dataset.splits["train"]
    said = predict(model.network, train, model.device).argmax(1)
    return float(np.mean(said == train.labels.numpy()))


def root_name(workspace: Workspace, name: str) -> str:
    """Return the builtin data set that a data set starts from: what decides which recipe is usual.

    Needs no store for a builtin name, and makes none.

    Raises:
        UnknownNameError: no such data set.
        UsageError: several have this uid prefix, or it is not finished.
    """
    if name in data.LOADERS:
        return name
    try:
        with reading(workspace.db_url) as reader:
            row = get_dataset(reader, name, data.LOADERS)
    except StoreNotReadyError:
        raise UnknownNameError("dataset", name, data.LOADERS) from None
    if row["status"] != FINISHED:
        raise UsageError(
            f"dataset {row['name']!r} is not finished; go on with the same jsdelta dataset build as before"
        )
    return str(row["root"])
