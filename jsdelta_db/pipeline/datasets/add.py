"""A user's data set, added: decoded once, divided by what its images are, stored in one file.

One image's walk: it is read from its source into a staging folder → its pixels' hash decides its split and
its place → the one file below ``datasets/`` in the workspace, named by a row → every later command maps that
file.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.compute import data
from jsdelta_db.compute.data.stored import check_stored
from jsdelta_db.compute.models.named_code import find_source, load_factory, users_code
from jsdelta_db.compute.sources.arrays import NpzSource
from jsdelta_db.compute.sources.dividing import SPLITS, Division, Rules
from jsdelta_db.compute.sources.factory import FactorySource
from jsdelta_db.compute.sources.finishing import Settled, divide_all, name_classes, write_dataset
from jsdelta_db.compute.sources.folder import FolderSource
from jsdelta_db.compute.sources.source import Source
from jsdelta_db.compute.sources.staging import Staging, check_broken, decode_all
from jsdelta_db.config.consent import give_consent
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.config.names import check_name
from jsdelta_db.errors import DataError, UsageError
from jsdelta_db.pipeline.datasets.unfinished import FOLDER, folder_for
from jsdelta_db.runtime.files import locked, sha256_of_file
from jsdelta_db.runtime.pool import count_cores, process_pool
from jsdelta_db.runtime.stamps import write_stamp
from jsdelta_db.store import runs
from jsdelta_db.store.constants import ADDED, FINISHED
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.workbench import Workbench

PARALLEL_BLOCKS = 8  # with fewer, starting processes costs more than they save


@dataclass(frozen=True, slots=True)
class AddRequest:
    """A data set as a user names it: one of ``npz``, ``folder`` and ``factory``.

    Attributes:
        name: to call it by.
        factory: ``module:callable``, which returns a data set of images and labels, or a pair of them.
        size: see :func:`jsdelta_db.compute.sources.pictures.decode`.
        classes: names of the labels, in their order; None for the source's own, or their numbers.
        skip_broken: leave out images that cannot be read.
        jobs: how many processes decode; None for one a core.
    """

    name: str
    npz: Path | None = None
    folder: Path | None = None
    factory: str | None = None
    size: int | None = None
    classes: tuple[str, ...] | None = None
    rules: Rules = Rules()  # noqa: RUF009 frozen
    skip_broken: bool = False
    jobs: int | None = None

    @property
    def kind(self) -> str:
        """``npz``, ``folder`` or ``factory``."""
        return "npz" if self.npz else "folder" if self.folder else "factory"


def open_source(request: AddRequest) -> Source:
    """Look at the images that a request names; needs no store and makes nothing.

    Raises:
        UsageError: a name that cannot be taken, or not one source.
        DataError: what is there cannot be used.
    """
    check_name("dataset name", request.name)
    if request.name in data.LOADERS:
        raise UsageError(f"dataset name {request.name!r} is a builtin data set's; choose another name")
    given = [each for each in (request.npz, request.folder, request.factory) if each is not None]
    if len(given) != 1:
        raise UsageError(f"{len(given)} sources were given: must be one of --npz, --folder and --factory")
    if request.npz is not None:
        if request.size is not None:
            raise UsageError(f"--size {request.size} is for --folder and --factory; arrays have their size")
        return NpzSource(request.npz)
    if request.folder is not None:
        return FolderSource(request.folder, request.size)
    assert request.factory is not None
    return _open_factory(request.factory, request.size)


def add_dataset(bench: Workbench, request: AddRequest, source: Source) -> tuple[DatasetRow, bool]:
    """Decode, divide and store a data set; a stopped one goes on where it was, the same one is found.

    Returns:
        The row, and whether it is new.

    Raises:
        UsageError: the name is taken, or another process is adding it.
        DataError: an image that cannot be read, labels or classes that are not valid, too few images.
        OSError: the disk is full.
    """
    key = config_hash(_describe(request, source), [])
    with bench.store.read_session() as session:
        known = _find_known(session, request.name, key, sum(source.parts.values()))
    if known is not None:
        check_stored(bench.locate(known.uri or ""), known.sha256 or "", known.name)
        return known, False
    for line in source.notes:
        bench.progress.report(line)
    place = folder_for(bench.workspace.root, request.name)
    place.mkdir(parents=True, exist_ok=True)
    try:
        with locked(place, wait=False):
            staging = Staging.open(place, source)
            row, is_new = _add(bench, request, source, staging, key)
            staging.remove()
    except BlockingIOError:
        raise UsageError(f"another process is adding dataset {request.name!r}; wait for it") from None
    return row, is_new


def _add(
    bench: Workbench, request: AddRequest, source: Source, staging: Staging, key: str
) -> tuple[DatasetRow, bool]:
    _decode(bench, request, source, staging)
    kept = check_broken(staging, source, skips=request.skip_broken)
    settled = Settled.of(staging)
    classes = name_classes(source, staging.labels[kept], request.classes)
    division = divide_all(settled, kept, source, classes, request.rules)
    n_broken = staging.n - len(kept)
    for line in (*[f"{n_broken:,} images cannot be read and are left out"] * (n_broken > 0), *division.notes):
        bench.progress.report(line)
    with bench.store.read_session() as session:
        same = _find_same(session, request.name, division.fingerprint)
    if same is not None:
        return same, False
    facts = {"kind": request.kind, "n_broken": n_broken}
    row = _write(bench, request.name, settled, division, facts)
    row.config_hash, row.classes = key, list(classes)
    with bench.store.transaction() as session:
        runs.serialize(session, "added data sets")
        same = _find_same(session, request.name, division.fingerprint)
        if same is None:
            session.add(row)
    return same or row, same is None


def _write(
    bench: Workbench, name: str, settled: Settled, division: Division, facts: dict[str, Any]
) -> DatasetRow:
    """Write a data set's file, and return its row, which is still to be added."""
    uid = division.fingerprint[:16]
    path = bench.workspace.root / FOLDER / f"{name}-{uid}.npz"
    sizes = {split: len(division.rows.get(split, ())) for split in SPLITS}
    n_images = sum(sizes.values())
    with bench.progress.task(f"store {name}", n_images) as advance:
        written = write_dataset(path, settled, division, advance)
    write_stamp(path, written.sha256)
    facts |= {
        "mean": list(written.mean), "std": list(written.std), "image_shape": list(settled.image_shape),
        "dtype": str(settled.dtype), "n_images": n_images, **{f"n_{split}": n for split, n in sizes.items()},
    }  # fmt: skip
    return DatasetRow(
        uid=uid, created_at=runs.now(), finished_at=runs.now(), name=name, kind=ADDED,
        fingerprint=division.fingerprint, construction=facts, uri=bench.relative(path), sha256=written.sha256,
        status=FINISHED,
    )  # fmt: skip


