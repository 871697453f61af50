"""Stored samples as what a figure of them shows."""

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from jsdelta_db.config.eps import format_eps
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import NothingToDoError
from jsdelta_db.plots.samples import Opinion, SamplePicture
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.samples.choice import SampleFilter, get_stored_attack, spread
from jsdelta_db.samples.stored_attack import StoredAttack, StoredOpinion, StoredRows
from jsdelta_db.store.session import reading_store


def read_pictures(
    workspace: Workspace,
    wanted: SampleFilter,
    *,
    attack: str | None = None,
    evaluation: str | None = None,
    limit: int = 8,
) -> tuple[str, list[SamplePicture]]:
    """Return a title and pictures of an attack's samples, from the lowest JSΔ to the highest.

    Loads no network: all that is shown was kept.

    Args:
        attack, evaluation: see :func:`jsdelta_db.samples.choice.get_stored_attack`.

    Raises:
        NothingToDoError: no attack, or no sample, is as wanted.
        UsageError, DataError, CheckpointError: a name, the data set or a kept file is not what it should be.
    """
    with reading_store(workspace.db_url) as connection, Session(connection) as session:
        kept = get_stored_attack(session, workspace, attack, evaluation)
        rows = kept.read_rows()
        rows = rows.pick(wanted.matches(rows, kept.classes))
        chosen = rows.pick(spread(rows.js_delta, limit))
        if not len(chosen):
            raise NothingToDoError(_nothing(kept, len(rows)))
        return _title(kept), _as_pictures(kept, chosen)


def _nothing(kept: StoredAttack, without_baseline: int) -> str:
    """Say why there is nothing to draw."""
    why = f" with a JSΔ ({without_baseline:,} have none)" if without_baseline else ""
    return (
        f"attack {kept.attack.uid} has no such samples{why}; ask for others with --bugs, --features, "
        "--source, --target or --attack"
    )


def _title(kept: StoredAttack) -> str:
    attack, model = kept.attack, kept.attacked
    return (
        f"{kept.dataset_row.name}, {attack.norm} ε = {format_eps(attack.eps, attack.norm)}, "
        f"{model.method} {model.architecture} {model.name or f'seed {model.seed}'}, attack {attack.uid[:8]}"
    )


def _as_pictures(kept: StoredAttack, rows: StoredRows) -> list[SamplePicture]:
    opinions = kept.read_opinions(rows)
    images = kept.read_images(rows)
    kind = "row" if kept.attack.split == FILE_SPLIT else "image"
    return [
        SamplePicture(
            name=f"{kind} {rows.sample_index[i]}",
            source_label=kept.classes[rows.source_label[i]],
            target_label=kept.classes[rows.target_label[i]],
            x=images.x[i],
            x_adv=images.x_adv[i],
            success=bool(rows.success[i]),
            confidence=float(rows.confidence[i]),
            js_delta=float(rows.js_delta[i]),
            opinions=[_as_opinion(said, rows, i) for said in opinions],
        )
        for i in range(len(rows))
    ]


def _as_opinion(said: StoredOpinion, rows: StoredRows, i: int) -> Opinion:
    source, target = rows.source_label[i], rows.target_label[i]
    before, after = (_probs(logits[i] / said.temperature) for logits in (said.clean_logits, said.logits))
    return Opinion(
        evaluator=said.evaluator,
        source_before=float(before[source]),
        source_after=float(after[source]),
        target_before=float(before[target]),
        target_after=float(after[target]),
        js=float(said.js[i]),
    )


def _probs(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return softmax probabilities ``(classes,)``."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())
