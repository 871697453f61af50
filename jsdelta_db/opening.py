"""What a verb opens before it plans: the data set, the models, and a look at both."""

from collections.abc import Callable, Iterable

from sqlalchemy.orm import Session

from jsdelta_db import data
from jsdelta_db.attacks.preflight import check_model
from jsdelta_db.cast import Cast
from jsdelta_db.data import Dataset
from jsdelta_db.devices import resolve_device
from jsdelta_db.errors import UsageError
from jsdelta_db.loading import LoadedModel
from jsdelta_db.store import runs
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.store.schema import Model
from jsdelta_db.workbench import Workbench

PREFLIGHT_IMAGES = 8  # enough to see what is wrong with a model


def enter_dataset(session: Session, dataset: Dataset) -> DatasetRow:
    """Find or make a data set's row."""
    return runs.ensure_dataset(
        session, name=dataset.name, classes=dataset.classes, fingerprint=dataset.fingerprint()
    )


def _check_fingerprint(dataset: Dataset, row: DatasetRow) -> None:
    if dataset.fingerprint() != row.fingerprint:
        raise UsageError(
            f"dataset {dataset.name!r} is not the one the ensemble was trained on "
            f"({dataset.fingerprint()[:16]}, recorded {row.uid}); check --data-dir"
        )


def open_models(
    bench: Workbench, dataset_row: DatasetRow, device: str
) -> tuple[Dataset, Callable[[Model], LoadedModel]]:
    """Load the data set, and return what loads its models, each once."""
    dataset = data.load(dataset_row.name, bench.workspace.data_dir)
    _check_fingerprint(dataset, dataset_row)
    resolved = resolve_device(device)
    loaded: dict[int, LoadedModel] = {}

    def load(row: Model) -> LoadedModel:
        if row.id not in loaded:
            loaded[row.id] = LoadedModel(bench, row, dataset, dataset_row.id, resolved)
        return loaded[row.id]

    return dataset, load


def common_dataset(session: Session, casts: Iterable[Cast]) -> DatasetRow:
    """Return the data set that all models of some casts were trained on.

    Raises:
        UsageError: they were trained on several.
    """
    models = [model for cast in casts for model in (cast.attacked, *cast.evaluators, *cast.surrogates)]
    rows = {model.dataset_id: session.get_one(DatasetRow, model.dataset_id) for model in models}
    if len(rows) > 1:
        names = ", ".join(row.name for row in rows.values())
        raise UsageError(f"these models are for different data sets ({names}); name models for one of them")
    return next(iter(rows.values()))


def look_at_model(model: LoadedModel, split: str) -> None:
    """Look at a model before it is attacked."""
    images = model.dataset.splits[split]
    few = slice(0, min(PREFLIGHT_IMAGES, len(images)))
    x, labels = images.batch(few), images.labels[few]
    check_model(model.network, x.to(model.device), labels.to(model.device), model.title)
