"""Plans of constructed data sets: with which model, from which images, and the row, found or made."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import plan_chunk_size
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.constructions import check_ball
from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.checks import device_kind
from jsdelta_db.config.construction import ConstructionConfig
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.config.names import check_name
from jsdelta_db.errors import NothingToDoError, UsageError
from jsdelta_db.store import runs
from jsdelta_db.store.constants import ADDED, CONSTRUCTED
from jsdelta_db.store.references import get_by_seed, get_ensemble, list_members
from jsdelta_db.store.schema import FAILED, FINISHED, Ensemble, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import check_trainable, open_row, root_of
from jsdelta_db.workbench.models import LoadedModel, decide_preparation
from jsdelta_db.workbench.workbench import Workbench

DEFINED_FOR = {"robust": "adversarial", "nonrobust": "standard", "rand": "standard", "det": "standard"}


@dataclass(frozen=True, slots=True)
class Source:
    """A member of an ensemble, and the data that it was trained on."""

    ensemble: Ensemble
    member: Model
    parent: DatasetRow
    root: DatasetRow


@dataclass(frozen=True, slots=True)
class Work:
    """A construction ready to run: the model, the data, the rows of its train split, and the settings.

    Attributes:
        parent: data set that the images are taken from; its root is the builtin one at the start.
    """

    model: LoadedModel
    parent: Dataset
    root: Dataset
    rows: NDArray[np.int64]
    config: ConstructionConfig


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
    members = list_members(session, row)
    try:
        chosen = members[0] if member is None else get_by_seed(row, members, member)
    except UsageError as error:
        raise UsageError(f"--member {error}") from error
    parent = session.get_one(DatasetRow, chosen.dataset_id)
    return Source(row, chosen, parent, root_of(session, parent))


def check_free(session: Session, name: str) -> None:
    """Refuse a name that could be taken for something else, or is a builtin or an added data set's."""
    check_name("--name", name)
    other = select(DatasetRow).where(DatasetRow.name == name, DatasetRow.kind != CONSTRUCTED)
    taken = session.scalars(other).first()
    if taken is not None and taken.kind == ADDED:
        raise UsageError(f"--name {name!r} is that of a data set that was added; choose another name")
    if name in data.LOADERS or taken is not None:
        raise UsageError(f"--name {name!r} is a builtin data set's; choose another name")


def open_work(bench: Workbench, source: Source, config: ConstructionConfig) -> Work:
    """Open the model and the data of a construction."""
    parent = open_row(bench, source.parent)
    check_trainable(parent)
    root = parent if source.parent.id == source.root.id else open_row(bench, source.root)
    check_ball(config, int(np.prod(parent.image_shape)))
    model = LoadedModel(bench, source.member, root, source.root.id, bench.device(config.device))
    return Work(model, parent, root, choose_images(parent.splits["train"], config.images), config)


def plan_row(bench: Workbench, source: Source, work: Work, name: str) -> tuple[DatasetRow, bool]:
    """Find or make the row of a construction; tell whether it was there."""
    canonical = work.config.canonical()
    if len(work.rows) == len(work.parent.splits["train"]):
        canonical["images"] = None  # all of them, however many were asked for
    key = config_hash(canonical, [source.parent.uid, source.member.uid])
    with bench.store.read_session() as session:
        known = _find_row(session, key, name)
    if known is not None and known.status != FAILED:
        return known, True
    facts = _describe(source, work, bench.chunk_size)  # before the lock is taken: the model is loaded for it
    with bench.store.transaction() as session:
        runs.serialize(session, "constructed data sets")
        known = _find_row(session, key, name)
        if known is not None:
            known.name = name if known.status == FAILED else known.name
            return known, True
        row = DatasetRow(
            uid=runs.new_uid(), config_hash=key, created_at=runs.now(), name=name, kind=CONSTRUCTED,
            classes=list(source.root.classes), parent_id=source.parent.id, seed=work.config.seed,
            construction=facts,
        )  # fmt: skip
        session.add(row)
        session.flush()
    return row, False


def _find_row(session: Session, config_hash: str, name: str) -> DatasetRow | None:
    """Return the row of a construction, None if there is none; one that failed has no claim to its name.

    Raises:
        UsageError: another construction has the name.
    """
    rows = session.scalars(select(DatasetRow).where(DatasetRow.kind == CONSTRUCTED)).all()
    known = next((row for row in rows if row.config_hash == config_hash), None)
    taken = next((row for row in rows if row.name == name and row.status != FAILED), None)
    if (known is None or known.status == FAILED) and taken is not None:
        raise UsageError(
            f"--name {name!r} is taken by another construction ({taken.uid}, {taken.status}); "
            "choose another name; see jsdelta dataset list"
        )
    return known


def _describe(source: Source, work: Work, chunk_size: int | None) -> dict[str, Any]:
    """Return the facts of a construction: as requested, and as resolved on this machine."""
    config, model, method = work.config, work.model, source.member.method
    decided = decide_preparation([model], config.dtype)
    prepared = model.prepared(decided.dtype, decided.prepared_as)
    wanted = DEFINED_FOR[config.kind]
    return {
        "kind": config.kind, "norm": "l2", "steps": config.steps, "step_size": config.step_size,
        "eps": config.eps, "images": config.images, "n_images": len(work.rows),
        "of": len(work.parent.splits["train"]), "seed": config.seed,
        "model": source.member.uid, "ensemble": source.ensemble.name, "member": source.member.seed,
        "method": method,
        "note": None if method == wanted else f"defined with {wanted} training, made with {method}",
        "requested_device": device_kind(config.device), "requested_dtype": config.dtype,
        "device": model.device.type, "dtype": decided.dtype, "prepared_as": decided.prepared_as,
        "threads": torch.get_num_threads(),
        "chunk_size": chunk_size or plan_chunk_size(work.parent.image_shape, prepared, len(work.rows)),
    }  # fmt: skip