def _decode(bench: Workbench, request: AddRequest, source: Source, staging: Staging) -> None:
    missing = staging.missing()
    workers = min(request.jobs or count_cores(), len(missing))
    with bench.progress.task(f"read {request.name}", staging.n) as advance, ExitStack() as stack:
        left = sum(stop - start for start, stop in map(staging.span, missing))
        if left < staging.n:
            advance(staging.n - left)
        is_parallel = source.reads_in_parallel and workers > 1 and len(missing) >= PARALLEL_BLOCKS
        pool = stack.enter_context(process_pool(workers)) if is_parallel else None
        decode_all(staging, source, advance, pool, workers)


def _open_factory(name: str, size: int | None) -> FactorySource:
    give_consent(name)  # by typing it
    factory = load_factory(name, "--factory", "a data set, or a pair of them")
    with users_code(lambda reason: DataError(f"--factory {name} failed: {reason}")):
        made = factory()
    source = find_source(factory)
    return FactorySource(made, name, size, "" if source is None else sha256_of_file(source) or "")


def _describe(request: AddRequest, source: Source) -> dict[str, Any]:
    """Return what decides a data set, as far as it is known before anything is decoded."""
    return {
        "kind": "dataset", "source": source.identity, "size": request.size, "classes": request.classes,
        "baseline_size": request.rules.baseline_size, "test_only": request.rules.test_only,
        "skip_broken": request.skip_broken,
    }  # fmt: skip


def _find_known(session: Session, name: str, key: str, n_images: int) -> DatasetRow | None:
    """Return the data set of a name if it was added from the same source, which needs no look at an image.

    Raises:
        UsageError: another one has the name: of another kind, or of another number of images.
    """
    named = session.scalars(select(DatasetRow).where(DatasetRow.name == name)).first()
    if named is None:
        return None
    facts = named.construction or {}
    if named.kind != ADDED or n_images != facts.get("n_images", 0) + facts.get("n_broken", 0):
        raise _taken(named)
    return named if named.config_hash == key else None  # it may be the same in another form


def _find_same(session: Session, name: str, fingerprint: str) -> DatasetRow | None:
    """Return the data set of a fingerprint.

    Raises:
        UsageError: it has another name, or another one has this name.
    """
    same = session.scalars(select(DatasetRow).where(DatasetRow.uid == fingerprint[:16])).first()
    if same is not None and same.name != name:
        raise UsageError(f"this data set was added as {same.name!r} ({same.uid}); use that name")
    named = session.scalars(select(DatasetRow).where(DatasetRow.name == name)).first()
    if same is None and named is not None:
        raise _taken(named)
    return same


def _taken(row: DatasetRow) -> UsageError:
    return UsageError(
        f"dataset name {row.name!r} is taken ({row.uid}, {row.kind}); choose another name; "
        "see jsdelta dataset list"
    )
