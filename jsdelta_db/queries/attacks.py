"""Attacks: every one of the store, finished or not, with its settings, progress and evaluations."""

import json
from typing import Any

from jsdelta_db.queries.selection import Row
from jsdelta_db.store.constants import FINISHED
from jsdelta_db.store.naming import ANY_PREFIX, get_match
from jsdelta_db.store.reading import Reader, fetch

ATTACK_KEYS = (
    "attack", "created_at", "status", "attempts_done", "attempts", "dataset", "ensemble", "attacked",
    "method", "norm", "eps", "targets", "steps", "objective", "library", "evaluations", "mlflow_run",
)  # fmt: skip
# Of one attack, in the order in which people read them.
FACT_KEYS = (
    *ATTACK_KEYS, "finished_at", "split", "images", "n_images", "n_skipped", "step_size", "random_start",
    "restarts", "stop", "seed", "library_version", "attack_by", "surrogates", "chunk_size", "device", "dtype",
    "prepared_as", "threads", "card", "attacked_uid", "files", "evaluators", "controls_passed",
    "controls_failed",
)  # fmt: skip
ATTACKS = """
SELECT attack.id, attack.uid, attack.created_at, attack.finished_at, attack.n_attempts, dataset.name,
       model.name, model.seed, model.method, model.uid, attack.norm, attack.eps, attack.target_rule,
       attack.steps,
       attack.objective, attack.library, attack.library_version, attack.mlflow_run_id, attack.split,
       attack.images, attack.n_images, attack.n_skipped, attack.step_size, attack.random_start,
       attack.restarts, attack.stop, attack.seed, attack.attack_by, attack.chunk_size, attack.device,
       attack.dtype, attack.prepared_as, attack.threads, attack.artifact_uri
FROM attack
JOIN model ON model.id = attack.attacked_model_id
JOIN dataset ON dataset.id = attack.dataset_id
ORDER BY attack.id
"""
OF_ATTACK = (
    "id", "attack", "created_at", "finished_at", "attempts", "dataset", "name", "model_seed", "method",
    "attacked_uid", "norm", "eps", "targets", "steps", "objective", "library", "library_version",
    "mlflow_run", "split", "images", "n_images", "n_skipped", "step_size", "random_start", "restarts", "stop",
    "seed", "attack_by", "chunk_size", "device", "dtype", "prepared_as", "threads", "files",
)  # fmt: skip
CHUNKS = """
SELECT attack_id, status, sum(n_attempts), max(card) FROM attack_chunk GROUP BY attack_id, status
"""
EVALUATIONS = """
SELECT evaluation.attack_id, evaluation.uid, evaluation.status, ensemble.name
FROM evaluation LEFT JOIN ensemble ON ensemble.id = evaluation.ensemble_id ORDER BY evaluation.id
"""
EVALUATORS = """
SELECT evaluation.uid, model.name, model.seed, model.uid
FROM evaluation_member
JOIN evaluation ON evaluation.id = evaluation_member.evaluation_id
JOIN model ON model.id = evaluation_member.model_id
ORDER BY evaluation.id, evaluation_member.position
"""
SURROGATES = """
SELECT attack_surrogate.attack_id, model.name, model.seed, model.uid
FROM attack_surrogate JOIN model ON model.id = attack_surrogate.model_id ORDER BY 1, attack_surrogate.position
"""
CONTROLS = """
SELECT evaluation.attack_id, control_result.passed, count(*)
FROM control_result JOIN evaluation ON evaluation.id = control_result.evaluation_id
WHERE control_result.passed IS NOT NULL GROUP BY evaluation.attack_id, control_result.passed
"""


def query_attacks(reader: Reader) -> list[Row]:
    """Return all attacks, oldest first, each with ``FACT_KEYS``.

    ``status`` is finished when every attempt and every evaluation is; ``ensemble`` is the one whose members
    judge first; ``evaluators`` stand after each evaluation's uid.
    """
    rows = {row[0]: dict(zip(OF_ATTACK, row, strict=True)) for row in fetch(reader, ATTACKS)}
    for row in rows.values():
        row |= {
            "attacked": _title(row["name"], row["model_seed"], row["attacked_uid"]),
            "created_at": _as_text(row["created_at"]), "finished_at": _as_text(row["finished_at"]),
            "random_start": bool(row["random_start"]), "attack_by": _as_json(row["attack_by"]),
            "attempts_done": 0, "status": FINISHED, "card": None, "ensemble": None, "evaluations": [],
            "surrogates": [], "evaluators": [], "controls_passed": 0, "controls_failed": 0,
        }  # fmt: skip
    _add_progress(reader, rows)
    _add_evaluations(reader, rows)
    for attack_id, name, seed, uid in fetch(reader, SURROGATES):
        rows[attack_id]["surrogates"].append(_title(name, seed, uid))
    for attack_id, passed, count in fetch(reader, CONTROLS):
        rows[attack_id]["controls_passed" if passed else "controls_failed"] = int(count)
    return [{key: _joined(row[key]) for key in FACT_KEYS} for row in rows.values()]


def get_attack(reader: Reader, reference: str) -> Row:
    """Return the attack of a uid, or of one of its evaluations' uids; a unique prefix is enough.

    Raises:
        UnknownNameError: there is none.
        UsageError: a prefix of several.
    """
    rows = query_attacks(reader)
    uids = [(uid, row) for row in rows for uid in (row["attack"], *(row["evaluations"] or "").split())]
    known = [row["attack"] for row in rows]
    candidates = [(None, uid, row) for uid, row in uids]
    return get_match("attack", reference, candidates, known, shortest=ANY_PREFIX)


def _add_progress(reader: Reader, rows: dict[int, Row]) -> None:
    for attack_id, status, count, card in fetch(reader, CHUNKS):
        row = rows[attack_id]
        row["card"] = card or row["card"]
        if status == FINISHED:
            row["attempts_done"] += int(count)
        else:
            row["status"] = "unfinished"


def _add_evaluations(reader: Reader, rows: dict[int, Row]) -> None:
    evaluators: dict[str, list[str]] = {}
    for evaluation, name, seed, uid in fetch(reader, EVALUATORS):
        evaluators.setdefault(evaluation, []).append(_title(name, seed, uid))
    for attack_id, uid, status, ensemble in fetch(reader, EVALUATIONS):
        row = rows[attack_id]
        row["evaluations"].append(uid)
        row["evaluators"].append(f"{uid[:8]}: {', '.join(evaluators.get(uid, []))}")
        row["ensemble"] = row["ensemble"] or ensemble
        if status != FINISHED:
            row["status"] = "unfinished"


def _title(name: str | None, seed: int, uid: str) -> str:
    """Return what people call a model."""
    return f"{seed}@{uid[:6]}" if name is None else name


def _as_text(moment: object) -> str | None:
    """Return a time in UTC to the second; SQLite has it as text, PostgreSQL as a time."""
    return None if moment is None else str(moment)[:19]


def _as_json(value: Any) -> str | None:  # noqa: ANN401 text from SQLite, a dict from PostgreSQL
    if value is None:
        return None
    return json.dumps(json.loads(value) if isinstance(value, str) else value, sort_keys=True)


def _joined(value: object) -> object:
    if isinstance(value, list):
        separator = "; " if any(":" in str(each) for each in value) else " "
        return separator.join(value) or None
    return value
