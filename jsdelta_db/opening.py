"""What a verb opens before it plans: the data set, the models, and a look at both."""

from collections.abc import Callable, Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db import data
from jsdelta_db.attacks.preflight import check_model
from jsdelta_db.cast import Cast
from jsdelta_db.data import Dataset
from jsdelta_db.data.constructed import open_file
from jsdelta_db.devices import resolve_device
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.loading import LoadedModel
from jsdelta_db.store import runs
from jsdelta_db.store.datasets import CONSTRUCTED, SHORTEST_PREFIX
from jsdelta_db.store.schema import FINISHED, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench import Workbench

PREFLIGHT_IMAGES = 8  # enough to see what is wrong with a model


def open_dataset(bench: Workbench, name: str, *, download: bool = False) -> tuple[Dataset, DatasetRow]:
    """Load a data set, builtin or constructed, and find or make its row.

    Args:
        name: of a data set, or the start of a constructed one's uid.
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
    with bench.store.transaction() as session:
        row = get_constructed(session, name)
    return open_row(bench, row, download=download), row


def open_row(bench: Workbench, row: DatasetRow, *, download: bool = False) -> Dataset:
    """Load the data set of a row; of a constructed one the held-out splits are its root's.

    Raises:
        UsageError, DataError: see :func:`open_dataset`.
    """
    with bench.store.transaction() as session:
        root_row = root_of(session, row)
    root = data.load(root_row.name, bench.workspace.data_dir, download=download)
    check_fingerprint(root, root_row)
    if row.id == root_row.id:
        return root
    return open_file(bench.locate(row.uri or ""), row.sha256, row.name, root)


def get_constructed(session: Session, reference: str) -> DatasetRow:
    """Return a finished constructed data set by name or unique uid prefix.

    Raises:
        UnknownNameError: there is none.
        UsageError: several have the prefix, or it is not finished.
    """
    rows = session.scalars(
        select(DatasetRow).where(DatasetRow.kind == CONSTRUCTED).order_by(DatasetRow.id)
    ).all()
    found = [row for row in rows if row.name == reference] or [
        row for row in rows if len(reference) >= SHORTEST_PREFIX and row.uid.startswith(reference)
    ]
    if not found:
        raise UnknownNameError("dataset", reference, [*data.LOADERS, *(row.name for row in rows)])
    if len(found) > 1:
        uids = ", ".join(row.uid for row in found)
        raise UsageError(f"dataset {reference!r} names {len(found)}; give one by its uid: {uids}")
    if found[0].status != FINISHED:
        raise UsageError(
            f"dataset {found[0].name!r} is not finished; go on with the same jsdelta dataset build as before"
        )
    return found[0]


def root_of(session: Session, row: DatasetRow) -> DatasetRow:
    """Return the builtin data set at the start of a data set's chain of parents; itself if it has none."""
    while row.parent_id is not None:
        row = session.get_one(DatasetRow, row.parent_id)
    return row


def enter_dataset(session: Session, dataset: Dataset) -> DatasetRow:
    """Find or make a data set's row."""
    return runs.ensure_dataset(
        session, name=dataset.name, classes=dataset.classes, fingerprint=dataset.fingerprint()
    )


def check_fingerprint(dataset: Dataset, row: DatasetRow) -> None:
    """Refuse other data than a row's.

    Raises:
        UsageError: the fingerprints differ.
    """
    if dataset.fingerprint() != row.fingerprint:
        raise UsageError(
            f"dataset {dataset.name!r} is not the one the ensemble was trained on "
            f"({dataset.fingerprint()[:16]}, recorded {row.uid}); check --data-dir"
        )


def open_models(
    bench: Workbench, dataset_row: DatasetRow, device: str
) -> tuple[Dataset, Callable[[Model], LoadedModel]]:
    """Load a builtin data set, and return what loads its models, each once."""
    dataset = data.load(dataset_row.name, bench.workspace.data_dir)
    check_fingerprint(dataset, dataset_row)
    resolved = resolve_device(device)
    loaded: dict[int, LoadedModel] = {}

    def load(row: Model) -> LoadedModel:
        if row.id not in loaded:
            loaded[row.id] = LoadedModel(bench, row, dataset, dataset_row.id, resolved)
        return loaded[row.id]

    return dataset, load


def common_dataset(session: Session, casts: Iterable[Cast]) -> DatasetRow:
    """Return the builtin data set that all models of some casts are for.

    A model that was trained on a constructed set is asked about the held-out images of its root, as a
    model trained on the root is: attacks, baselines and logits belong to the root's row.

    Raises:
        UsageError: they are for several.
    """
    models = [model for cast in casts for model in (cast.attacked, *cast.evaluators, *cast.surrogates)]
    trained_on = {model.dataset_id: session.get_one(DatasetRow, model.dataset_id) for model in models}
    roots = {root.id: root for root in (root_of(session, row) for row in trained_on.values())}
    if len(roots) > 1:
        names = ", ".join(row.name for row in roots.values())
        raise UsageError(f"these models are for different data sets ({names}); name models for one of them")
    return next(iter(roots.values()))


def look_at_model(model: LoadedModel, split: str) -> None:
    """Look at a model before it is attacked."""
    images = model.dataset.splits[split]
    few = slice(0, min(PREFLIGHT_IMAGES, len(images)))
    x, labels = images.batch(few), images.labels[few]
    check_model(model.network, x.to(model.device), labels.to(model.device), model.title)
