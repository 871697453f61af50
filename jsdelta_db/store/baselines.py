"""Baselines: rows of ρ, per model and per set of evaluators."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from jsdelta_db.records import Baselines, ImageMeans, LabelPair
from jsdelta_db.store.inserting import insert_rows, replace_rows
from jsdelta_db.store.schema import EvaluationBaseline, RhoBaseline


def write_model_baselines(
    session: Session, *, key: Mapping[str, Any], means: Mapping[LabelPair, ImageMeans]
) -> None:
    """Store or replace one model's baselines with their image means.

    Args:
        key: model_id, dataset_id, split and temperature_rule.
    """
    rows = []
    for (low, high), part in means.items():
        baseline = part.as_baseline()
        rows.append({
            **key, "label_low": low, "label_high": high, "rho": baseline.rho,
            "standard_error": baseline.standard_error if math.isfinite(baseline.standard_error) else None,
            "pairs": baseline.pairs, "n_low": len(part.low),
            "image_means": np.concatenate([part.low, part.high]).astype("<f8").tobytes(),
        })  # fmt: skip
    replace_rows(session, RhoBaseline, rows)


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
    )
    rows = [
        (
            evaluation_id, *pair, baseline.rho, baseline.rho_of_mean,
            baseline.standard_error if math.isfinite(baseline.standard_error) else None,
            baseline.pairs, baseline.images,
        )
        for pair, baseline in baselines.items()
    ]  # fmt: skip
    insert_rows(session, EvaluationBaseline, columns, rows)
