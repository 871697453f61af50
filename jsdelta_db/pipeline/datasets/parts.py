"""Parts of a constructed data set: one file a batch, so that a stopped build goes on."""

from pathlib import Path
from typing import Any

import numpy as np

from jsdelta_db.compute.constructions import construct
from jsdelta_db.compute.data.constructed import (
    KEYS,
    Arrays,
    read_part,
    write_arrays,
)
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.datasets.plan import Work
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.workbench import Workbench


def make_parts(
    bench: Workbench, row: DatasetRow, facts: dict[str, Any], work: Work, folder: Path
) -> list[Path]:
    """Construct batch by batch; a part that is there and whole is not made again."""
    size, split = int(facts["chunk_size"]), work.parent.splits["train"]
    paths = []
    with bench.progress.task(f"dataset {row.name}", len(work.rows)) as advance:
        for position in range(-(-len(work.rows) // size)):
            rows = work.rows[position * size : (position + 1) * size]
            path = folder / f"part-{position:05d}.npz"
            if read_part(path) is None:
                prepared = work.model.prepared(facts["dtype"], facts.get("prepared_as"))
                images, labels = construct(prepared, split, rows, len(work.root.classes), work.config)
                write_arrays(path, dict(zip(KEYS, (images, labels, split.index[rows]), strict=True)))
            paths.append(path)
            advance(len(rows))
    return paths


def join_parts(parts: list[Path], n: int, image_shape: tuple[int, int, int]) -> Arrays:
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
