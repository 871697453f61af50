"""What is asked of a store: bug fractions and the JSΔ behind them. Read-only, and free of torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, func, select

from jsdelta_db.config import check_beta
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.statistics import FractionIntervals, Interval
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    Dataset,
    Ensemble,
    Evaluation,
    EvaluationMember,
    Model,
    Sample,
    Score,
)

TOO_FEW = 30  # successes under which a fraction is marked
LABEL_KEYS = ("source_label", "target_label")
DEFAULT_KEYS = ("dataset", "ensemble", "attacked", "norm", "eps")
# What makes attacks of equal default keys different; a column wherever it varies.
CONFIGURATION_KEYS = (
    "method", "arch", "targets", "steps", "relative_step_size", "random_start", "restarts", "objective",
    "stop", "attack_seed", "images", "split", "dtype", "library", "temperature", "baseline",
)  # fmt: skip
BY_CHOICES = (*DEFAULT_KEYS, *CONFIGURATION_KEYS, "evaluators", "label-pair", "source-label", "target-label")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationInfo:
    """A finished evaluation and the wide facts that queries group by."""

    id: int
    uid: str
    attack_id: int
    attack_uid: str
    dataset_id: int
    classes: tuple[str, ...]
    n_skipped: int
    n_attempts: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """The rows of one evaluation, as columns.

    Attributes:
        sample_index, source_label, target_label: ``(n,)``.
        success: ``(n,)``.
        js_delta: ``(n,)``; NaN where the label pair has no baseline.
    """

    sample_index: NDArray[np.int64]
    source_label: NDArray[np.int64]
    target_label: NDArray[np.int64]
    success: NDArray[np.bool_]
    js_delta: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which evaluations a query looks at; None leaves a fact open.

    Attributes:
        ensemble: name or uid prefix of the ensemble whose members judged.
        dataset, method: names.
        eps: stored floats.
        uids: evaluations or attacks, by uid prefix.
    """

    ensemble: str | None = None
    dataset: str | None = None
    method: str | None = None
    eps: tuple[float, ...] = ()
    uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BugTable:
    """Rows of ``query bugs``, and what a reader must know beside them."""

    keys: tuple[str, ...]
    rows: list[Row]
    pooled: Mapping[str, tuple[Any, ...]]


def list_evaluations(connection: Connection, selection: Selection = Selection()) -> list[EvaluationInfo]:
    """Return the finished evaluations that a selection names, oldest first."""
    statement = (
        select(
            Evaluation.id, Evaluation.uid, Evaluation.attack_id, Attack.uid.label("attack_uid"),
            Attack.dataset_id, Dataset.classes, Attack.n_skipped, Attack.n_attempts,
            Dataset.name.label("dataset"), Ensemble.name.label("ensemble"),
            Ensemble.uid.label("ensemble_uid"), Model.seed.label("attacked"), Attack.norm, Attack.eps,
            Model.method, Model.architecture.label("arch"), Attack.target_rule.label("targets"), Attack.steps,
            Attack.step_size, Attack.random_start, Attack.restarts, Attack.objective, Attack.stop,
            Attack.seed.label("attack_seed"), Attack.images, Attack.split, Attack.dtype, Attack.library,
            Evaluation.temperature_rule.label("temperature"), Evaluation.baseline_rule.label("baseline"),
        )
        .join(Attack, Attack.id == Evaluation.attack_id)
        .join(Model, Model.id == Attack.attacked_model_id)
        .join(Dataset, Dataset.id == Attack.dataset_id)
        .outerjoin(Ensemble, Ensemble.id == Evaluation.ensemble_id)
        .where(Evaluation.status == FINISHED)
        .order_by(Evaluation.id)
    )  # fmt: skip
    _check_names(connection, selection)
    if selection.ensemble is not None:
        statement = statement.where(_is_ensemble(selection.ensemble))
    if selection.dataset is not None:
        statement = statement.where(Dataset.name == selection.dataset)
    if selection.method is not None:
        statement = statement.where(Model.method == selection.method)
    if selection.eps:
        statement = statement.where(Attack.eps.in_(selection.eps))
    found = connection.execute(statement).mappings().all()
    if selection.uids:
        known = [row["attack_uid"] for row in found]
        found = [row for row in found if _named(row["uid"], row["attack_uid"], selection.uids)]
        if not found:
            raise UnknownNameError("attack", " ".join(selection.uids), dict.fromkeys(known))
    evaluators = _evaluators(connection)
    ambiguous = _ambiguous_names(found)
    return [_info(row, evaluators.get(row["id"], ""), ambiguous) for row in found]


