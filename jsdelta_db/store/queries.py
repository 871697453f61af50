"""What is asked of a store: bug fractions and the JSΔ behind them. Read-only, and free of torch."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config import check_beta
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.statistics import FractionIntervals, Interval
from jsdelta_db.store.constants import FINISHED
from jsdelta_db.store.reading import Reader, fetch

TOO_FEW = 30  # successes under which a fraction is marked
LABEL_KEYS = ("source_label", "target_label")
DEFAULT_KEYS = ("dataset", "ensemble", "attacked", "norm", "eps")
# What makes attacks of equal default keys different; a column wherever it varies.
CONFIGURATION_KEYS = (
    "method", "arch", "targets", "steps", "relative_step_size", "random_start", "restarts", "objective",
    "stop", "attack_seed", "images", "split", "device", "dtype", "library", "temperature", "baseline",
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


FINISHED_EVALUATIONS = f"""
SELECT evaluation.id, evaluation.uid, evaluation.attack_id, attack.uid AS attack_uid, attack.dataset_id,
       dataset.classes, attack.n_skipped, attack.n_attempts, attack.step_size,
       ensemble.uid AS ensemble_uid,
       dataset.name AS dataset, ensemble.name AS ensemble, model.seed AS attacked, attack.norm, attack.eps,
       model.method, model.architecture AS arch, attack.target_rule AS targets, attack.steps,
       attack.random_start, attack.restarts, attack.objective, attack.stop, attack.seed AS attack_seed,
       attack.images, attack.split, attack.requested_device AS device, attack.dtype, attack.library,
       evaluation.temperature_rule AS temperature, evaluation.baseline_rule AS baseline
FROM evaluation
JOIN attack ON attack.id = evaluation.attack_id
JOIN model ON model.id = attack.attacked_model_id
JOIN dataset ON dataset.id = attack.dataset_id
LEFT JOIN ensemble ON ensemble.id = evaluation.ensemble_id
WHERE evaluation.status = '{FINISHED}'
ORDER BY evaluation.id
"""  # noqa: S608 a constant
COLUMNS = (
    "id", "uid", "attack_id", "attack_uid", "dataset_id", "classes", "n_skipped", "n_attempts", "step_size",
    "ensemble_uid", "dataset", "ensemble", "attacked", "norm", "eps", "method", "arch", "targets", "steps",
    "random_start", "restarts", "objective", "stop", "attack_seed", "images", "split", "device", "dtype",
    "library", "temperature", "baseline",
)  # fmt: skip
EVALUATORS = """
SELECT evaluation_member.evaluation_id, model.seed, model.uid
FROM evaluation_member JOIN model ON model.id = evaluation_member.model_id
ORDER BY evaluation_member.evaluation_id, evaluation_member.position
"""
SCORES = """
SELECT sample.sample_index, sample.source_label, sample.target_label, sample.success, score.js_delta
FROM sample
JOIN score ON score.sample_index = sample.sample_index AND score.requested_target = sample.requested_target
WHERE sample.attack_id = :attack_id AND score.evaluation_id = :evaluation_id
"""


def list_evaluations(reader: Reader, selection: Selection = Selection()) -> list[EvaluationInfo]:
    """Return the finished evaluations that a selection names, oldest first.

    Raises:
        UnknownNameError: a name that the store does not have.
    """
    found = [dict(zip(COLUMNS, row, strict=True)) for row in fetch(reader, FINISHED_EVALUATIONS)]
    _check_names(reader, selection)
    found = [row for row in found if _is_selected(row, selection)]
    if selection.uids:
        named = {uid for prefix in selection.uids for uid in _resolve_uid(prefix, found)}
        found = [row for row in found if named & {row["uid"], row["attack_uid"]}]
    evaluators = _evaluators(reader)
    ambiguous = _ambiguous_names(found)
    return [_info(row, evaluators.get(row["id"], ""), ambiguous) for row in found]


def count_unfinished(reader: Reader) -> int:
    """Return how many evaluations are not finished: queries leave them out."""
    ((count,),) = fetch(reader, "SELECT count(*) FROM evaluation WHERE status <> :status", status=FINISHED)
    return int(count)


def _is_selected(row: Row, selection: Selection) -> bool:
    return (
        (selection.ensemble is None or _is_ensemble(selection.ensemble, row["ensemble"], row["ensemble_uid"]))
        and selection.dataset in (None, row["dataset"])
        and selection.method in (None, row["method"])
        and (not selection.eps or row["eps"] in selection.eps)
    )


def _is_ensemble(reference: str, name: str | None, uid: str | None) -> bool:
    return uid is not None and (reference == name or uid.startswith(reference))


def _check_names(reader: Reader, selection: Selection) -> None:
    """Refuse a name that the store does not know: an empty answer would read like "no bugs".

    Raises:
        UnknownNameError: lists what there is.
    """
    if selection.ensemble is not None:
        ensembles = fetch(reader, "SELECT name, uid FROM ensemble ORDER BY name")
        if not any(_is_ensemble(selection.ensemble, *ensemble) for ensemble in ensembles):
            raise UnknownNameError(
                "ensemble", selection.ensemble, dict.fromkeys(name for name, _ in ensembles)
            )
    for what, wanted, sql in (
        ("dataset", selection.dataset, "SELECT DISTINCT name FROM dataset ORDER BY name"),
        ("method", selection.method, "SELECT DISTINCT method FROM model ORDER BY method"),
    ):
        if wanted is not None:
            known = [name for (name,) in fetch(reader, sql)]
            if wanted not in known:
                raise UnknownNameError(what, wanted, known)


def _resolve_uid(prefix: str, rows: Sequence[Row]) -> set[str]:
    """Return the uid of the one attack or evaluation that a prefix names.

    Raises:
        UnknownNameError: none.
        UsageError: several.
    """
    named = {row[key] for row in rows for key in ("uid", "attack_uid") if row[key].startswith(prefix)}
    if not named:
        raise UnknownNameError("attack", prefix, dict.fromkeys(row["attack_uid"] for row in rows))
    if len(named) > 1:
        raise UsageError(
            f"--attack {prefix!r} names {len(named)}; give one by its uid: {', '.join(sorted(named))}"
        )
    return named


def _evaluators(reader: Reader) -> dict[int, str]:
    """Return each evaluation's judges as text: seeds, with the start of the uid to tell equal seeds apart."""
    members: dict[int, list[str]] = {}
    for evaluation_id, seed, uid in fetch(reader, EVALUATORS):
        members.setdefault(evaluation_id, []).append(f"{seed}@{uid[:6]}")
    return {evaluation_id: " ".join(names) for evaluation_id, names in members.items()}


