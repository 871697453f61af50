"""Diagnosis of a workspace: versions, device, store, tracker, data."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sqlalchemy import select

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import JsdeltaError, NoStoreError
from jsdelta_db.maintenance.check import check_pages
from jsdelta_db.pipeline.datasets.unfinished import list_unfinished
from jsdelta_db.runtime.version import installed_version
from jsdelta_db.store.addresses import parse_url, show_url
from jsdelta_db.store.derived import list_without_columns
from jsdelta_db.store.schema import FINISHED, AttackChunk, Dataset, EvaluationChunk, Model
from jsdelta_db.store.session import reading_store
from jsdelta_db.tracking import Connection, Tracker

PACKAGES = ("torch", "torchvision", "sqlalchemy", "alembic", "typer", "rich", "mlflow", "psycopg")
DATA_FILES = {
    "cifar10": "cifar-10-batches-py",
    "svhn": "train_32x32.mat",
    "mnist": "MNIST/raw",
    "fashion-mnist": "FashionMNIST/raw",
    "kmnist": "KMNIST/raw",
    "cifar100": "cifar-100-python",
}

Row = dict[str, str]


def diagnose(workspace: Workspace) -> list[Row]:
    """Return one row per check; ``state`` is ok, missing (nothing there yet) or broken."""
    rows = [_row("jsdelta", "ok", f"{installed_version()} on Python {sys.version.split()[0]}")]
    rows += [_package(name) for name in PACKAGES]
    rows += _computing()
    rows.append(_row("workspace", "ok" if workspace.root.is_dir() else "missing", str(workspace.root)))
    rows += [
        _store(workspace),
        _files(workspace),
        *_columns(workspace),
        *_unfinished(workspace),
        _tracker(workspace),
    ]
    return rows + [_data(workspace.data_dir, name, file) for name, file in DATA_FILES.items()]


def _row(check: str, state: str, found: str) -> Row:
    return {"check": check, "state": state, "found": found}


def _package(name: str) -> Row:
    for distribution in (name, f"{name}-skinny"):  # mlflow-skinny serves as well
        try:
            return _row(name, "ok", version(distribution))
        except PackageNotFoundError:
            continue
    if name == "psycopg":
        return _row(name, "missing", "only PostgreSQL needs it: pip install 'jsdelta[postgres]'")
    return _row(name, "broken", f"not installed: pip install {name}")


def _computing() -> list[Row]:
    import torch

    from jsdelta_db.runtime.cards import list_cards
    from jsdelta_db.runtime.devices import resolve_device, resolve_dtype

    device = resolve_device("auto")
    name = torch.cuda.get_device_name() if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    dtype = str(resolve_dtype("auto", device)).removeprefix("torch.")
    cards = [_card(index) for index in list_cards()]
    return [
        *(cards or [_row("cards", "missing", f"torch {torch.__version__} sees none")]),
        _row("device", "ok", f"{device.type} ({name}), {torch.get_num_threads()} threads"),
        _row("dtype auto", "ok", f"{dtype} inside the networks, by what the device can do"),
    ]


def _card(index: int) -> Row:
    """Look whether a card computes; one that does not is there in vain, but nothing is broken by it."""
    from jsdelta_db.runtime.cards import describe_card, find_fault

    place, _, name = describe_card(index).partition(" ")
    fault = find_fault(index)
    if fault is None:
        return _row(f"card {place}", "ok", f"{name or 'a card'}: a small computation on it is right")
    return _row(f"card {place}", "missing", f"{name or 'a card'} cannot be used: {fault}")


def _store(workspace: Workspace) -> Row:
    try:
        with reading_store(workspace.db_url) as connection:
            is_file = connection.dialect.name == "sqlite"
            broken = check_pages(connection, "quick_check") if is_file else []
    except JsdeltaError as error:
        return _row("store", "missing" if isinstance(error, NoStoreError) else "broken", str(error))
    name = show_url(parse_url(workspace.db_url))
    if broken:
        return _row("store", "broken", f"{name} is damaged ({broken[0]}); restore a backup")
    return _row("store", "ok", name)


def _files(workspace: Workspace) -> Row:
    """Look whether the files that finished rows name are there; ``db check`` reads them, too."""
    try:
        with reading_store(workspace.db_url) as connection:
            named = [
                str(uri)
                for column, status in (
                    (Model.checkpoint_uri, Model.status),
                    (Dataset.uri, Dataset.status),
                    (AttackChunk.uri, AttackChunk.status),
                    (EvaluationChunk.uri, EvaluationChunk.status),
                )
                for uri in connection.scalars(select(column).where(status == FINISHED, column.is_not(None)))
            ]
    except JsdeltaError:
        return _row("files", "missing", "none are named: see the store")
    missing = [uri for uri in named if not (workspace.root / uri).is_file()]
    if not missing:
        return _row("files", "ok", f"{len(named)} named by rows, all there")
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return _row(
        "files", "broken", f"{missing[0]} is missing{more}, of {len(named)}; restore mlruns from a backup"
    )


def _columns(workspace: Workspace) -> Iterator[Row]:
    """Yield a row if evaluations of an older version lack what other measures and models' intervals need."""
    try:
        with reading_store(workspace.db_url) as connection:
            n = len(list_without_columns(connection))
    except JsdeltaError:
        return
    if n:
        what = (
            f"{n} evaluation(s) of an earlier version lack those of other measures, which are read from rows"
        )
        yield _row("columns", "missing", f"{what}; run jsdelta doctor --repair")


def _unfinished(workspace: Workspace) -> Iterator[Row]:
    """Yield a row for each data set whose addition ended before its end."""
    for name in list_unfinished(workspace.root):
        what = "partly decoded; the same jsdelta dataset add goes on, jsdelta doctor --repair removes it"
        yield _row(f"dataset {name}", "missing", what)


def _tracker(workspace: Workspace) -> Row:
    if workspace.tracking_uri is None and not workspace.mlflow_file.exists():
        return _row("mlflow store", "missing", "made by the first training")
    connection = Connection(workspace, lambda line: None)  # a failure is a row of the table, not a line
    runs = Tracker(connection).count_runs()
    if connection.failure is not None:
        return _row("mlflow store", "broken", connection.failure)
    return _row("mlflow store", "ok", f"{connection.shown_uri}: {runs} runs")


def _data(folder: Path, name: str, file: str) -> Row:
    from jsdelta_db.compute.data.published_files import find_root

    is_there = (find_root(folder, file) / file).exists()
    advice = f"not in {folder}; give --data-dir or JSDELTA_DATA_DIR, or train with --download"
    return _row(f"data {name}", "ok" if is_there else "missing", str(folder) if is_there else advice)