def count_unfinished(connection: Connection) -> int:
    """Return how many evaluations are not finished: queries leave them out."""
    return connection.scalar(select(func.count()).where(Evaluation.status != FINISHED)) or 0


def _is_ensemble(reference: str) -> ColumnElement[bool]:
    return (Ensemble.name == reference) | Ensemble.uid.startswith(reference, autoescape=True)


def _check_names(connection: Connection, selection: Selection) -> None:
    """Refuse a name that the store does not know: an empty answer would read like "no bugs".

    Raises:
        UnknownNameError: lists what there is.
    """
    if selection.ensemble is not None:
        found = connection.scalar(select(Ensemble.id).where(_is_ensemble(selection.ensemble)).limit(1))
        if found is None:
            names = connection.scalars(select(Ensemble.name).distinct().order_by(Ensemble.name))
            raise UnknownNameError("ensemble", selection.ensemble, names)
    for what, wanted, column in (
        ("dataset", selection.dataset, Dataset.name),
        ("method", selection.method, Model.method),
    ):
        known = list(connection.scalars(select(column).distinct().order_by(column)))
        if wanted is not None and wanted not in known:
            raise UnknownNameError(what, wanted, known)


def _named(uid: str, attack_uid: str, prefixes: Sequence[str]) -> bool:
    return any(uid.startswith(prefix) or attack_uid.startswith(prefix) for prefix in prefixes)


def _evaluators(connection: Connection) -> dict[int, str]:
    """Return each evaluation's judges as text: their seeds, or uids where seeds do not tell them apart."""
    statement = (
        select(EvaluationMember.evaluation_id, Model.seed, Model.uid)
        .join(Model, Model.id == EvaluationMember.model_id)
        .order_by(EvaluationMember.evaluation_id, EvaluationMember.position)
    )
    members: dict[int, list[str]] = {}
    for evaluation_id, seed, uid in connection.execute(statement):
        members.setdefault(evaluation_id, []).append(f"{seed}@{uid[:6]}")
    return {evaluation_id: " ".join(names) for evaluation_id, names in members.items()}


def _ambiguous_names(rows: Iterable[Mapping[Any, Any]]) -> set[str]:
    uids: dict[str, set[str]] = {}
    for row in rows:
        uids.setdefault(row["ensemble"], set()).add(row["ensemble_uid"])
    return {name for name, of_name in uids.items() if len(of_name) > 1}


def _info(row: Mapping[Any, Any], evaluators: str, ambiguous: set[str]) -> EvaluationInfo:
    ensemble = row["ensemble"]
    facts = {key: row[key] for key in (*DEFAULT_KEYS, *CONFIGURATION_KEYS) if key in row}
    facts["ensemble"] = f"{ensemble}@{row['ensemble_uid'][:8]}" if ensemble in ambiguous else ensemble
    facts["relative_step_size"] = round(row["step_size"] * row["steps"] / row["eps"], 6)
    facts["evaluators"] = evaluators
    return EvaluationInfo(
        id=row["id"], uid=row["uid"], attack_id=row["attack_id"], attack_uid=row["attack_uid"],
        dataset_id=row["dataset_id"], classes=tuple(row["classes"]), n_skipped=row["n_skipped"],
        n_attempts=row["n_attempts"], facts=facts,
    )  # fmt: skip


