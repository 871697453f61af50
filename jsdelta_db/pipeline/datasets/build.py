"""Builds of constructed data sets: part by part, then one file and its row.

One image's walk: it is drawn from the train split of the data set that the model was trained on →
``constructions.construct`` moves it, or another image, by the model's gradients → a part file, one per
batch → the finished file, whose name and hash stand in a row of ``dataset`` beside the construction.
"""

from typing import Any

import numpy as np

from jsdelta_db.compute.constructions import configure
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.data.constructed import (
    check_file,
    with_train_split,
    write_arrays,
)
from jsdelta_db.compute.models.inference import predict
from jsdelta_db.config.construction import ConstructionRequest
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.datasets.parts import join_parts, make_parts
from jsdelta_db.pipeline.datasets.plan import Source, Work, check_free, find_source, open_work, plan_row
from jsdelta_db.runtime.cards import card_of
from jsdelta_db.store import runs
from jsdelta_db.store.schema import FAILED, FINISHED
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.tracking import KILLED, RunLog
from jsdelta_db.workbench.claims import claim_or_wait
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench


def build_dataset(
    bench: Workbench, request: ConstructionRequest, *, ensemble: str, name: str, member: int | None = None
) -> tuple[DatasetRow, bool]:
    """Make a data set with a member of an ensemble, from the train split that it was trained on.

    The same construction is found, not made again; a stopped one goes on with the part it was at.

    Args:
        ensemble: name or uid prefix.
        name: of the data set.
        member: seed; the first member if None.

    Returns:
        The row, and whether anything was done.

    Raises:
        UsageError: an unknown name, an ensemble that is not finished, a name that is taken, or a setting
            that is not valid.
        DataError: the data is not there, or a file was changed.
        ModelError: the model cannot be loaded, or has no features.
    """
    with bench.store.read_session() as session:
        source = find_source(session, ensemble, member)
        check_free(session, name)
    config = configure(request, source.root.name)
    work = open_work(bench, source, config)
    row, is_known = plan_row(bench, source, work, name)
    _say_what_differs(bench, row, source, name if is_known else row.name)
    if row.status == FINISHED:
        check_file(bench.locate(row.uri or ""), row.sha256, row.name)
        return row, False
    return _claim_and_build(bench, row, work)


def _say_what_differs(bench: Workbench, row: DatasetRow, source: Source, name: str) -> None:
    facts = row.construction or {}
    if facts.get("note"):
        bench.progress.report(
            f"dataset {row.name!r}: {facts['kind']} is {facts['note']} "
            f"(ensemble {source.ensemble.name!r}); recorded so"
        )
    if row.name != name:
        bench.progress.report(f"this construction is there already, as {row.name!r} ({row.uid})")


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
    _add_card(bench, row, facts, work)
    run = _open_run(bench, claimed, work)
    try:
        with run.closing():
            return _build(bench, claimed, facts, work, run), True
    except Exception:
        with bench.store.transaction() as session:
            runs.leave(session.get_one(DatasetRow, row.id), FAILED)
        raise


def _add_card(bench: Workbench, row: DatasetRow, facts: dict[str, Any], work: Work) -> None:
    """Add the card to the facts, behind those that earlier parts were made on."""
    card = card_of(work.model.device)
    if card is not None:
        facts["cards"] = list(dict.fromkeys([*facts.get("cards", ()), card]))
        with bench.store.transaction() as session:
            session.get_one(DatasetRow, row.id).construction = facts


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
    parts = make_parts(bench, row, facts, work, run.folder / "parts")
    arrays = join_parts(parts, len(work.rows), work.parent.image_shape)
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


def _label_share(model: LoadedModel, dataset: Dataset) -> float:
    """Return how many of the made images the model itself calls by their new label."""
    train = dataset.splits["train"]
    predicted = predict(model.network, train, model.device).argmax(1)
    return float(np.mean(predicted == train.labels.numpy()))