def _ambiguous_names(rows: Iterable[Mapping[Any, Any]]) -> set[str]:
    uids: dict[str, set[str]] = {}
    for row in rows:
        uids.setdefault(row["ensemble"], set()).add(row["ensemble_uid"])
    return {name for name, of_name in uids.items() if len(of_name) > 1}


def _info(row: Mapping[Any, Any], evaluators: str, ambiguous: set[str]) -> EvaluationInfo:
    ensemble = row["ensemble"]
    # JSON: text from SQLite, a list from PostgreSQL.
    classes = json.loads(row["classes"]) if isinstance(row["classes"], str) else row["classes"]
    facts = {key: row[key] for key in (*DEFAULT_KEYS, *CONFIGURATION_KEYS) if key in row}
    facts["ensemble"] = f"{ensemble}@{row['ensemble_uid'][:8]}" if ensemble in ambiguous else ensemble
    facts["relative_step_size"] = round(row["step_size"] * row["steps"] / row["eps"], 6)
    facts["random_start"] = bool(row["random_start"])
    facts["evaluators"] = evaluators
    return EvaluationInfo(
        id=row["id"], uid=row["uid"], attack_id=row["attack_id"], attack_uid=row["attack_uid"],
        dataset_id=row["dataset_id"], classes=tuple(classes), n_skipped=row["n_skipped"],
        n_attempts=row["n_attempts"], facts=facts,
    )  # fmt: skip


def load_scores(reader: Reader, evaluation: EvaluationInfo) -> ScoreColumns:
    """Return the rows of one evaluation."""
    rows = fetch(reader, SCORES, attack_id=evaluation.attack_id, evaluation_id=evaluation.id)
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)  # None becomes NaN
    index, source, target, success = table[:, :4].astype(np.int64).T
    return ScoreColumns(index, source, target, success.astype(bool), table[:, 4])


def query_bugs(
    reader: Reader,
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
    evaluations = list_evaluations(reader, selection)
    keys = resolve_keys(by, evaluations)
    grouped: dict[tuple[Any, ...], list[tuple[EvaluationInfo, ScoreColumns]]] = {}
    for evaluation in evaluations:
        for group, columns in _split_by(evaluation, load_scores(reader, evaluation), keys):
            grouped.setdefault(group, []).append((evaluation, columns))
    rows = [
        {**dict(zip(keys, group, strict=True)), **counts}
        for group in sorted(grouped, key=lambda group: [_sort_key(value) for value in group])
        for counts in _count_bugs(grouped[group], betas, by_label=bool(set(keys) & set(LABEL_KEYS)))
    ]
    return BugTable(keys, rows, find_pooled(evaluations, keys) if by else {})


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
    skipped = {evaluation.id: evaluation.n_skipped for evaluation, _ in parts}
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
            "interval": " / ".join(dict.fromkeys(i.kind for i in (of_success, of_attempts) if i)) or None,
            "too_few": n_success < TOO_FEW,
        }


def _bounds(name: str, interval: Interval | None) -> Row:
    return {
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }


def find_pooled(evaluations: Sequence[EvaluationInfo], keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
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
    reader: Reader,
    selection: Selection = Selection(),
) -> dict[tuple[str, float], NDArray[np.float64]]:
    """Return the JSΔ of all successful samples that have one, by norm and ε, ascending."""
    found: dict[tuple[str, float], list[NDArray[np.float64]]] = {}
    for evaluation in list_evaluations(reader, selection):
        columns = load_scores(reader, evaluation)
        values = columns.js_delta[columns.success & ~np.isnan(columns.js_delta)]
        found.setdefault((evaluation.facts["norm"], evaluation.facts["eps"]), []).append(values)
    return {key: np.concatenate(found[key]) for key in sorted(found)}