def load_scores(connection: Connection, evaluation: EvaluationInfo) -> ScoreColumns:
    """Return the rows of one evaluation."""
    statement = (
        select(Sample.sample_index, Sample.source_label, Sample.target_label, Sample.success, Score.js_delta)
        .join(
            Score,
            (Score.sample_index == Sample.sample_index) & (Score.requested_target == Sample.requested_target),
        )
        .where(Sample.attack_id == evaluation.attack_id, Score.evaluation_id == evaluation.id)
    )
    rows = connection.execute(statement).all()
    table = np.array([tuple(row) for row in rows], dtype=np.float64).reshape(-1, 5)  # None becomes NaN
    index, source, target, success = table[:, :4].astype(np.int64).T
    return ScoreColumns(index, source, target, success.astype(bool), table[:, 4])


def query_bugs(
    connection: Connection,
    betas: Sequence[float],
    by: Sequence[str] = (),
    selection: Selection = Selection(),
) -> BugTable:
    """Return the share of bugs among successful attacks, for each group and each β.

    Args:
        betas: thresholds on JSΔ; a sample is a bug strictly below.
        by: what to group by (see ``BY_CHOICES``); empty for one row per dataset, ensemble, attacked
            model, norm and ε, and whatever else differs among the selected attacks.

    Raises:
        UsageError: a β outside (0, ∞), or an unknown grouping.
    """
    for beta in betas:
        check_beta(beta)
    evaluations = list_evaluations(connection, selection)
    keys = resolve_keys(by, evaluations)
    grouped: dict[tuple[Any, ...], list[tuple[EvaluationInfo, ScoreColumns]]] = {}
    for evaluation in evaluations:
        for group, columns in _split_by(evaluation, load_scores(connection, evaluation), keys):
            grouped.setdefault(group, []).append((evaluation, columns))
    rows = [
        {**dict(zip(keys, group, strict=True)), **counts}
        for group in sorted(grouped, key=lambda group: [_sort_key(value) for value in group])
        for counts in _count_bugs(grouped[group], betas, by_label=bool(set(keys) & set(LABEL_KEYS)))
    ]
    return BugTable(keys, rows, _pooled(evaluations, keys) if by else {})


def summary_metrics(rows: Iterable[Row]) -> dict[int, dict[str, float | None]]:
    """Return what a tracker logs of the rows of ``query_bugs``: metrics by step = round(255·ε)."""
    by_step: dict[int, dict[str, float | None]] = {}
    for row in rows:
        metrics = by_step.setdefault(round(row["eps"] * 255), {})
        attempted = row["n_attempted"]
        metrics["success_rate"] = row["n_success"] / attempted if attempted else None
        metrics[f"bug_fraction_beta_{row['beta']:g}"] = row["bug_fraction"]
    return by_step


def resolve_keys(by: Sequence[str], evaluations: Sequence[EvaluationInfo]) -> tuple[str, ...]:
    """Turn ``--by`` into the keys of a row.

    Raises:
        UnknownNameError: an unknown grouping.
        UsageError: one given twice.
    """
    keys: list[str] = []
    for name in by:
        if name not in BY_CHOICES:
            raise UnknownNameError("--by", name, BY_CHOICES)
        keys += LABEL_KEYS if name == "label-pair" else (name.replace("-label", "_label"),)
    if len(set(keys)) < len(keys):
        raise UsageError(f"--by {','.join(by)} names something twice; give each grouping once")
    if keys:
        return tuple(keys)
    differing = [key for key in CONFIGURATION_KEYS if len({e.facts[key] for e in evaluations}) > 1]
    # Each attacked model has evaluators of its own; a column only where the same one was judged twice.
    groups = [tuple(e.facts[key] for key in (*DEFAULT_KEYS, *differing)) for e in evaluations]
    judged_twice = len(set(groups)) < len(groups)
    return (*DEFAULT_KEYS, *differing, *(("evaluators",) if judged_twice else ()))


