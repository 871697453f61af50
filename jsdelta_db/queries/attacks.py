"""Attacks: every one of the store, finished or not, with its settings, progress and evaluations."""

import json
from collections.abc import Mapping
from typing import Any

from jsdelta_db.queries.attack_commands import as_command
from jsdelta_db.queries.facts.rows import Facts, tell_apart
from jsdelta_db.queries.selection import ModelInfo, Row, Selection, select_rows
from jsdelta_db.store.constants import FINISHED
from jsdelta_db.store.naming import ANY_PREFIX, get_match
from jsdelta_db.store.reading import Reader, fetch

ATTACK_KEYS = (
    "attack", "created_at", "status", "attempts_done", "attempts", "dataset", "attacked_ensemble", "attacked",
    "method", "judged_by", "norm", "eps", "targets", "steps", "objective", "library", "evaluations",
    "mlflow_run", "command",
)  # fmt: skip
# Of one attack, in the order in which people read them.
FACT_KEYS = (
    *ATTACK_KEYS, "trained_on", "finished_at", "split", "images", "n_images", "n_skipped", "step_size",
    "random_start", "restarts", "stop", "seed", "library_version", "attack_by", "surrogates", "chunk_size",
    "device", "dtype", "prepared_as", "threads", "card", "attacked_uid", "files", "evaluators",
    "controls_passed", "controls_failed",
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
EVALUATIONS = "SELECT attack_id, uid, status FROM evaluation ORDER BY id"
EVALUATORS = """
SELECT evaluation.uid, model.name, model.seed, model.uid
FROM evaluation_member
JOIN evaluation ON evaluation.id = evaluation_member.evaluation_id
JOIN model ON model.id = evaluation_member.model_id
ORDER BY evaluation.id, evaluation_member.position
"""
EVERYTHING = Selection()
MEMBERS = "SELECT ensemble_id, count(*) FROM ensemble_member GROUP BY ensemble_id"
CONTROLS = """
SELECT evaluation.attack_id, control_result.passed, count(*)
FROM control_result JOIN evaluation ON evaluation.id = control_result.evaluation_id
WHERE control_result.passed IS NOT NULL GROUP BY evaluation.attack_id, control_result.passed
"""


def query_attacks(reader: Reader, selection: Selection = EVERYTHING) -> list[Row]:
    """Return the attacks of a selection, finished or not, oldest first, each with ``FACT_KEYS``.

    ``status`` is finished when every attempt and every evaluation is; ``judged_by`` is the ensemble whose
    members judge first; ``evaluators`` stand after each evaluation's uid; ``command`` makes the attack again.

    Raises:
        UnknownNameError, UsageError: see :func:`jsdelta_db.queries.selection.list_evaluations`.
    """
    facts, models = _find_facts(reader, EVERYTHING)
    chosen = facts if selection == EVERYTHING else _find_facts(reader, selection)[0]
    found = (dict(zip(OF_ATTACK, row, strict=True)) for row in fetch(reader, ATTACKS))
    rows = {row["id"]: row for row in found if row["id"] in chosen}
    members = dict(fetch(reader, MEMBERS))
    for attack_id, row in rows.items():
        _describe(row, facts[attack_id], models, members)
    _add_progress(reader, rows)
    _add_evaluations(reader, rows)
    for attack_id, passed, count in fetch(reader, CONTROLS):
        if attack_id in rows:
            rows[attack_id]["controls_passed" if passed else "controls_failed"] = int(count)
    return [{key: _joined(row[key]) for key in FACT_KEYS} for row in rows.values()]


def explain_no_attack(reader: Reader, selection: Selection) -> str:
    """Return which condition of a selection left no attack; "" if none was given."""
    return select_rows(reader, selection, with_unfinished=True)[1]


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


def _describe(row: Row, facts: Facts, models: Mapping[int, ModelInfo], members: Mapping[int, int]) -> None:
    """Complete an attack's row, but for its progress and evaluations, which begin at nothing.

    Args:
        facts: of its first evaluation.
        members: how many each ensemble has.
    """
    held_back = [models[model_id] for model_id in facts["surrogates"]]
    row |= {key: facts[key] for key in ("attacked_ensemble", "judged_by", "trained_on")}
    row |= {
        "command": as_command(facts, row["attack_by"], held_back, members.get(facts["judged_by_id"], 0)),
        "surrogates": [model.label for model in held_back],
        "attacked": models[facts["attacked_id"]].label,
        "created_at": _as_text(row["created_at"]), "finished_at": _as_text(row["finished_at"]),
        "random_start": bool(row["random_start"]), "attack_by": _as_json(row["attack_by"]),
        "attempts_done": 0, "status": FINISHED, "card": None, "evaluations": [], "evaluators": [],
        "controls_passed": 0, "controls_failed": 0,
    }  # fmt: skip


def _find_facts(reader: Reader, selection: Selection) -> tuple[dict[int, Facts], Mapping[int, ModelInfo]]:
    """Return the facts of a selection's attacks with their first evaluation, by the attack's id."""
    found, _, models = select_rows(reader, selection, with_unfinished=True)
    tell_apart(found)
    return {row["attack_id"]: row for row in reversed(found)}, models


def _add_progress(reader: Reader, rows: dict[int, Row]) -> None:
    for attack_id, status, count, card in fetch(reader, CHUNKS):
        if attack_id not in rows:
            continue
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
    for attack_id, uid, status in fetch(reader, EVALUATIONS):
        if attack_id not in rows:
            continue
        row = rows[attack_id]
        row["evaluations"].append(uid)
        row["evaluators"].append(f"{uid[:8]}: {', '.join(evaluators.get(uid, []))}")
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
