"""Ensembles: the finished ones, with their members' mean accuracies and agreement."""

from collections.abc import Sequence
from typing import Any

from jsdelta_db.errors import UnknownNameError
from jsdelta_db.store.constants import AGREEMENT, FINISHED, ROBUST_ACCURACY, agreement_key
from jsdelta_db.store.naming import ambiguous, match_ensembles
from jsdelta_db.store.reading import Reader, fetch

ENSEMBLE_KEYS = (
    "name", "uid", "method", "dataset", "members", "clean_accuracy", "robust_accuracy", "robust_norm",
    "robust_eps", "agreement",
)  # fmt: skip
OF_ENSEMBLE = ("ensemble", "uid", "dataset")
MEMBER_KEYS = (
    *OF_ENSEMBLE, "position", "model", "name", "seed", "architecture", "method", "clean_accuracy",
    "sharpness",
)  # fmt: skip

ENSEMBLES = f"""
SELECT ensemble.id, ensemble.name, ensemble.uid, dataset.name
FROM ensemble JOIN dataset ON dataset.id = ensemble.dataset_id
WHERE ensemble.status = '{FINISHED}'
ORDER BY ensemble.id
"""  # noqa: S608 a constant
UNFINISHED = f"SELECT count(*) FROM ensemble WHERE status <> '{FINISHED}'"  # noqa: S608 a constant
MEMBERS = """
SELECT ensemble_member.ensemble_id, model.id, model.uid, model.method, model.clean_accuracy
FROM ensemble_member JOIN model ON model.id = ensemble_member.model_id
ORDER BY ensemble_member.ensemble_id, ensemble_member.position
"""
ROBUST = f"""
SELECT model_id, norm, eps, steps, value FROM model_metric
WHERE name = '{ROBUST_ACCURACY}' AND split = 'attack'
"""  # noqa: S608 a constant
AGREEMENTS = f"""
SELECT model_id, name, value FROM model_metric WHERE name LIKE '{AGREEMENT}%' AND split = 'attack'
"""  # noqa: S608 a constant

OF_ONE = """
SELECT ensemble_member.position, model.uid, model.name, model.seed, model.architecture, model.method,
       model.clean_accuracy, model.sharpness
FROM ensemble_member JOIN model ON model.id = ensemble_member.model_id
WHERE ensemble_member.ensemble_id = :ensemble_id
ORDER BY ensemble_member.position
"""

Check = tuple[str, float, int]  # norm, ε and steps of an attack
Member = tuple[int, str, str, float | None]  # id, uid, method, clean accuracy


def query_ensembles(reader: Reader) -> list[dict[str, Any]]:
    """Return the finished ensembles, oldest first; accuracies and agreement are means over the members.

    A mean is None where not every member, or not every pair of members, was measured.
    """
    members: dict[int, list[Member]] = {}
    for ensemble_id, *facts in fetch(reader, MEMBERS):
        members.setdefault(ensemble_id, []).append((facts[0], facts[1], facts[2], facts[3]))
    robust: dict[int, dict[Check, float]] = {}
    for model_id, norm, eps, steps, value in fetch(reader, ROBUST):
        robust.setdefault(model_id, {})[norm, eps, steps] = value
    agreements = {(model_id, name): value for model_id, name, value in fetch(reader, AGREEMENTS)}
    rows = []
    for ensemble_id, name, uid, dataset in fetch(reader, ENSEMBLES):
        found = members.get(ensemble_id, [])
        methods = ", ".join(sorted({method for _, _, method, _ in found}))
        measured = _mean_robust([robust.get(model_id, {}) for model_id, _, _, _ in found])
        values = (
            name, uid, methods, dataset, len(found), _mean([accuracy for *_, accuracy in found]), *measured,
            _mean_agreement(found, agreements),
        )  # fmt: skip
        rows.append(dict(zip(ENSEMBLE_KEYS, values, strict=True)))
    return rows


def query_members(reader: Reader, reference: str) -> list[dict[str, Any]]:
    """Return the members of a finished ensemble, in their order.

    Args:
        reference: its name, or the start of its uid.

    Raises:
        UnknownNameError: there is none.
        UsageError: it means several.
    """
    ensembles = fetch(reader, ENSEMBLES)
    found = match_ensembles(
        reference, [(name, uid, (key, name, uid, dataset)) for key, name, uid, dataset in ensembles]
    )
    if not found:
        raise UnknownNameError("ensemble", reference, dict.fromkeys(name for _, name, _, _ in ensembles))
    if len(found) > 1:
        raise ambiguous("ensemble", reference, (uid for _, _, uid, _ in found))
    key, name, uid, dataset = found[0]
    return [
        dict(zip(MEMBER_KEYS, (name, uid, dataset, *facts), strict=True))
        for facts in fetch(reader, OF_ONE, ensemble_id=key)
    ]


def count_unfinished_ensembles(reader: Reader) -> int:
    """Return how many ensembles are not finished."""
    ((count,),) = fetch(reader, UNFINISHED)
    return int(count)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if values and len(known) == len(values) else None


def _mean_robust(
    members: Sequence[dict[Check, float]],
) -> tuple[float | None, str | None, float | None]:
    """Return mean robust accuracy, norm and ε of the attack that all members were measured under."""
    common = set.intersection(*(set(each) for each in members)) if members else set()
    if not common:
        return None, None, None
    check = min(common)
    return _mean([each[check] for each in members]), check[0], check[1]


def _mean_agreement(members: Sequence[Member], agreements: dict[tuple[int, str], float]) -> float | None:
    keys = [(model_id, uid) for model_id, uid, _, _ in members]
    pairs = [(one, other) for position, one in enumerate(keys) for other in keys[position + 1 :]]
    return _mean([find_agreement(one, other, agreements) for one, other in pairs])


def find_agreement(
    one: tuple[int, str], other: tuple[int, str], agreements: dict[tuple[int, str], float]
) -> float | None:
    """Return the stored agreement of two models, given by id and uid; None without one."""
    # Earlier versions stored the row with the model of the lower id.
    keys = (agreement_key(one, other), (one[0], AGREEMENT + other[1]), (other[0], AGREEMENT + one[1]))
    return next((agreements[key] for key in keys if key in agreements), None)
