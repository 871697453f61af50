"""Baselines: rows of ρ, per model and per set of evaluators."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.errors import StoreError
from jsdelta_db.records import Baselines, ImageMeans, LabelPair
from jsdelta_db.store.digests import OF_BASELINE, digest_baseline
from jsdelta_db.store.inserting import insert_rows, replace_rows
from jsdelta_db.store.schema import Dataset, EvaluationBaseline, Model, RhoBaseline

ROWS_AT_ONCE = 1000  # read as objects


def write_model_baselines(
    session: Session, *, key: Mapping[str, Any], means: Mapping[LabelPair, ImageMeans]
) -> None:
    """Store or replace one model's baselines with their image means.

    Args:
        key: model_id, dataset_id, split and temperature_rule.
    """
    model = session.get_one(Model, key["model_id"]).uid
    dataset = session.get_one(Dataset, key["dataset_id"]).uid
    rows = []
    for (low, high), part in means.items():
        baseline = part.as_baseline()
        row = {
            **key, "label_low": low, "label_high": high, "rho": baseline.rho,
            "standard_error": baseline.standard_error if math.isfinite(baseline.standard_error) else None,
            "pairs": baseline.pairs, "n_low": len(part.low),
            "image_means": np.concatenate([part.low, part.high]).astype("<f8").tobytes(),
        }  # fmt: skip
        rows.append({**row, "digest": digest_baseline(model, dataset, row)})
    replace_rows(session, RhoBaseline, rows)


def read_model_baselines(
    session: Session, *, key: Mapping[str, Any], pairs: Collection[LabelPair]
) -> dict[LabelPair, ImageMeans]:
    """Return one model's baselines of some label pairs, those that are stored.

    Args:
        key: as for :func:`write_model_baselines`.

    Raises:
        StoreError: one is not as it was stored.
    """
    means = {}
    # Held, so that the session does not fetch both again for each row's digest.
    held = session.get(Model, key["model_id"]), session.get(Dataset, key["dataset_id"])
    # With many classes a store may have half a million of them: others are not read.
    wanted = select(RhoBaseline).filter_by(**key).where(RhoBaseline.label_low.in_({low for low, _ in pairs}))
    for row in session.scalars(wanted.execution_options(yield_per=ROWS_AT_ONCE)):
        if (row.label_low, row.label_high) not in pairs:
            continue
        if is_altered(session, row):
            raise StoreError(
                f"the baseline of labels {row.label_low} and {row.label_high} of model "
                f"{session.get_one(Model, row.model_id).uid} is altered; run jsdelta doctor --repair"
            )
        values = np.frombuffer(row.image_means, dtype="<f8")
        low, high = values[: row.n_low], values[row.n_low :]
        n_drawn = row.pairs if row.pairs < len(low) * len(high) else None
        means[row.label_low, row.label_high] = ImageMeans(low, high, n_drawn)
    del held
    return means


def is_altered(session: Session, row: RhoBaseline) -> bool:
    """Return whether a model's baseline is not as it was stored; one without a digest is from before."""
    return row.digest is not None and row.digest != stored_digest(session, row)


def stored_digest(session: Session, row: RhoBaseline) -> str | None:
    """Return the digest of a model's baseline as it is; None if it cannot be one of ours."""
    model, dataset = session.get(Model, row.model_id), session.get(Dataset, row.dataset_id)
    if model is None or dataset is None or not isinstance(row.image_means, bytes):
        return None
    facts = {name: getattr(row, name) for name in (*OF_BASELINE, "image_means")}
    return digest_baseline(model.uid, dataset.uid, facts)


def write_evaluation_baselines(session: Session, *, evaluation_id: int, baselines: Baselines) -> None:
    """Store the baselines of a set of evaluators."""
    columns = (
        "evaluation_id",
        "label_low",
        "label_high",
        "rho",
        "rho_of_mean",
        "standard_error",
        "pairs",
        "images",
        "rho_of_mean_without",
    )
    rows = [
        (
            evaluation_id, *pair, baseline.rho, baseline.rho_of_mean,
            baseline.standard_error if math.isfinite(baseline.standard_error) else None,
            baseline.pairs, baseline.images,
            np.array(baseline.rho_of_mean_without, "<f8").tobytes() or None,
        )
        for pair, baseline in baselines.items()
    ]  # fmt: skip
    insert_rows(session, EvaluationBaseline, columns, rows)