def _split_by(
    evaluation: EvaluationInfo, columns: ScoreColumns, keys: Sequence[str]
) -> Iterator[tuple[tuple[Any, ...], ScoreColumns]]:
    """Divide an evaluation's rows by the label keys, if there are any."""
    labels = [getattr(columns, key) for key in keys if key in LABEL_KEYS]
    if not labels:
        yield tuple(evaluation.facts[key] for key in keys), columns
        return
    for values in np.unique(np.stack(labels, axis=1), axis=0):
        mask = np.all([label == value for label, value in zip(labels, values, strict=True)], axis=0)
        names = iter(evaluation.classes[value] for value in values)
        group = tuple(next(names) if key in LABEL_KEYS else evaluation.facts[key] for key in keys)
        part = ScoreColumns(*(getattr(columns, name)[mask] for name in ScoreColumns.__slots__))
        yield group, part


def _count_bugs(
    parts: Sequence[tuple[EvaluationInfo, ScoreColumns]], betas: Sequence[float], *, by_label: bool
) -> Iterator[Row]:
    """Count one group, for each β."""
    js_delta = np.concatenate([columns.js_delta for _, columns in parts])
    defined = ~np.isnan(js_delta)
    success = np.concatenate([columns.success for _, columns in parts])[defined]
    # An image is the same one in every attack on its data set.
    image = np.concatenate([(e.dataset_id << 40) + columns.sample_index for e, columns in parts])[defined]
    intervals = FractionIntervals(image)
    attempted = np.ones_like(success)
    skipped = {evaluation.attack_id: evaluation.n_skipped for evaluation, _ in parts}
    for beta in betas:
        bugs = success & (js_delta[defined] < beta)
        of_success, of_attempts = intervals.interval(bugs, success), intervals.interval(bugs, attempted)
        n_bugs, n_success, n_attempted = int(bugs.sum()), int(success.sum()), len(success)
        yield {
            "beta": beta,
            "n_attempted": n_attempted,
            "n_skipped": None if by_label else sum(skipped.values()),
            "n_success": n_success,
            "n_no_baseline": int((~defined).sum()),
            "n_bugs": n_bugs,
            "bug_fraction": n_bugs / n_success if n_success else None,
            **_bounds("bug_fraction", of_success),
            "bug_rate": n_bugs / n_attempted if n_attempted else None,
            **_bounds("bug_rate", of_attempts),
            "interval": next((interval.kind for interval in (of_success, of_attempts) if interval), None),
            "too_few": n_success < TOO_FEW,
        }


def _bounds(name: str, interval: Interval | None) -> Row:
    return {
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }


def _pooled(evaluations: Sequence[EvaluationInfo], keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return what differs among the evaluations but is not a key: it is pooled in every row."""
    candidates = [*DEFAULT_KEYS, *CONFIGURATION_KEYS]
    values = {
        key: tuple(dict.fromkeys(e.facts[key] for e in evaluations)) for key in candidates if key not in keys
    }
    if "evaluators" not in keys and len({e.attack_id for e in evaluations}) < len(evaluations):
        values["evaluators"] = tuple(dict.fromkeys(e.facts["evaluators"] for e in evaluations))
    return {key: different for key, different in values.items() if len(different) > 1}


def _sort_key(value: object) -> tuple[int, Any]:
    """Order numbers before text and nothing first, so that mixed columns sort."""
    if value is None:
        return (0, 0)
    return (1, value) if isinstance(value, int | float) else (2, str(value))


def js_delta_by_eps(
    connection: Connection,
    selection: Selection = Selection(),
) -> dict[tuple[str, float], NDArray[np.float64]]:
    """Return the JSΔ of all successful samples that have one, by norm and ε, ascending."""
    found: dict[tuple[str, float], list[NDArray[np.float64]]] = {}
    for evaluation in list_evaluations(connection, selection):
        columns = load_scores(connection, evaluation)
        values = columns.js_delta[columns.success & ~np.isnan(columns.js_delta)]
        found.setdefault((evaluation.facts["norm"], evaluation.facts["eps"]), []).append(values)
    return {key: np.concatenate(found[key]) for key in sorted(found)}
