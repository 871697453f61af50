"""Pictures of stored samples, as a figure shows them."""

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from jsdelta_db.config.eps import format_eps
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import NothingToDoError
from jsdelta_db.plots.samples import Opinion, SamplePicture
from jsdelta_db.plots.text_histogram import mark_split
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.samples.choice import SampleChoice, find_stored_attack, spread
from jsdelta_db.samples.stored_attack import StoredAttack, StoredOpinion, StoredRows
from jsdelta_db.store.session import reading_store


def read_pictures(
    workspace: Workspace, choice: SampleChoice, limit: int = 8
) -> tuple[str, list[SamplePicture]]:
    """Return a title and pictures of an attack's samples, from the lowest JSΔ to the highest.

    Loads no network: all that is shown is stored.

    Raises:
        NothingToDoError: no attack, or no sample, is as wanted.
        UsageError, DataError, CheckpointError: a name, the data set or a stored file is not as it should be.
    """
    with reading_store(workspace.db_url) as connection, Session(connection) as session:
        stored = find_stored_attack(session, workspace, choice)
        rows = stored.read_rows()
        rows = rows.pick(choice.matches(rows, stored.classes))
        chosen = rows.pick(spread(rows.js_delta, limit))
        if not len(chosen):
            raise NothingToDoError(_nothing(stored, len(rows)))
        return _title(stored), _as_pictures(stored, chosen)


def _nothing(stored: StoredAttack, without_baseline: int) -> str:
    """Say why there is nothing to draw."""
    why = f" with a JSΔ ({without_baseline:,} have none)" if without_baseline else ""
    return (
        f"attack {stored.attack.uid} has no such samples{why}; ask for others with --bugs, --features, "
        "--source, --target or --attack"
    )


def _title(stored: StoredAttack) -> str:
    attack, model = stored.attack, stored.attacked
    return (
        f"{stored.dataset_row.name}, {attack.norm} ε = {format_eps(attack.eps, attack.norm)}"
        f"{mark_split(attack.split)}, "
        f"{model.method} {model.architecture} {model.title}, attack {attack.uid[:8]}"
    )


def _as_pictures(stored: StoredAttack, rows: StoredRows) -> list[SamplePicture]:
    opinions = stored.read_opinions(rows)
    images = stored.read_images(rows)
    kind = "row" if stored.attack.split == FILE_SPLIT else "image"
    return [
        SamplePicture(
            name=f"{kind} {rows.sample_index[i]}",
            source_label=stored.classes[rows.source_label[i]],
            target_label=stored.classes[rows.target_label[i]],
            x=images.x[i],
            x_adv=images.x_adv[i],
            success=bool(rows.success[i]),
            confidence=float(rows.confidence[i]),
            js_delta=float(rows.js_delta[i]),
            opinions=[_as_opinion(each, rows, i) for each in opinions],
        )
        for i in range(len(rows))
    ]


def _as_opinion(stored: StoredOpinion, rows: StoredRows, i: int) -> Opinion:
    source, target = rows.source_label[i], rows.target_label[i]
    before, after = (
        _probs(logits[i] / stored.temperature) for logits in (stored.clean_logits, stored.logits)
    )
    return Opinion(
        evaluator=stored.evaluator,
        source_before=float(before[source]),
        source_after=float(after[source]),
        target_before=float(before[target]),
        target_after=float(after[target]),
        js=float(stored.js[i]),
    )


def _probs(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return softmax probabilities ``(classes,)``."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())
