"""Pictures of a constructed data set, as a figure shows them: no network is loaded, nothing is written."""

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from jsdelta_db.compute import data
from jsdelta_db.compute.constructions import choose_partners
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.data.constructed import open_file
from jsdelta_db.config.construction import FEATURE_KINDS
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import UsageError
from jsdelta_db.plots.constructions import Cell, Column
from jsdelta_db.store.constants import BUILTIN
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.datasets import check_fingerprint, get_constructed, root_of


def read_columns(workspace: Workspace, reference: str, limit: int) -> tuple[str, list[Column]]:
    """Return a title and some images of a constructed data set, of as many labels as there is room for.

    Args:
        reference: name or uid.

    Raises:
        UsageError: it is not a finished constructed one.
        DataError: a file is missing or was changed.
    """
    with reading_store(workspace.db_url) as connection, Session(connection) as session:
        if session.query(DatasetRow).filter_by(uid=reference, kind=BUILTIN).count():
            raise UsageError(
                f"dataset {reference!r} is builtin; -o draws what was made from one: see jsdelta dataset list"
            )
        row = get_constructed(session, reference)
        root_row = root_of(session, row)
        lineage = [row]
        while lineage[-1].parent_id is not None:
            lineage.append(session.get_one(DatasetRow, lineage[-1].parent_id))
    root = data.load(root_row.name, workspace.data_dir)
    check_fingerprint(root, root_row)
    found = {each.name: root if each.id == root_row.id else _open(workspace, each, root) for each in lineage}
    made, parent = found[row.name], found[lineage[1].name]
    chosen = _choose(made, limit)
    facts = row.construction or {}
    ball = f", l2 ε = {facts['eps']:g}" if facts["eps"] else ""
    title = (
        f"{row.name}: {facts['kind']}, {facts['steps']} steps of {facts['step_size']:g}{ball}, "
        f"by {facts['ensemble']}:{facts['member']}"
    )
    stages = [found[each.name] for each in reversed(lineage[2:])]
    return title, [_column(made, parent, stages, facts, int(each)) for each in chosen]


def _open(workspace: Workspace, row: DatasetRow, root: Dataset) -> Dataset:
    return open_file(workspace.root / (row.uri or ""), row.sha256, row.name, root)


def _choose(made: Dataset, limit: int) -> NDArray[np.int64]:
    """Return rows to draw: the first image of each label, then the second of each, until there are enough."""
    labels = made.splits["train"].labels.numpy()
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        turn[rows] = np.arange(len(rows))
    picked = np.lexsort((labels, turn))[:limit]
    return np.asarray(picked[np.lexsort((turn[picked], labels[picked]))])


def _column(
    made: Dataset, parent: Dataset, before: list[Dataset], facts: dict[str, object], row: int
) -> Column:
    """Return one image's way from the root's image to the constructed one."""
    index = made.splits["train"].index[row : row + 1]
    cells = {f"origin {n}": _cell(each, index, f"of {each.name}") for n, each in enumerate(before, 1)}
    cells["x"] = original = _cell(parent, index, f"of {parent.name}")
    result = _cell(made, index, "with its new label")
    if facts["kind"] in FEATURE_KINDS:
        split = parent.splits["train"]
        start = split.index[choose_partners(split, split.rows_of(index), int(str(facts["seed"])))]
        cells["start"] = _cell(parent, start, "another image")
    else:
        cells["change"] = Cell(result.pixels - original.pixels, "", is_change=True)
    cells["made"] = result
    return Column(f"image {index[0]}", cells)


def _cell(dataset: Dataset, index: NDArray[np.int64], aside: str) -> Cell:
    split = dataset.splits["train"]
    row = split.rows_of(index)
    label = dataset.classes[int(split.labels[int(row[0])])]
    return Cell(split.batch(row)[0].numpy(), label, aside)
