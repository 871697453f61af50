"""Data sets in use: builtin, added or constructed, opened by name or by their rows."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.compute import data
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.data.constructed import open_file
from jsdelta_db.compute.data.stored import open_stored
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import UsageError, one_of
from jsdelta_db.store import runs
from jsdelta_db.store.constants import ADDED, BUILTIN
from jsdelta_db.store.naming import get_match
from jsdelta_db.store.schema import FINISHED
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.workbench import Workbench


def open_dataset(bench: Workbench, name: str, *, download: bool = False) -> tuple[Dataset, DatasetRow]:
    """Load a data set, and find or make its row.

    Args:
        name: of a data set, or the start of the uid of one that is not builtin.
        download: fetch a builtin one that is missing.

    Raises:
        UnknownNameError: no such data set.
        UsageError: it is not finished, or the builtin one it starts from is not the one it was made from.
        DataError: its files are missing or were changed.
    """
    if name in data.LOADERS:
        dataset = data.load(name, bench.workspace.data_dir, download=download)
        with bench.store.transaction() as session:
            return dataset, enter_dataset(session, dataset)
    with bench.store.read_session() as session:
        row = get_stored(session, name)
    return open_row(bench, row, download=download), row


def find_row(session: Session, name: str) -> DatasetRow | None:
    """Return the row of a data set, without its images being loaded.

    A builtin one has the same images wherever it is (published files, checked when they are read), so that
    its name tells the row; None if it has none yet, or several, of versions that told its images apart.

    Raises:
        UnknownNameError, UsageError: see :func:`get_stored`.
    """
    if name not in data.LOADERS:
        return get_stored(session, name)
    rows = session.scalars(
        select(DatasetRow).where(DatasetRow.name == name, DatasetRow.kind == BUILTIN)
    ).all()
    return rows[0] if len(rows) == 1 else None


def open_row(bench: Workbench, row: DatasetRow, *, download: bool = False) -> Dataset:
    """Load the data set of a row; of a constructed one the held-out splits are its root's.

    Raises:
        UsageError, DataError: see :func:`open_dataset`.
    """
    with bench.store.read_session() as session:
        root_row = root_of(session, row)
    root = open_root(bench.workspace, root_row, download=download)
    if row.id == root_row.id:
        return root
    return open_file(bench.locate(row.uri or ""), row.sha256, row.name, root)


def open_root(
    workspace: Workspace, row: DatasetRow, use: str = "the ensemble was trained on", *, download: bool = False
) -> Dataset:
    """Load a data set that comes from no other one: builtin, or a user's.

    Args:
        use: of the recorded one, for the message.

    Raises:
        UsageError: the builtin one that is found is not the recorded one.
        DataError: its files are missing or were changed.
    """
    if row.kind == ADDED:
        facts = {name: getattr(row, name) for name in ("name", "classes", "fingerprint", "sha256")}
        return open_stored(workspace.root / (row.uri or ""), {**facts, **(row.construction or {})})
    dataset = data.load(row.name, workspace.data_dir, download=download)
    check_fingerprint(dataset, row, use)
    return dataset


def check_trainable(dataset: Dataset) -> None:
    """Refuse a data set without a train split.

    Raises:
        UsageError: it was added to be attacked only.
    """
    if "train" not in dataset.splits:
        raise UsageError(
            f"dataset {dataset.name!r} was added with --test-only and has nothing to train on; add networks "
            "that were trained elsewhere by jsdelta models add, or add it again under another name"
        )


def check_split(dataset: Dataset, split: str) -> None:
    """Refuse to attack images that a data set does not have.

    Raises:
        UsageError: it was added to be attacked only, and has no train split.
    """
    if split not in dataset.splits:
        raise UsageError(
            f"--split {split!r}: dataset {dataset.name!r} was added with --test-only and has no such split: "
            f"must be {one_of(dataset.splits)}"
        )


def get_stored(session: Session, reference: str) -> DatasetRow:
    """Return a finished data set with a file of its own, constructed or added, by name or unique uid prefix.

    Raises:
        UnknownNameError: there is none.
        UsageError: several have the prefix, or it is not finished.
    """
    rows = session.scalars(select(DatasetRow).where(DatasetRow.kind != BUILTIN).order_by(DatasetRow.id)).all()
    named = [(row.name, row.uid, row) for row in rows]
    found = get_match("dataset", reference, named, [*data.LOADERS, *(row.name for row in rows)])
    if found.status != FINISHED:
        raise UsageError(
            f"dataset {found.name!r} is not finished; go on with the same jsdelta dataset build as before"
        )
    return found


def root_of(session: Session, row: DatasetRow) -> DatasetRow:
    """Return the data set at the start of a data set's chain of parents; itself if it has none."""
    while row.parent_id is not None:
        row = session.get_one(DatasetRow, row.parent_id)
    return row


def enter_dataset(session: Session, dataset: Dataset) -> DatasetRow:
    """Find or make a data set's row."""
    return runs.ensure_dataset(
        session, name=dataset.name, classes=dataset.classes, fingerprint=dataset.fingerprint()
    )


def check_fingerprint(dataset: Dataset, row: DatasetRow, use: str = "the ensemble was trained on") -> None:
    """Refuse other data than a row's.

    Raises:
        UsageError: the fingerprints differ.
    """
    if dataset.fingerprint() != row.fingerprint:
        raise UsageError(
            f"dataset {dataset.name!r} is not the one {use} "
            f"({dataset.fingerprint()[:16]}, recorded {row.uid}); check --data-dir"
        )
